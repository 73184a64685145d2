package socket

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"
)

// handshake builds a request from the usual lines, replaced or removed (empty
// value) by name.
func handshake(line string, changes ...[2]string) string {
	fields := [][2]string{
		{"Host", "localhost"},
		{"Upgrade", "websocket"},
		{"Connection", "Upgrade"},
		{"Sec-WebSocket-Version", "13"},
		{"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="},
	}
next:
	for _, change := range changes {
		for i := range fields {
			if fields[i][0] == change[0] {
				fields[i][1] = change[1]
				continue next
			}
		}
		fields = append(fields, change)
	}
	request := line + "\r\n"
	for _, f := range fields {
		if f[1] != "" {
			request += strings.TrimSuffix(f[0], "+") + ": " + f[1] + "\r\n"
		}
	}
	return request + "\r\n"
}

const getApp = "GET /app/key HTTP/1.1"

func TestHandshake(t *testing.T) {
	for _, tc := range []struct {
		name, request string
		status        int
	}{
		{"plain", handshake(getApp), 101},
		{"lines end in LF", strings.ReplaceAll(handshake(getApp), "\r\n", "\n"), 101},
		{"lists and odd case", handshake(getApp, [2]string{"Connection", "keep-alive,  uPGRADE"}, [2]string{"Upgrade", "h2c, WebSocket"}), 101},
		{"absolute form", handshake("GET http://localhost/app/key?x=1 HTTP/1.1"), 101},
		{"percent-encoded", handshake("GET /%61pp/key HTTP/1.1"), 101},
		{"empty body", handshake(getApp, [2]string{"Content-Length", "0"}), 101},
		{"offers compression", handshake(getApp, [2]string{"Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"}), 101},
		{"malformed extension offer", handshake(getApp, [2]string{"Sec-WebSocket-Extensions", ";=,\"x"}), 101},
		{"browser headers", handshake(getApp, [2]string{"Cookie", strings.Repeat("c", 4000)}, [2]string{"Origin", "null"}), 101},
		{"no Host", handshake(getApp, [2]string{"Host", ""}), 400},
		{"two Hosts", handshake(getApp, [2]string{"Host+", "other"}), 400},
		{"no Connection", handshake(getApp, [2]string{"Connection", ""}), 400},
		{"Connection close", handshake(getApp, [2]string{"Connection", "close"}), 400},
		{"no version", handshake(getApp, [2]string{"Sec-WebSocket-Version", ""}), 426},
		{"version 8", handshake(getApp, [2]string{"Sec-WebSocket-Version", "8"}), 426},
		{"no key", handshake(getApp, [2]string{"Sec-WebSocket-Key", ""}), 400},
		{"two keys", handshake(getApp, [2]string{"Sec-WebSocket-Key+", "dGhlIHNhbXBsZSBub25jZQ=="}), 400},
		{"short key", handshake(getApp, [2]string{"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j"}), 400},
		{"key not base64", handshake(getApp, [2]string{"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZ!=="}), 400},
		{"key of 17 bytes", handshake(getApp, [2]string{"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZTE="}), 400},
		{"body", handshake(getApp, [2]string{"Content-Length", "5"}), 400},
		{"chunked body", handshake(getApp, [2]string{"Transfer-Encoding", "chunked"}), 400},
		{"HTTP/1.0", handshake("GET /app/key HTTP/1.0"), 505},
		{"line without colon", handshake(getApp, [2]string{"Host", "localhost\r\nnonsense"}), 400},
		{"blank before colon", handshake(getApp, [2]string{"X-A ", "b"}), 400},
		{"folded line", handshake(getApp, [2]string{"X-A", "b\r\n c"}), 400},
		{"control character", handshake(getApp, [2]string{"X-A", "b\x00c"}), 400},
		{"too many lines", handshake(getApp, [2]string{"X-A", "b" + strings.Repeat("\r\nX-B: c", maxHeaderLines)}), 431},
		{"cookies of 8,000 bytes", handshake(getApp, [2]string{"Cookie", strings.Repeat("c", 8000)}), 101},
		{"too large", handshake(getApp, [2]string{"Cookie", strings.Repeat("c", DefaultMaxHeaderBytes)}), 431},
		{"endless line", getApp + "\r\nCookie: " + strings.Repeat("c", 100_000), 431},
		{"no upgrade", handshake(getApp, [2]string{"Upgrade", ""}), 404},
		{"other upgrade", handshake(getApp, [2]string{"Upgrade", "h2c"}), 404},
		{"path not served", handshake("GET /elsewhere HTTP/1.1"), 404},
		{"POST", handshake("POST /app/key HTTP/1.1"), 404},
		{"bad escape", handshake("GET /app/%zz HTTP/1.1"), 400},
		{"not HTTP", "hello\r\n\r\n", 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			eachTransport(t, func(t on) {
				c := mustDial(t, mustHost(t, t.transport, Config{}))
				go func() { _, _ = c.Write([]byte(tc.request)) }() // it may be cut off
				resp, err := http.ReadResponse(c.r, nil)
				if err != nil {
					t.Fatalf("read response: %v", err)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(io.LimitReader(resp.Body, 1000))
				if resp.StatusCode != tc.status {
					t.Fatalf("got %d %q (%v), want %d", resp.StatusCode, body, err, tc.status)
				}
				if got := resp.Header.Get("Sec-WebSocket-Version"); tc.status == 426 && got != "13" {
					t.Fatalf("got Sec-WebSocket-Version %q, want 13", got)
				}
				if got := resp.Header.Get("Sec-WebSocket-Accept"); tc.status == 101 && got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
					t.Fatalf("got Sec-WebSocket-Accept %q", got)
				}
				if got := resp.Header.Get("Sec-WebSocket-Extensions"); got != "" {
					t.Fatalf("got extension %q, want none", got)
				}
			})
		})
	}
}

func TestSubprotocol(t *testing.T) {
	t.Parallel()
	for offered, want := range map[string]string{
		"":                           "",
		"chat":                       "",
		"pusher-channels-protocol-7": "pusher-channels-protocol-7",
		"chat, pusher-channels-protocol-5,pusher-channels-protocol-7": "pusher-channels-protocol-5",
		"chat\r\nSec-WebSocket-Protocol: pusher-channels-protocol-7":  "pusher-channels-protocol-7",
		"pusher-channels-protocol-7 x":                                "",
	} {
		h := mustHost(t, transport{}, Config{})
		c := mustDial(t, h)
		c.send([]byte(handshake(getApp, [2]string{"Sec-WebSocket-Protocol", offered})))
		if got := c.wantSwitch().Get("Sec-WebSocket-Protocol"); got != want {
			t.Errorf("offered %q: got %q, want %q", offered, got, want)
		}
	}
}

// TestHandshakeByteByByte and a silent client: the deadline is for the whole
// handshake.
func TestHandshakeByteByByte(t *testing.T) {
	t.Parallel()
	h := mustHost(t, transport{}, Config{})
	c := mustDial(t, h)
	for _, b := range []byte(upgradeRequest + "\r\n") {
		c.send([]byte{b})
	}
	c.wantSwitch()
	wantPeer(t, h)
}

func TestHandshakeDeadline(t *testing.T) {
	eachTransport(t, func(t on) {
		h := mustHost(t, t.transport, Config{HandshakeTimeout: 50 * time.Millisecond})
		for _, sent := range []string{"", "G", getApp + "\r\nHost: loc"} {
			conn, err := net.Dial("tcp", h.addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(patience))
			_, _ = io.WriteString(conn, sent)
			if n, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) || n > 0 && !t.tls {
				t.Errorf("after %q: got %d bytes, %v; want the end", sent, n, err)
			}
			_ = conn.Close()
		}
	})
}

func TestHTTPBesideSockets(t *testing.T) {
	eachTransport(t, func(t on) {
		h := mustHost(t, t.transport, Config{})
		_, p := mustConnect(t, h)
		transport := &http.Transport{TLSClientConfig: h.tls, ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		scheme, want := "http", "tls=false "
		if t.tls {
			scheme, want = "https", "tls=true "
		}
		for _, body := range []string{"", "a=b", strings.Repeat("long", 50_000)} {
			resp, err := (&http.Client{Transport: transport}).Post(scheme+"://"+h.addr+"/echo", "text/plain", strings.NewReader(body))
			if err != nil {
				t.Fatalf("post: %v", err)
			}
			got, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.ProtoMajor != 1 {
				t.Fatalf("read answer over HTTP/%d: %v", resp.ProtoMajor, err)
			}
			if diff := cmp.Diff(want+body, string(got)); diff != "" {
				t.Fatalf("answer differs:\n%.300s", diff)
			}
		}
		p.Close(4200, "")
	})
}

func TestTLSWithoutCertificate(t *testing.T) {
	t.Parallel()
	h := mustHost(t, transport{}, Config{})
	conn, err := tls.Dial("tcp", h.addr, &tls.Config{InsecureSkipVerify: true})
	if err == nil {
		_ = conn.Close()
		t.Fatal("TLS handshake succeeded without a certificate")
	}
}

// Nobody who has shaken hands as a certificate authority is served: it might have been
// led here from another server (RFC 8737 §4).
func TestAuthorityIsNotServed(t *testing.T) {
	t.Parallel()
	cert, _ := mustCertificate(t)
	h := mustHost(t, transport{}, Config{TLS: &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{acmeProtocol, "http/1.1"}}, nil
		},
	}})
	for protocol, served := range map[string]bool{"http/1.1": true, acmeProtocol: false} {
		conn, err := tls.Dial("tcp", h.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
		if err != nil {
			t.Fatalf("%s: %v", protocol, err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		answer, err := io.ReadAll(conn)
		if errors.Is(err, context.DeadlineExceeded) || (len(answer) > 0) != served {
			t.Errorf("%s: got %q, %v", protocol, answer, err)
		}
	}
}

func TestPlaintextBesideTLS(t *testing.T) {
	t.Parallel()
	h := mustHost(t, transport{tls: true}, Config{})
	h.tls = nil
	c, p := mustConnect(t, h)
	c.send(text("in the clear"))
	p.want(t, "in the clear")
	if p.request.TLS {
		t.Error("request says TLS")
	}
}

func TestShutdownFinishesRequests(t *testing.T) {
	t.Parallel()
	h := mustHost(t, transport{}, Config{})
	idle := mustDial(t, h)
	idle.send([]byte("GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	if resp, err := http.ReadResponse(idle.r, nil); err != nil {
		t.Fatal(err)
	} else {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	running := mustDial(t, h)
	running.send([]byte("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"))
	if line, err := running.r.ReadString('\n'); err != nil || !strings.Contains(line, "100") {
		t.Fatalf("got %q, %v, want 100 Continue", line, err)
	}
	done := make(chan error, 1)
	go func() { done <- h.Shutdown(context.Background()) }()
	idle.wantEnd()
	running.send([]byte("body"))
	_, _ = running.r.ReadString('\n')
	resp, err := http.ReadResponse(running.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(resp.Body); string(got) != "tls=false body" {
		t.Errorf("got %q", got)
	}
	_ = resp.Body.Close()
	if err := <-done; err != nil {
		t.Fatalf("shutdown: %v", err)
	}
}

// shortListener fails like a process without descriptors left, then works.
type shortListener struct {
	net.Listener
	failures int
}

func (l *shortListener) Accept() (net.Conn, error) {
	if l.failures > 0 {
		l.failures--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// countingHandler counts log records.
type countingHandler struct {
	slog.Handler
	records chan slog.Record
}

func (h *countingHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *countingHandler) Handle(_ context.Context, r slog.Record) error {
	h.records <- r
	return nil
}

// wantOneWarning ends the log.
func (h *countingHandler) wantOneWarning(t *testing.T) {
	t.Helper()
	close(h.records)
	warnings := 0
	for r := range h.records {
		if r.Level == slog.LevelWarn {
			warnings++
		}
	}
	if warnings != 1 {
		t.Errorf("got %d warnings, want 1", warnings)
	}
}

func TestAcceptSurvivesShortage(t *testing.T) {
	t.Parallel()
	log := &countingHandler{records: make(chan slog.Record, 100)}
	h := &host{peers: make(chan *peer, 1)}
	s, err := NewServer(Config{}, h, h, slog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.addr = ln.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, &shortListener{Listener: ln, failures: 3}) }()
	c, p := mustConnect(t, h)
	p.Close(4200, "")
	c.wantClose(4200)
	stop()
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
	_ = c.Close()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	log.wantOneWarning(t)
}

func TestCertificateReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := mustPEM(t, 1)
	certFile, keyFile := mustWrite(t, dir, "cert.pem", cert), mustWrite(t, dir, "key.pem", key)
	c, err := LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	want := func(serial string) {
		t.Helper()
		c.mu.Lock()
		c.checked = time.Time{}
		c.mu.Unlock()
		got, err := c.GetCertificate(nil)
		if err != nil || got.Leaf.SerialNumber.String() != serial {
			t.Fatalf("got certificate %v, %v, want %s", got.Leaf.SerialNumber, err, serial)
		}
	}
	want("1")
	cert, key = mustPEM(t, 22)
	mustWrite(t, dir, "cert.pem", append(cert, '\n')) // a new size, whatever the clock's steps
	want("1")                                         // the key does not fit yet
	mustWrite(t, dir, "key.pem", append(key, '\n'))
	want("22")
	mustWrite(t, dir, "cert.pem", []byte("broken"))
	want("22")
	if _, err := LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("loaded a broken certificate")
	}
}

func TestCutReason(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]string{
		"":                            "",
		"short":                       "short",
		"bad \xff":                    "bad �",
		strings.Repeat("x", 200):      strings.Repeat("x", 123),
		strings.Repeat("€", 50):       strings.Repeat("€", 41),
		"x" + strings.Repeat("€", 50): "x" + strings.Repeat("€", 40),
	} {
		if got := cutReason(reason); got != want {
			t.Errorf("cutReason(%q): got %q, want %q", reason, got, want)
		}
	}
}

func TestFrame(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 125, 126, 0xffff, 0x10000} {
		payload := strings.Repeat("x", n)
		f, err := readFrame(bytes.NewReader(Frame([]byte(payload))))
		if err != nil || f.Header.OpCode != ws.OpText || !f.Header.Fin || f.Header.Masked || string(f.Payload) != payload {
			t.Errorf("%d bytes: got %+v, %v", n, f.Header, err)
		}
	}
}
