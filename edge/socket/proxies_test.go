package socket

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
)

func mustProxies(tb testing.TB, list ...string) Proxies {
	tb.Helper()
	p, err := ParseProxies(list)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func TestParseProxies(t *testing.T) {
	t.Parallel()
	p := mustProxies(t, "192.0.2.7", "10.0.0.0/8", "2001:db8::/32", "::1", "::ffff:198.51.100.0/120", "loopback")
	for text, want := range map[string]bool{
		"192.0.2.7": true, "192.0.2.8": false, "10.255.0.1": true, "11.0.0.1": false, "::ffff:10.1.1.1": true,
		"2001:db8:1::1": true, "2001:db9::1": false, "::1": true, "127.8.8.8": true, "198.51.100.9": true, "198.51.101.9": false,
	} {
		if got := p.trust(netip.MustParseAddr(text)); got != want {
			t.Errorf("trust(%s) = %t, want %t", text, got, want)
		}
	}
	if unix := mustProxies(t, "unix"); p.trust(netip.Addr{}) || !unix.trust(netip.Addr{}) {
		t.Error("peers at Unix sockets are trusted when unix is named, and then only")
	}
	_, err := ParseProxies([]string{"10.0.0.0/33", "example.com", "10.0.0.1:80", ""})
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("got %v, want four problems", err)
	}
}

// TestForwarded: only what trusted proxies wrote counts, the rest is what the
// client says.
func TestForwarded(t *testing.T) {
	t.Parallel()
	proxies := mustProxies(t, "10.0.0.0/8", "2001:db8::/64")
	const xff, fwd, proto = "X-Forwarded-For", "Forwarded", "X-Forwarded-Proto"
	for _, tt := range []struct {
		name   string
		peer   string
		header http.Header
		want   string
		secure bool
	}{
		{"nothing", "10.0.0.1", nil, "10.0.0.1", false},
		{"peer not trusted", "192.0.2.1", http.Header{xff: {"1.1.1.1"}, fwd: {"for=1.1.1.1;proto=https"}, proto: {"https"}}, "192.0.2.1", false},
		{"one", "10.0.0.1", http.Header{xff: {"192.0.2.1"}, proto: {"https"}}, "192.0.2.1", true},
		{"client says so", "10.0.0.1", http.Header{xff: {"1.1.1.1, 192.0.2.1"}}, "192.0.2.1", false},
		{"client says it is a proxy", "10.0.0.1", http.Header{xff: {"1.1.1.1, 10.0.0.9, 192.0.2.1"}}, "192.0.2.1", false},
		{"two proxies", "10.0.0.1", http.Header{xff: {"1.1.1.1, 192.0.2.1, 10.0.0.2"}}, "192.0.2.1", false},
		{"several lines", "10.0.0.1", http.Header{xff: {"1.1.1.1", "192.0.2.1,10.0.0.2", " 10.0.0.3 "}}, "192.0.2.1", false},
		{"all trusted", "10.0.0.1", http.Header{xff: {"10.0.0.3, 10.0.0.2"}}, "10.0.0.3", false},
		{"nonsense at the end", "10.0.0.1", http.Header{xff: {"192.0.2.1, hello"}}, "10.0.0.1", false},
		{"nonsense behind a proxy", "10.0.0.1", http.Header{xff: {"192.0.2.1, unknown, 10.0.0.2"}}, "10.0.0.2", false},
		{"with ports", "10.0.0.1", http.Header{xff: {"192.0.2.1:4711, 10.0.0.2:80"}}, "192.0.2.1", false},
		{"IPv6", "2001:db8::1", http.Header{xff: {"2001:db9::7"}}, "2001:db9::7", false},
		{"IPv6 with port", "2001:db8::1", http.Header{xff: {"[2001:db9::7]:4711"}}, "2001:db9::7", false},
		{"IPv4 in IPv6", "::ffff:10.0.0.1", http.Header{xff: {"::ffff:192.0.2.1"}}, "192.0.2.1", false},
		{"empty elements", "10.0.0.1", http.Header{xff: {", 192.0.2.1, ,"}}, "192.0.2.1", false},
		{"protos of two proxies", "10.0.0.1", http.Header{xff: {"192.0.2.1, 10.0.0.2"}, proto: {"https, http"}}, "192.0.2.1", true},
		{"proto that the client made up", "10.0.0.1", http.Header{xff: {"1.1.1.1, 192.0.2.1"}, proto: {"https, http"}}, "192.0.2.1", false},
		{"proto alone", "10.0.0.1", http.Header{proto: {"https"}}, "10.0.0.1", true},
		{"wss", "10.0.0.1", http.Header{xff: {"192.0.2.1"}, proto: {"WSS"}}, "192.0.2.1", true},

		{"Forwarded", "10.0.0.1", http.Header{fwd: {"for=192.0.2.1;proto=https;by=10.0.0.1"}}, "192.0.2.1", true},
		{"Forwarded, odd case", "10.0.0.1", http.Header{fwd: {"By=x; PROTO=HTTPS; FOR=192.0.2.1"}}, "192.0.2.1", true},
		{"Forwarded, quoted", "10.0.0.1", http.Header{fwd: {`for="192.0.2.1:4711";proto="https"`}}, "192.0.2.1", true},
		{"Forwarded, IPv6", "10.0.0.1", http.Header{fwd: {`for="[2001:db9::7]:4711"`}}, "2001:db9::7", false},
		{"Forwarded, two proxies", "10.0.0.1", http.Header{fwd: {`for=1.1.1.1, for=192.0.2.1;proto=https`, `for=10.0.0.2;proto=http`}}, "192.0.2.1", true},
		{"Forwarded, comma between quotes", "10.0.0.1", http.Header{fwd: {`for=192.0.2.1;x="a, for=1.1.1.1;\", b"`}}, "192.0.2.1", false},
		{"Forwarded, hidden", "10.0.0.1", http.Header{fwd: {"for=_hidden;proto=https"}}, "10.0.0.1", true},
		{"Forwarded, unknown", "10.0.0.1", http.Header{fwd: {"for=192.0.2.1, for=unknown"}}, "10.0.0.1", false},
		{"Forwarded, hidden before a proxy", "10.0.0.1", http.Header{fwd: {"for=_a, for=10.0.0.2"}}, "10.0.0.2", false},
		{"Forwarded, unclosed quote", "10.0.0.1", http.Header{fwd: {`for="192.0.2.1, for=1.1.1.1`}}, "10.0.0.1", false},
		{"Forwarded by the client, the other by the proxy", "10.0.0.1", http.Header{xff: {"192.0.2.1"}, fwd: {"for=1.1.1.1;proto=https"}}, "192.0.2.1", false},
	} {
		got := proxies.client(origin{addr: netip.MustParseAddr(tt.peer).Unmap()}, tt.header.Values)
		if got.addr.String() != tt.want || got.secure != tt.secure {
			t.Errorf("%s: got %s, TLS %t, want %s, %t", tt.name, got.addr, got.secure, tt.want, tt.secure)
		}
	}
	long := http.Header{xff: {strings.Repeat("10.0.0.2, ", 10_000) + "10.0.0.3"}}
	if got := proxies.client(origin{addr: netip.MustParseAddr("10.0.0.1")}, long.Values); got.addr.String() != "10.0.0.2" {
		t.Errorf("a long list: got %s", got.addr)
	}
}

// TestClientOfBothKinds: an upgrade and other requests say the same of their
// client, on a connection that is used for several.
func TestClientOfBothKinds(t *testing.T) {
	eachTransport(t, func(t on) {
		h := mustHost(t, t.transport, Config{TrustedProxies: mustProxies(t, "loopback")}, func(h *host) {
			h.web = func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "%s %t %t", ClientAddr(r), Secure(r), r.TLS != nil)
			}
		})
		c := mustDial(t, h)
		for _, client := range []string{"192.0.2.1", "2001:db8::9"} {
			c.send([]byte("GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: " + client + "\r\nX-Forwarded-Proto: https\r\n\r\n"))
			if got, want := c.wantStatus("GET", 200), fmt.Sprintf("%s true %t", client, t.tls); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		c.send([]byte(upgradeRequest + "Forwarded: for=192.0.2.3;proto=https\r\n\r\n"))
		c.wantSwitch()
		p := wantPeer(t, h)
		if r := p.request; r.Client.String() != "192.0.2.3" || !r.Secure || r.TLS != t.tls || r.Remote.String() != c.LocalAddr().String() {
			t.Errorf("got client %s, secure %t, TLS %t, remote %s", r.Client, r.Secure, r.TLS, r.Remote)
		}
	})
}

func mustHeader(tb testing.TB, h *proxyproto.Header, values ...proxyproto.TLV) string {
	tb.Helper()
	if err := h.SetTLVs(values); err != nil {
		tb.Fatal(err)
	}
	data, err := h.Format()
	if err != nil {
		tb.Fatal(err)
	}
	return string(data)
}

// TestProxyProtocol: in front of plaintext and TLS, upgrades and others.
func TestProxyProtocol(t *testing.T) {
	tcp := func(a string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(a)) }
	v2 := func(from, to string) *proxyproto.Header {
		return proxyproto.HeaderProxyFromAddrs(2, tcp(from), tcp(to))
	}
	ssl, err := tlvparse.PP2SSL{Client: 1}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	local := &proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}
	socket := proxyproto.HeaderProxyFromAddrs(2, &net.UnixAddr{Net: "unix", Name: "/a"}, &net.UnixAddr{Net: "unix", Name: "/b"})
	for _, tt := range []struct {
		name, header, want string
		secure             bool
	}{
		{"v1", "PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\n", "192.0.2.1", false},
		{"v1 IPv6", "PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n", "2001:db8::1", false},
		{"v1 unknown", "PROXY UNKNOWN\r\n", "127.0.0.1", false},
		{"v1 unknown with more", "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "127.0.0.1", false},
		{"v2", mustHeader(t, v2("192.0.2.1:1", "192.0.2.9:2")), "192.0.2.1", false},
		{"v2 IPv6", mustHeader(t, v2("[2001:db8::1]:1", "[2001:db8::2]:2")), "2001:db8::1", false},
		{"v2 with values", mustHeader(t, v2("192.0.2.1:1", "192.0.2.9:2"), proxyproto.TLV{Type: proxyproto.PP2_TYPE_NOOP, Value: make([]byte, 3000)}), "192.0.2.1", false},
		{"v2 with TLS", mustHeader(t, v2("192.0.2.1:1", "192.0.2.9:2"), ssl), "192.0.2.1", true},
		{"v2 local", mustHeader(t, local), "127.0.0.1", false},
		{"v2 Unix", mustHeader(t, socket), "invalid IP", false},
		{"forwarded by a proxy behind another", "PROXY TCP4 127.0.0.9 127.0.0.1 1 2\r\n", "198.51.100.1", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachTransport(t, func(t on) {
				h := mustHost(t, t.transport, Config{ProxyProtocol: true, TrustedProxies: mustProxies(t, "loopback")}, func(h *host) {
					h.web = func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s %t", ClientAddr(r), Secure(r)) }
				})
				for _, step := range []int{len(tt.header), 1} { // at once, byte by byte
					tlsOfClients := h.tls
					h.tls = nil
					c := mustDial(t, h)
					for b := range slices.Chunk([]byte(tt.header), step) {
						c.send(b)
					}
					h.tls = tlsOfClients
					c = c.secured(h)
					forwarded := ""
					if strings.HasPrefix(tt.name, "forwarded") {
						forwarded = "X-Forwarded-For: 198.51.100.1\r\n"
					}
					c.send([]byte("GET / HTTP/1.1\r\nHost: x\r\n" + forwarded + "\r\n"))
					if got, want := c.wantStatus("GET", 200), fmt.Sprintf("%s %t", tt.want, tt.secure || t.tls); got != want {
						t.Errorf("got %q, want %q", got, want)
					}
					c.send([]byte(upgradeRequest + forwarded + "\r\n"))
					c.wantSwitch()
					if r := wantPeer(t, h).request; r.Client.String() != tt.want || r.Secure != (tt.secure || t.tls) {
						t.Errorf("got client %s, secure %t", r.Client, r.Secure)
					}
				}
			})
		})
	}
}

// TestBadProxyHeader: what a trusted proxy sends must begin with one, and what
// others send must not.
func TestBadProxyHeader(t *testing.T) {
	t.Parallel()
	good := "PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\n"
	huge := string(proxyproto.SIGV2) + "\x21\x11\xff\xff" + strings.Repeat("x", 10_000)
	trusting := Config{ProxyProtocol: true, TrustedProxies: mustProxies(t, "loopback"), HandshakeTimeout: 100 * time.Millisecond}
	for _, header := range []string{
		"", "PROXY", "PROXY TCP4 192.0.2.1", "PROXY TCP4 999.0.2.1 192.0.2.9 1 2\r\n", "PROXY TCP4 192.0.2.1 192.0.2.9 1 2\n",
		"PROXY " + strings.Repeat("x", 200) + "\r\n", "PROXY TCP4 ::1 ::1 1 2\r\n", huge,
		string(proxyproto.SIGV2) + "\x31\x11\x00\x0c", string(proxyproto.SIGV2) + "\x21\x11\x00\x01x", good[:10] + "\r\n",
	} {
		h := mustHost(t, transport{}, trusting)
		c := mustDial(t, h)
		go func() { _, _ = c.Write([]byte(header + getEcho)) }()
		if rest, _ := io.ReadAll(c.r); len(rest) > 0 {
			t.Errorf("%.60q: got %q, want the end", header, rest)
		}
	}
	stranger := trusting
	stranger.TrustedProxies = mustProxies(t, "192.0.2.0/24")
	for _, cfg := range []Config{stranger, {}} {
		c := mustDial(t, mustHost(t, transport{}, cfg))
		c.send([]byte(good + getEcho))
		c.wantStatus("GET", 400)
		c = mustDial(t, mustHost(t, transport{}, cfg))
		c.send([]byte(getEcho))
		c.wantStatus("GET", 200)
	}
}
