package app

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// Origin is a pattern for the Origin header of browsers (RFC 6454):
// [scheme://]host[:port], where * in the host is any run of characters. A
// pattern without a scheme is one for all of them; one with neither scheme nor
// port is for all ports, as in Reverb. With a scheme it is an origin, so that
// no port is the scheme's own; port * is any. * alone allows all, null what
// browsers call a page without an origin. It is immutable.
type Origin struct {
	text   string
	all    bool     // *
	scheme string   // lower case; "" for any
	parts  []string // of the host, in Unicode, between its *
	port   int      // anyPort, or noPort for a scheme that has none
}

const (
	anyPort = -1
	noPort  = 0
)

// originNull is the origin of a page that has none.
const originNull = "null"

// hostless tells whether origins of a scheme may have no host, file:// or app://:
// what web views send for pages in files and in the app itself.
func hostless(scheme string) bool { return scheme != "" && scheme != "http" && scheme != "https" }

// String returns the pattern as it was written.
func (o Origin) String() string { return o.text }

// Equal tells whether two patterns are written alike.
func (o Origin) Equal(other Origin) bool { return o.text == other.text }

// AllowsOrigin tells whether a browser's page may use the app: whether its
// Origin matches one of AllowedOrigins, or there are none. Clients that are no
// browsers send no Origin; those that could lie about it are not held back by
// the check either, so an empty one passes. It takes time linear in the
// header for each pattern.
func (a *App) AllowsOrigin(header string) bool {
	if len(a.AllowedOrigins) == 0 || header == "" {
		return true
	}
	origin, ok := splitOrigin(header)
	return slices.ContainsFunc(a.AllowedOrigins, func(o Origin) bool {
		return o.all || ok && o.matches(origin)
	})
}

func (o Origin) matches(origin originParts) bool {
	return (o.scheme == "" || o.scheme == origin.scheme) &&
		(o.port == anyPort || o.port == origin.port) &&
		matchParts(o.parts, origin.host)
}

// matchParts matches a text with literal parts that have anything in between.
// Taking each part where it is found first is enough, so nothing is tried twice.
func matchParts(parts []string, text string) bool {
	first, last := parts[0], parts[len(parts)-1]
	if len(parts) == 1 {
		return text == first
	}
	if len(text) < len(first)+len(last) || !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) {
		return false
	}
	text = text[len(first) : len(text)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return true
}

// originParts is an Origin header in normal form.
type originParts struct {
	scheme, host string
	port         int
}

// maxOrigin bounds what is looked at of a header. A host has at most 253
// characters.
const maxOrigin = 1024 // bytes

func splitOrigin(header string) (originParts, bool) {
	if strings.EqualFold(header, originNull) {
		return originParts{scheme: originNull}, true
	}
	scheme, rest, found := strings.Cut(header, "://")
	if !found || len(header) > maxOrigin || strings.Contains(rest, "@") {
		return originParts{}, false
	}
	o := originParts{scheme: strings.ToLower(scheme)}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		// No browser sends a path; some clients send a slash.
		rest = rest[:i]
	}
	host, port, err := splitPort(rest)
	if err != nil || port == "*" {
		return originParts{}, false
	}
	if o.port = defaultPort(o.scheme); port != "" {
		if o.port, err = parsePort(port); err != nil {
			return originParts{}, false
		}
	}
	o.host = hostText(host)
	return o, host != "" || hostless(o.scheme)
}

// hostText is the normal form of a host: an address as netip prints it, a name
// in Unicode. What is neither stays as it is, in lower case.
func hostText(host string) string {
	if inner, is := strings.CutPrefix(host, "["); is {
		if address, err := netip.ParseAddr(strings.TrimSuffix(inner, "]")); err == nil {
			return "[" + address.String() + "]"
		}
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if plainASCII(host) && !strings.Contains(host, "xn--") {
		return host
	}
	if name, err := names.ToUnicode(host); err == nil {
		return name
	}
	return host
}

func plainASCII(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf })
}

// names maps names of hosts as browsers do (UTS 46, not transitional). They
// allow an underscore, and hyphens anywhere.
var names = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false), idna.CheckHyphens(false))

func defaultPort(scheme string) int {
	switch scheme {
	case "http":
		return 80
	case "https":
		return 443
	}
	return noPort
}

// ParseOrigins reads patterns. The error names each that can match no Origin,
// with what to write.
func ParseOrigins(patterns ...string) ([]Origin, error) {
	var origins []Origin
	var problems []string
	for _, text := range patterns {
		o, err := parseOrigin(text)
		if err != nil {
			problems = append(problems, fmt.Sprintf("%.80q never matches: %v", text, err))
			continue
		}
		origins = append(origins, o)
	}
	if len(problems) > 0 {
		return origins, errors.New(strings.Join(problems, "; "))
	}
	return origins, nil
}

func parseOrigin(text string) (Origin, error) {
	o := Origin{text: text, port: anyPort}
	switch {
	case text == "*":
		o.all = true
		return o, nil
	case strings.EqualFold(text, originNull):
		o.scheme, o.parts = originNull, []string{""}
		return o, nil
	}
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		scheme, rest = "", text
	} else if err := checkScheme(scheme); err != nil {
		return o, err
	}
	if o.scheme = strings.ToLower(scheme); scheme == "*" {
		o.scheme = ""
	}
	rest = strings.TrimSuffix(rest, "/")
	if err := checkRest(rest, o.scheme); err != nil {
		return o, err
	}
	host, port, err := splitPort(rest)
	if err != nil {
		return o, err
	}
	switch {
	case port == "*":
	case port != "":
		if o.port, err = parsePort(port); err != nil {
			return o, err
		}
	case o.scheme != "":
		o.port = defaultPort(o.scheme)
	}
	o.parts, err = parseHost(host, o.scheme)
	return o, err
}

func checkScheme(scheme string) error {
	lower := strings.ToLower(scheme)
	switch {
	case lower == "*":
		return nil
	case lower == "ws" || lower == "wss":
		return fmt.Errorf("an Origin is that of the page: write %s://", strings.Replace(lower, "ws", "http", 1))
	case lower == "" || strings.Trim(lower, "abcdefghijklmnopqrstuvwxyz0123456789+-.") != "":
		return errors.New("what stands before :// is no scheme: write https://, or leave it out for all")
	}
	return nil
}

// checkRest looks for what stands in no origin, in what is behind the scheme.
func checkRest(rest, scheme string) error {
	switch {
	case strings.ContainsFunc(rest, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return errors.New("it holds a blank or a control character")
	case strings.Contains(rest, "@"):
		return errors.New("an origin has no user: leave out all up to the @")
	case strings.ContainsAny(rest, "/?#"):
		return errors.New("an origin has no path and no query: write the host alone, like example.com or https://example.com")
	case rest == "" && !hostless(scheme):
		return errors.New("the host is missing: write one like example.com, or * for all")
	}
	return nil
}

// splitPort splits HOST:PORT and [ADDRESS]:PORT; the port may be missing.
func splitPort(text string) (host, port string, err error) {
	end := strings.IndexByte(text, ']')
	bracketed := strings.HasPrefix(text, "[")
	if bracketed && end < 0 {
		return "", "", errors.New("the ] of the address is missing")
	}
	if !bracketed {
		if strings.Count(text, ":") > 1 {
			return "", "", errors.New("it has several colons: write an IPv6 address in brackets, like [::1] or [::1]:3000")
		}
		end = -1
	}
	host, rest := text[:end+1], text[end+1:]
	if !bracketed {
		i := strings.IndexByte(text, ':')
		if i < 0 {
			return text, "", nil
		}
		host, rest = text[:i], text[i:]
	}
	if rest == "" {
		return host, "", nil
	}
	port, colon := strings.CutPrefix(rest, ":")
	if !colon || port == "" {
		return "", "", errors.New("the port is missing: write one, * for all, or leave out the colon")
	}
	return host, port, nil
}

func parsePort(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("the port should be a number from 1 to 65535, or * for all")
	}
	return int(n), nil
}

// dots are what browsers read as a dot between the parts of a name.
var dots = strings.NewReplacer("\u3002", ".", "\uff0e", ".", "\uff61", ".")

// parseHost returns the literal parts of a host between its *.
func parseHost(host, scheme string) ([]string, error) {
	if strings.HasPrefix(host, "[") {
		return parseAddress(host)
	}
	if host == "" && !hostless(scheme) {
		return nil, errors.New("the host is missing: write one like example.com, or * for all")
	}
	host = dots.Replace(host)
	if host == "." && !hostless(scheme) || strings.HasSuffix(host, "*.") {
		return nil, errors.New("it ends with a lone dot: write a host like example.com, or * for all")
	}
	host = strings.TrimSuffix(host, ".")
	labels := strings.Split(host, ".")
	for i, label := range labels {
		if host == "" {
			break
		}
		var err error
		if labels[i], err = parseLabel(label, host); err != nil {
			return nil, err
		}
	}
	if err := checkNumeric(host, labels); err != nil {
		return nil, err
	}
	if host = strings.Join(labels, "."); len(host) > 253 {
		return nil, errors.New("a host has at most 253 characters")
	}
	return strings.Split(host, "*"), nil
}

// parseLabel returns the normal form of a label of a name.
func parseLabel(label, host string) (string, error) {
	if label == "" {
		if strings.HasPrefix(host, ".") {
			return "", errors.New("it begins with a dot: write *. for all names below")
		}
		return "", errors.New("it has two dots in a row")
	}
	for _, r := range label {
		if r < utf8.RuneSelf && r != '*' && r != '-' && r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return "", fmt.Errorf("%q is in no name of a host; * is the one character that stands for others", r)
		}
	}
	if strings.Contains(label, "*") {
		label = norm.NFC.String(strings.ToLower(label))
		if strings.HasPrefix(label, "xn--") {
			return "", errors.New("write the part that begins with xn-- in its own letters, for the * to have a meaning")
		}
		return label, nil
	}
	name, err := names.ToUnicode(label)
	if err == nil {
		var ascii string
		if ascii, err = names.ToASCII(label); len(ascii) > 63 {
			return "", errors.New("a part of a name between dots has at most 63 characters")
		}
	}
	if err != nil || strings.ContainsAny(name, ". ") {
		return "", errors.New("it is no name that a host can have")
	}
	return name, nil
}

// checkNumeric refuses what looks like an IPv4 address and is none: browsers
// take a name whose last part is a number for an address.
func checkNumeric(host string, labels []string) error {
	if last := labels[len(labels)-1]; last == "" || !isNumber(last) {
		return nil
	}
	_, err := netip.ParseAddr(host)
	possible := err == nil
	if strings.Contains(host, "*") {
		possible = len(labels) <= 4 && !slices.ContainsFunc(labels, func(label string) bool {
			n, err := strconv.Atoi(label)
			return isNumber(label) && (err != nil || n > 255)
		})
	}
	if !possible {
		return errors.New("it ends with a number and is no IPv4 address like 192.168.1.10 (or 192.168.1.*)")
	}
	return nil
}

func isNumber(text string) bool { return strings.Trim(text, "0123456789") == "" }

// parseAddress reads an IPv6 address in brackets, which may have *.
func parseAddress(host string) ([]string, error) {
	inner := strings.ToLower(strings.Trim(host, "[]"))
	if strings.Contains(inner, "*") && strings.Trim(inner, "0123456789abcdef:.*") == "" {
		return strings.Split("["+inner+"]", "*"), nil
	}
	address, err := netip.ParseAddr(inner)
	if err != nil || !address.Is6() || address.Zone() != "" {
		return nil, errors.New("what stands in brackets is no IPv6 address")
	}
	return []string{"[" + address.String() + "]"}, nil
}
