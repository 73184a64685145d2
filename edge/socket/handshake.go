package socket

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // RFC 6455 §4.2.2 demands it; it protects nothing
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"reecho/edge/limit"
)

// acmeProtocol is what certificate authorities speak that validate a name, if Config.TLS
// answers them (RFC 8737 §6.2).
const acmeProtocol = "acme-tls/1"

// tlsHandshakeByte is the first byte of a TLS connection; no HTTP method
// begins with it.
const tlsHandshakeByte = 0x16

// headReadBytes is what a connection's first bytes are read into; it grows up
// to Config.MaxHeaderBytes.
const headReadBytes = 2 << 10

// handshakeBurst is how many seconds of an address's handshakes may come at
// once: after a restart all clients come back, and those of an office or behind
// a proxy that is not trusted share an address.
const handshakeBurst = 10

// crowdTimeout bounds the handshake, and the body of the one request, of a
// connection for which there is no room.
const crowdTimeout = 2 * time.Second

// acceptGUID is appended to the key (RFC 6455 §1.3).
const acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// opening is the scratch memory of one connection's first request.
type opening struct {
	buf    []byte
	fields []field
	out    []byte
}

var openings = sync.Pool{New: func() any {
	return &opening{buf: make([]byte, 0, headReadBytes), fields: make([]field, 0, 32), out: make([]byte, 0, 256)}
}}

func newOpening() *opening {
	o, _ := openings.Get().(*opening)
	o.buf = o.buf[:0]
	return o
}

func (o *opening) release() {
	if cap(o.buf) > 8*headReadBytes {
		return
	}
	clear(o.fields[:cap(o.fields)])
	openings.Put(o)
}

// discard takes the first n bytes off.
func (o *opening) discard(n int) {
	if n > 0 {
		o.buf = o.buf[:copy(o.buf, o.buf[n:])]
	}
}

// fill reads more, up to limit bytes in all.
func (o *opening) fill(conn net.Conn, limit int) error {
	if len(o.buf) >= limit {
		return tooLarge(limit)
	}
	if len(o.buf) == cap(o.buf) {
		grown := make([]byte, len(o.buf), 2*cap(o.buf))
		copy(grown, o.buf)
		o.buf = grown
	}
	n, err := conn.Read(o.buf[len(o.buf):min(cap(o.buf), limit)])
	o.buf = o.buf[:len(o.buf)+n]
	if n > 0 {
		return nil
	}
	return err
}

// incoming is a connection whose next request is being read.
type incoming struct {
	server *Server
	conn   net.Conn // speaks plaintext: raw, or TLS over it
	raw    net.Conn
	peer   origin // who opened it
	tuned  bool   // the listener has set our socket options
	// crowded says that there are too many connections. The next request is the
	// last.
	crowded bool
	// counted says that the TLS handshake was one of the peer's per second.
	counted bool
}

// refusal is what a client is told when there is no room for it, else "".
func (in *incoming) refusal() string {
	switch refuse := in.server.cfg.Refuse; {
	case in.crowded:
		return in.server.places.reason
	case refuse != nil:
		return refuse()
	}
	return ""
}

// renewDeadline begins the time for a handshake.
func (s *Server) renewDeadline(in *incoming) error {
	timeout := s.cfg.HandshakeTimeout
	if in.crowded {
		timeout = min(timeout, crowdTimeout)
	}
	return in.raw.SetDeadline(time.Now().Add(timeout)) //nolint:wrapcheck // a net.Conn's own errors
}

// open finds out what a new connection is: TLS, a client's upgrade or other
// HTTP, and hands it on. The connection is closed or owned by somebody else on
// return.
func (s *Server) open(in *incoming) {
	o := newOpening()
	err := s.renewDeadline(in)
	if err == nil {
		err = s.begin(in, o)
	}
	if err != nil {
		if s.worthSaying(err, in) {
			s.log.Warn("cannot serve a connection of a trusted proxy", slog.Any("remote", in.raw.RemoteAddr()), slog.Any("error", err))
		}
		s.countRefusal(err)
		s.log.Debug("connection ended before a request", slog.Any("remote", in.raw.RemoteAddr()), slog.Any("error", err))
		o.release()
		s.drop(in.raw)
		return
	}
	if o.buf[0] == tlsHandshakeByte {
		if in.conn = s.secure(in, o); in.conn == nil {
			s.drop(in.raw)
			return
		}
		o = newOpening()
	}
	s.route(in, o)
}

// begin reads the first bytes of a connection, and finds out who opened it.
func (s *Server) begin(in *incoming, o *opening) error {
	in.peer.addr = remoteAddr(in.raw).Addr()
	if s.cfg.ProxyProtocol && s.cfg.TrustedProxies.trust(in.peer.addr) {
		peer, err := readProxyHeader(in.raw, o, in.peer)
		if err != nil {
			return err
		}
		in.peer = peer
	}
	if len(o.buf) == 0 {
		return o.fill(in.raw, headReadBytes)
	}
	return nil
}

// worthSaying reports whether err is a proxy's set-up at odds with ours, of
// which one line a minute for each proxy is logged.
func (s *Server) worthSaying(err error, in *incoming) bool {
	return (errors.Is(err, errNoProxyHeader) || errors.Is(err, errBadProxyHeader)) &&
		s.complaints.Take(remoteAddr(in.raw).Addr(), 60, 1, 60, time.Now())
}

// secure does the TLS handshake, of which o has the beginning. It releases o.
// nil: it failed.
func (s *Server) secure(in *incoming, o *opening) net.Conn {
	if s.cfg.TLS == nil || !s.admitTLS(in) {
		o.release()
		return nil
	}
	conn := tls.Server(&replayConn{Conn: in.raw, o: o}, s.cfg.TLS)
	if err := conn.Handshake(); err != nil { //nolint:noctx // raw has a deadline, and Shutdown closes it
		s.countRefusal(err)
		s.log.Debug("TLS handshake failed", slog.Any("remote", in.raw.RemoteAddr()), slog.Any("error", err))
		return nil
	}
	if conn.ConnectionState().NegotiatedProtocol == acmeProtocol {
		return nil // the handshake was all (RFC 8737 §4)
	}
	in.peer.secure = true
	return conn
}

// admitTLS counts a TLS handshake, which is what costs most of one. Those of a
// trusted proxy are counted later, by whom they are for.
func (s *Server) admitTLS(in *incoming) bool {
	if s.cfg.TrustedProxies.trust(in.peer.addr) {
		return true
	}
	in.counted = true
	return s.admit(in.peer.addr)
}

// admit counts a handshake of an address, and reports whether it may go on.
func (s *Server) admit(client netip.Addr) bool {
	if s.handshakes.Take(client, 1, s.cfg.HandshakesPerSecond, handshakeBurst*s.cfg.HandshakesPerSecond, time.Now()) {
		return true
	}
	s.cfg.Ledger.Note(limit.Handshakes, slog.String("client", limit.Address(client).String()))
	return false
}

func (s *Server) tooManyHandshakes() string {
	return fmt.Sprintf("More than %d connections a second from one address, the server's handshakes_per_second", s.cfg.HandshakesPerSecond)
}

// route reads the next request head and hands the connection on, together with
// o, which holds what was read.
func (s *Server) route(in *incoming, o *opening) {
	size, err := readHead(in.conn, o, s.cfg.MaxHeaderBytes)
	var h head
	if err == nil {
		h, err = parseHead(o.buf[:size], o.fields)
	}
	upgrade, b := false, body{}
	if err == nil {
		upgrade, b, err = s.judge(&h)
	}
	switch {
	case err != nil:
		s.refuse(in, o, err)
	case !upgrade:
		s.serveHTTP(in, o, size, b)
	default:
		s.routeUpgrade(in, o, size, &h)
	}
}

func (s *Server) routeUpgrade(in *incoming, o *opening, size int, h *head) {
	client := s.cfg.TrustedProxies.client(in.peer, h.values)
	if !in.counted && !s.admit(client.addr) {
		s.refuse(in, o, reject(http.StatusTooManyRequests, s.tooManyHandshakes()))
		return
	}
	in.counted = false
	if in.crowded && s.places.packed() {
		// To say it in a frame takes the time of a closing handshake.
		s.refuse(in, o, reject(http.StatusServiceUnavailable, in.refusal()))
		return
	}
	key, err := h.checkUpgrade()
	if err == nil {
		s.upgrade(&upgrade{incoming: in, opening: o, request: newRequest(in, h, client), rest: o.buf[size:]}, h, key)
		return
	}
	if in.crowded || !h.keepsAlive() {
		s.refuse(in, o, err)
		return
	}
	if !answer(in, o, err, false) {
		o.release()
		s.drop(in.raw)
		return
	}
	o.discard(size)
	s.serveHTTP(in, o, 0, body{})
}

// keepsAlive reports whether more requests may follow one without a body.
func (h *head) keepsAlive() bool {
	length, chunked, err := h.bodyLength()
	return err == nil && length == 0 && !chunked && string(h.proto) == "HTTP/1.1" && !h.hasToken("Connection", "close")
}

// judge decides on a request by its head: whether it is for the acceptor, how
// its body ends if not, and whether it is one at all. Stricter than net/http
// where leniency could let a proxy in front see another request than we do.
func (s *Server) judge(h *head) (upgrade bool, b body, err error) {
	if proto := string(h.proto); proto != "HTTP/1.1" && proto != "HTTP/1.0" {
		return false, body{}, reject(http.StatusHTTPVersionNotSupported, "This port speaks HTTP/1.1")
	}
	if _, n := h.get("Host"); n > 1 || n == 0 && string(h.proto) == "HTTP/1.1" {
		return false, body{}, reject(http.StatusBadRequest, "There must be exactly one Host header")
	}
	length, chunked, err := h.bodyLength()
	if err != nil {
		return false, body{}, err
	}
	return s.serves(h) && h.isUpgrade(), newBody(length, chunked), nil
}

// readHead reads until o has a complete request head of up to limit bytes, and
// returns its size. What does not begin with a request line is refused at once.
func readHead(conn net.Conn, o *opening, limit int) (size int, err error) {
	line, checked := false, 0
	for {
		if !line && bytes.IndexByte(o.buf[checked:], '\n') >= 0 {
			first, _ := cutLine(o.buf)
			if _, line = parseRequestLine(first); !line {
				return 0, reject(http.StatusBadRequest, "Malformed request line")
			}
			checked = 0
		}
		if line {
			size = headEnd(o.buf, checked)
		}
		switch {
		case size > limit:
			return 0, tooLarge(limit)
		case size > 0:
			return size, nil
		}
		checked = len(o.buf)
		if err := o.fill(conn, limit); err != nil {
			return 0, err
		}
	}
}

// serves reports whether a request may be that of a client's upgrade.
func (s *Server) serves(h *head) bool {
	if string(h.method) != http.MethodGet {
		return false
	}
	path, _, ok := splitTarget(h.target)
	return ok && s.acceptor.Serves(path)
}

// upgrade is a client's connection on its way to a transport.
type upgrade struct {
	*incoming
	*opening
	request *Request // its Header needs the opening
	rest    []byte   // what came behind the request; part of the opening
	// deflated says that permessage-deflate is negotiated.
	deflated bool
}

// upgrade answers the opening handshake and gives the connection to a
// transport.
func (s *Server) upgrade(u *upgrade, h *head, key []byte) {
	u.out = appendSwitching(u.out[:0], key, h.subprotocol(), s.negotiate(u, h))
	if _, err := u.conn.Write(u.out); err != nil {
		u.release()
		s.drop(u.raw)
		return
	}
	s.forget(u.raw)
	if u.conn != u.raw || s.pollers == nil || !s.pollers.adopt(u) {
		s.serveStream(u)
	}
}

func newRequest(in *incoming, h *head, client origin) *Request {
	path, query, _ := splitTarget(h.target)
	return &Request{
		Path: path, RawQuery: query,
		Host: h.text("Host"), Origin: h.text("Origin"), UserAgent: h.text("User-Agent"),
		Header: h.text, Remote: remoteAddr(in.raw), Client: client.addr,
		TLS: in.conn != in.raw, Secure: client.secure, Refusal: in.refusal(),
	}
}

func remoteAddr(conn net.Conn) netip.AddrPort {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		a := tcp.AddrPort()
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	return netip.AddrPort{}
}

// appendSwitching appends the 101 response. extension answers what was offered, ""
// declines it.
func appendSwitching(dst, key, subprotocol []byte, extension string) []byte {
	var text [24 + len(acceptGUID)]byte
	sum := sha1.Sum(append(append(text[:0], key...), acceptGUID...)) //nolint:gosec // see the import
	dst = append(dst, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	dst = base64.StdEncoding.AppendEncode(dst, sum[:])
	if subprotocol != nil {
		dst = append(dst, "\r\nSec-WebSocket-Protocol: "...)
		dst = append(dst, subprotocol...)
	}
	if extension != "" {
		dst = append(dst, "\r\nSec-WebSocket-Extensions: "...)
		dst = append(dst, extension...)
	}
	return append(dst, "\r\n\r\n"...)
}
