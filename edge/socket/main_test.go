package socket

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"go.uber.org/goleak"
)

// discard is a log that nobody reads.
var discard = slog.New(slog.DiscardHandler)

// patience bounds every wait of a test.
const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// transport is a way to serve connections that the tests are run with.
type transport struct {
	name       string
	goroutines bool
	tls        bool
}

func transports() []transport {
	all := []transport{{name: "goroutines", goroutines: true}, {name: "tls", tls: true}}
	if runtime.GOOS == "linux" {
		all = append(all, transport{name: "epoll"})
	}
	return all
}

// on is a test on one transport.
type on struct {
	*testing.T
	transport
}

// eachTransport runs a test with all of them.
func eachTransport(t *testing.T, run func(t on)) {
	t.Helper()
	t.Parallel()
	for _, tr := range transports() {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			run(on{T: t, transport: tr})
		})
	}
}

// peer is the server's side of one test connection. Its hooks are set before
// the client connects.
type peer struct {
	Conn
	request  Request
	header   string // X-Test of the request
	messages chan string
	closed   chan error
	calls    atomic.Int32 // of Closed
	wait     func(message string) func()
}

func (p *peer) Message(payload []byte) func() {
	text := string(payload)
	p.messages <- text
	if p.wait != nil {
		return p.wait(text)
	}
	return nil
}

func (p *peer) Binary(int) (wait func()) {
	p.messages <- "(binary)"
	return nil
}

func (p *peer) Closed(err error) {
	p.calls.Add(1)
	p.closed <- err
}

// host is a running Server whose connections appear on peers.
type host struct {
	*Server
	addr  string
	tls   *tls.Config // of clients; nil when plaintext
	peers chan *peer
	wait  func(p *peer, message string) func()
	open  func(p *peer)
	// own replaces what Open returns.
	own func(p *peer) Receiver
	// accept replaces Open.
	accept func(c Conn) Receiver
	// web replaces ServeHTTP.
	web http.HandlerFunc
}

func (h *host) Serves(path string) bool { return strings.HasPrefix(path, "/app/") }

// Deflates implements DeflateAcceptor.
func (h *host) Deflates(path string) bool { return path == "/app/packed" }

func (h *host) Open(c Conn, r *Request) Receiver {
	if h.accept != nil {
		return h.accept(c)
	}
	p := &peer{Conn: c, request: *r, header: r.Header("x-test"), messages: make(chan string, 4096), closed: make(chan error, 2)}
	p.request.Header = nil
	if h.wait != nil {
		p.wait = func(m string) func() { return h.wait(p, m) }
	}
	if h.open != nil {
		h.open(p)
	}
	h.peers <- p
	if h.own != nil {
		return h.own(p)
	}
	return p
}

func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.web != nil {
		h.web(w, r)
		return
	}
	if r.URL.Path != "/echo" {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "tls=%t %s", r.TLS != nil, body)
}

// mustHost starts a server that is shut down with the test. Hooks must be set
// by setup.
func mustHost(tb testing.TB, tr transport, cfg Config, setup ...func(h *host)) *host {
	tb.Helper()
	h := &host{peers: make(chan *peer, 8192)}
	for _, f := range setup {
		f(h)
	}
	cfg.ForceGoroutines = tr.goroutines
	if tr.tls {
		cert, pool := mustCertificate(tb)
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		h.tls = &tls.Config{RootCAs: pool, ServerName: "localhost"}
	}
	s, err := NewServer(cfg, h, h, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatalf("new server: %v", err)
	}
	h.Server = s
	ln, err := Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("listen: %v", err)
	}
	h.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), ln) }()
	tb.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // what a test leaves open is cut
		if err := s.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
			tb.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			tb.Errorf("serve: %v", err)
		}
	})
	return h
}

func mustCertificate(tb testing.TB) (tls.Certificate, *x509.CertPool) {
	tb.Helper()
	cert, key := mustPEM(tb, 1)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		tb.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pair, pool
}

// mustPEM makes a self-signed certificate with a serial number.
func mustPEM(tb testing.TB, serial int64) (certPEM, keyPEM []byte) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

func mustWrite(tb testing.TB, dir, name string, data []byte) string {
	tb.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// client is a raw client: what it sends is exactly what the test says.
type client struct {
	net.Conn
	tb testing.TB
	r  *bufio.Reader
}

const upgradeRequest = "GET /app/key?protocol=7 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n" +
	"Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
	"Origin: https://example.com\r\nUser-Agent: test\r\nX-Test: yes\r\n"

func mustDial(tb testing.TB, h *host) *client {
	tb.Helper()
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		tb.Fatalf("dial: %v", err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if h.tls != nil {
		conn = tls.Client(conn, h.tls)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return &client{Conn: conn, tb: tb, r: bufio.NewReader(conn)}
}

// secured speaks TLS from now on if the host's clients do.
func (c *client) secured(h *host) *client {
	if h.tls == nil {
		return c
	}
	conn := tls.Client(c.Conn, h.tls)
	return &client{Conn: conn, tb: c.tb, r: bufio.NewReader(conn)}
}

// mustConnect upgrades and returns both ends.
func mustConnect(tb testing.TB, h *host) (*client, *peer) {
	tb.Helper()
	c := mustDial(tb, h)
	c.send([]byte(upgradeRequest + "\r\n"))
	c.wantSwitch()
	return c, wantPeer(tb, h)
}

func wantPeer(tb testing.TB, h *host) *peer {
	tb.Helper()
	select {
	case p := <-h.peers:
		return p
	case <-time.After(patience):
		tb.Fatal("no connection was opened")
		return nil
	}
}

func (c *client) wantSwitch() http.Header {
	c.tb.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.tb.Fatalf("read response: %v", err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		c.tb.Fatalf("got status %d, want 101", resp.StatusCode)
	}
	return resp.Header
}

func (c *client) send(data []byte) {
	c.tb.Helper()
	if _, err := c.Write(data); err != nil {
		c.tb.Fatalf("send: %v", err)
	}
}

// masked returns one frame as a client sends it.
func masked(first byte, payload string) []byte {
	mask := [4]byte{1, 2, 3, 4}
	frame := []byte{first}
	switch n := len(payload); {
	case n < 126:
		frame = append(frame, 0x80|byte(n))
	case n <= 0xffff:
		frame = binary.BigEndian.AppendUint16(append(frame, 0x80|126), uint16(n))
	default:
		frame = binary.BigEndian.AppendUint64(append(frame, 0x80|127), uint64(n))
	}
	frame = append(frame, mask[:]...)
	body := []byte(payload)
	ws.Cipher(body, mask, 0)
	return append(frame, body...)
}

func text(payload string) []byte { return masked(0x81, payload) }

func closing(code int, reason string) []byte {
	return masked(0x88, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+reason)
}

// readFrame reads one frame of a server.
func readFrame(r io.Reader) (ws.Frame, error) {
	h, err := ws.ReadHeader(r)
	if err != nil {
		return ws.Frame{}, err
	}
	f := ws.Frame{Header: h, Payload: make([]byte, h.Length)}
	_, err = io.ReadFull(r, f.Payload)
	return f, err
}

func (c *client) wantFrame(op ws.OpCode, payload string) {
	c.tb.Helper()
	f, err := readFrame(c.r)
	if err != nil {
		c.tb.Fatalf("read frame: %v, want %v %q", err, op, payload)
	}
	if f.Header.OpCode != op || string(f.Payload) != payload || f.Header.Masked || !f.Header.Fin {
		c.tb.Fatalf("got frame %+v %q, want %v %q", f.Header, f.Payload, op, payload)
	}
}

func (c *client) wantClose(code int) {
	c.tb.Helper()
	for {
		f, err := readFrame(c.r)
		if err != nil {
			c.tb.Fatalf("read frame: %v, want close %d", err, code)
		}
		if f.Header.OpCode != ws.OpClose {
			continue
		}
		got := codeNoStatus
		if len(f.Payload) >= 2 {
			got = int(binary.BigEndian.Uint16(f.Payload))
		}
		if got != code {
			c.tb.Fatalf("got close %d %q, want %d", got, f.Payload[2:], code)
		}
		return
	}
}

// wantEnd reads until the server's end of the stream.
func (c *client) wantEnd() {
	c.tb.Helper()
	rest, err := io.ReadAll(c.r)
	if err != nil || len(bytes.TrimSpace(rest)) > 0 {
		c.tb.Fatalf("got %q, %v before the end of the stream", rest, err)
	}
}

func (p *peer) want(tb testing.TB, message string) {
	tb.Helper()
	select {
	case got := <-p.messages:
		if got != message {
			tb.Fatalf("got message %.100q, want %.100q", got, message)
		}
	case <-time.After(patience):
		tb.Fatalf("got nothing, want message %.100q", message)
	}
}

// wantClosed waits for Closed and ticks meanwhile, as an owner does.
func (p *peer) wantClosed(tb testing.TB) error {
	tb.Helper()
	deadline := time.After(patience)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case err := <-p.closed:
			if n := p.calls.Load(); n != 1 {
				tb.Fatalf("Closed was called %d times", n)
			}
			if err := p.Send(pingFrames); !errors.Is(err, ErrClosed) {
				tb.Fatalf("send after close: got %v, want ErrClosed", err)
			}
			return err
		case now := <-ticker.C:
			p.Tick(now)
		case <-deadline:
			tb.Fatal("connection was not closed")
			return nil
		}
	}
}

func wantCode(tb testing.TB, err error, code int, byPeer bool) {
	tb.Helper()
	var e *CloseError
	if !errors.As(err, &e) || e.Code != code || e.Peer != byPeer {
		tb.Fatalf("closed with %v, want code %d, by peer %t", err, code, byPeer)
	}
}

// poll waits until done returns true.
func poll(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for !done() {
		select {
		case <-deadline:
			t.Fatalf("gave up waiting for %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}
