package socket

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
)

// maxHeaderLines bounds the fields of a request head. Browsers send about
// fifteen, proxies add a handful and pass on a hundred at most: that is where
// Apache (LimitRequestFields) and HAProxy (tune.http.maxhdr) stop themselves.
const maxHeaderLines = 100

// subprotocolPrefix is how the subprotocols begin that Pusher clients offer
// (PROTOCOL §1.1).
const subprotocolPrefix = "pusher-channels-protocol-"

// head is a parsed request head. Everything in it aliases the bytes it was
// parsed from.
type head struct {
	method, target, proto []byte
	fields                []field
}

type field struct{ name, value []byte }

// headEnd returns the length of the request head at the beginning of data, the
// blank line included, or 0 when it is incomplete. The first from bytes are
// known not to contain the end.
func headEnd(data []byte, from int) int {
	for at := max(0, from-2); ; {
		i := bytes.IndexByte(data[at:], '\n')
		if i < 0 {
			return 0
		}
		at += i + 1
		rest := data[at:]
		if len(rest) > 0 && rest[0] == '\n' {
			return at + 1
		}
		if len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n' {
			return at + 2
		}
	}
}

// cutLine takes the first line off data, without its CR LF or LF.
func cutLine(data []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(data, []byte{'\n'})
	return bytes.TrimSuffix(line, []byte{'\r'}), rest
}

// parseRequestLine splits "GET /path HTTP/1.1".
func parseRequestLine(line []byte) (h head, ok bool) {
	method, rest, found := bytes.Cut(line, []byte{' '})
	target, proto, found2 := bytes.Cut(rest, []byte{' '})
	ok = found && found2 && isToken(method) && isTarget(target) && bytes.HasPrefix(proto, []byte("HTTP/"))
	return head{method: method, target: target, proto: proto}, ok
}

// isTarget reports whether b has nothing in it that ends a target, or a line,
// for somebody else.
func isTarget(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c == 0x7f {
			return false
		}
	}
	return len(b) > 0
}

// parseHead parses a complete request head. Stricter than net/http where
// leniency could let a proxy in front see another request than we do.
func parseHead(data []byte, fields []field) (head, error) {
	line, rest := cutLine(data)
	h, ok := parseRequestLine(line)
	if !ok {
		return h, reject(http.StatusBadRequest, "Malformed request line")
	}
	h.fields = fields[:0]
	for {
		line, rest = cutLine(rest)
		if len(line) == 0 {
			return h, nil
		}
		if len(h.fields) == maxHeaderLines {
			return h, reject(http.StatusRequestHeaderFieldsTooLarge,
				fmt.Sprintf("The request has more than %d header lines", maxHeaderLines))
		}
		name, value, found := bytes.Cut(line, []byte{':'})
		value = bytes.Trim(value, " \t")
		if !found || !isToken(name) || !isFieldValue(value) {
			return h, reject(http.StatusBadRequest, "Malformed header line")
		}
		h.fields = append(h.fields, field{name: name, value: value})
	}
}

// isToken implements RFC 9110 §5.6.2.
func isToken(b []byte) bool {
	for _, c := range b {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return len(b) > 0
}

func isFieldValue(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// get returns the first value of a field and how many there are.
func (h *head) get(name string) (value []byte, count int) {
	for i := range h.fields {
		if len(h.fields[i].name) != len(name) || !strings.EqualFold(string(h.fields[i].name), name) {
			continue
		}
		if count == 0 {
			value = h.fields[i].value
		}
		count++
	}
	return value, count
}

// values returns all values of a field, in order.
func (h *head) values(name string) []string {
	var all []string
	for i := range h.fields {
		if len(h.fields[i].name) == len(name) && strings.EqualFold(string(h.fields[i].name), name) {
			all = append(all, string(h.fields[i].value))
		}
	}
	return all
}

// text is get for those who take the first value.
func (h *head) text(name string) string {
	value, _ := h.get(name)
	return string(value)
}

// hasToken reports whether a comma-separated list in any field called name
// contains token.
func (h *head) hasToken(name, token string) bool {
	found := false
	h.eachToken(name, func(t []byte) bool {
		found = len(t) == len(token) && strings.EqualFold(string(t), token)
		return !found
	})
	return found
}

// eachToken calls use with the elements of all fields called name until it
// returns false.
func (h *head) eachToken(name string, use func([]byte) bool) {
	for _, f := range h.fields {
		if len(f.name) != len(name) || !strings.EqualFold(string(f.name), name) {
			continue
		}
		for list := f.value; len(list) > 0; {
			var element []byte
			element, list, _ = bytes.Cut(list, []byte{','})
			if element = bytes.Trim(element, " \t"); len(element) > 0 && !use(element) {
				return
			}
		}
	}
}

// isUpgrade reports whether the client wants WebSocket.
func (h *head) isUpgrade() bool { return h.hasToken("Upgrade", "websocket") }

// checkUpgrade judges the opening handshake (RFC 6455 §4.2.1) of a request that
// checkRequest let pass, and returns its key. Extension offers, also malformed
// ones, are no reason to refuse it: see negotiate.
func (h *head) checkUpgrade() (key []byte, err error) {
	if string(h.proto) != "HTTP/1.1" {
		return nil, reject(http.StatusHTTPVersionNotSupported,
			"WebSocket needs HTTP/1.1; in nginx set proxy_http_version 1.1")
	}
	if host, n := h.get("Host"); n != 1 || len(host) == 0 {
		return nil, reject(http.StatusBadRequest, "There must be exactly one Host header")
	}
	if !h.hasToken("Connection", "upgrade") {
		return nil, reject(http.StatusBadRequest,
			"The header Connection: Upgrade is missing beside Upgrade: websocket; a proxy in between must pass on both, "+
				"in nginx with proxy_set_header Upgrade $http_upgrade and proxy_set_header Connection \"upgrade\"")
	}
	if version, n := h.get("Sec-WebSocket-Version"); n != 1 || string(version) != "13" {
		return nil, reject(http.StatusUpgradeRequired, "Sec-WebSocket-Version must be 13")
	}
	if length, chunked, err := h.bodyLength(); err != nil || chunked || length > 0 {
		return nil, reject(http.StatusBadRequest, "An upgrade must not have a body")
	}
	key, n := h.get("Sec-WebSocket-Key")
	var nonce [18]byte
	if n == 1 && len(key) == 24 {
		if size, err := base64.StdEncoding.Strict().Decode(nonce[:], key); err == nil && size == 16 {
			return key, nil
		}
	}
	return nil, reject(http.StatusBadRequest, "There must be one Sec-WebSocket-Key of 16 bytes in base64")
}

// subprotocol returns the first offered one that is Pusher's, or nil.
func (h *head) subprotocol() []byte {
	var chosen []byte
	h.eachToken("Sec-WebSocket-Protocol", func(t []byte) bool {
		if bytes.HasPrefix(t, []byte(subprotocolPrefix)) && isToken(t) {
			chosen = t
		}
		return chosen == nil
	})
	return chosen
}
