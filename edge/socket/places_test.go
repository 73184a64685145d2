package socket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"reecho/edge/limit"
)

func TestPlaces(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		connections, reserve, descriptors int
		limit, crowd                      int
	}{
		{0, 0, 0, 0, 64},
		{500, 0, 0, 500, 64},
		{0, 0, 20_000, 20_000 - 1000 - 64, 64},
		{0, 0, 1024, 1024 - 200 - 64, 64},
		{500, 0, 1024, 500, 64},
		{5000, 0, 1024, 760, 64},
		{0, 500, 1024, 1024 - 500 - 64, 64},
		{0, 5000, 1024, 512 - 64, 64},
		{0, 0, 256, 128 - 33, 33},
		{0, 0, 4, 1, 1},
	} {
		p := newPlaces(&Config{MaxConnections: tt.connections, DescriptorReserve: tt.reserve}, tt.descriptors)
		if p.limit != tt.limit || p.crowd != tt.crowd {
			t.Errorf("%+v: got %d and %d", tt, p.limit, p.crowd)
		}
	}
}

// occupy opens idle connections of every kind up to a limit of n.
func occupy(t on, h *host, n int) (open []io.Closer) {
	for i := range n {
		c := mustDial(t, h)
		open = append(open, c)
		switch i % 4 {
		case 0:
			c.send([]byte(upgradeRequest + "\r\n"))
			c.wantSwitch()
			wantPeer(t, h)
		case 1: // sends nothing
		case 2:
			c.send([]byte("GET /ec"))
		case 3:
			c.send([]byte(getEcho))
			c.wantStatus("GET", 200)
		}
	}
	poll(t, "connections to be counted", func() bool { return h.places.count() >= n })
	return open
}

// TestMaxConnections: every kind counts; above the limit clients are told so,
// single requests are served, and places that become free are used.
func TestMaxConnections(t *testing.T) {
	eachTransport(t, func(t on) {
		ledger := limit.NewLedger(slog.New(slog.DiscardHandler))
		h := mustHost(t, t.transport, Config{MaxConnections: 8, Ledger: ledger}, func(h *host) {
			h.web = func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "refusal=%s", Refusal(r)) }
		})
		open := occupy(t, h, 8)
		c := mustDial(t, h)
		c.send([]byte(getEcho))
		if got := c.wantStatus("GET", 200); !strings.Contains(got, "8 (max_connections)") {
			t.Errorf("got %q, want a word on the limit", got)
		}
		c.wantEnd() // it must not keep the place
		c = mustDial(t, h)
		c.send([]byte(upgradeRequest + "\r\n"))
		c.wantSwitch()
		p := wantPeer(t, h)
		if got := p.request.Refusal; !strings.Contains(got, "8 (max_connections)") {
			t.Errorf("got refusal %q, want a word on the limit", got)
		}
		p.Close(4100, p.request.Refusal)
		c.wantClose(4100)
		c.send(closing(4100, ""))
		_ = p.wantClosed(t)
		if ledger.Total(limit.Connections) < 2 {
			t.Error("the ledger knows nothing")
		}
		for _, o := range open {
			_ = o.Close()
		}
		poll(t, "all places to be free", func() bool { return h.places.count() == 1 })
		c = mustDial(t, h)
		c.send([]byte(upgradeRequest + "\r\n"))
		c.wantSwitch()
		if got := wantPeer(t, h).request.Refusal; got != "" {
			t.Errorf("got refusal %q with all places free", got)
		}
	})
}

// TestCrowd: those above the limit are bounded too. Later ones wait in the
// kernel, and get in when somebody leaves.
func TestCrowd(t *testing.T) {
	eachTransport(t, func(t on) {
		h := mustHost(t, t.transport, Config{MaxConnections: 4, HandshakeTimeout: patience})
		open := occupy(t, h, 4)
		for range crowdPlaces {
			open = append(open, mustDial(t, h))
		}
		poll(t, "connections to be counted", func() bool { return h.places.count() == 4+crowdPlaces })
		late := mustDial(t, h)
		go func() { _, _ = late.Write([]byte(getEcho)) }() // with TLS it waits for the server
		for _, o := range open {
			_ = o.Close()
		}
		late.wantStatus("GET", 200)
	})
}

// TestHandshakesPerSecond: upgrades by the client's address, on whatever
// connection; other requests are not counted. TLS handshakes are, of whoever
// is no trusted proxy.
func TestHandshakesPerSecond(t *testing.T) {
	eachTransport(t, func(t on) {
		ledger := limit.NewLedger(slog.New(slog.DiscardHandler))
		h := mustHost(t, t.transport, Config{HandshakesPerSecond: 1, TrustedProxies: mustProxies(t, "loopback"), Ledger: ledger})
		upgrade := func(client string) int {
			c := mustDial(t, h)
			c.send([]byte(getEcho + upgradeRequest + "X-Forwarded-For: " + client + "\r\n\r\n"))
			c.wantStatus("GET", 200)
			resp, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode == http.StatusTooManyRequests {
				body, _ := io.ReadAll(resp.Body)
				if resp.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "More than 1 ") ||
					!strings.Contains(string(body), "handshakes_per_second") {
					t.Errorf("got %q, %v", body, resp.Header)
				}
			}
			return resp.StatusCode
		}
		refused := 0
		for i := range 3 * handshakeBurst {
			if upgrade(fmt.Sprintf("2001:db8::%x", i+1)) == 429 { // one /64
				refused++
			}
		}
		if refused == 0 || ledger.Total(limit.Handshakes) != uint64(refused) {
			t.Errorf("%d of %d were refused, the ledger has %d", refused, 3*handshakeBurst, ledger.Total(limit.Handshakes))
		}
		if got := upgrade("192.0.2.1"); got != 101 {
			t.Errorf("another address: got %d, want 101", got)
		}
	})
}

func TestTLSHandshakesPerSecond(t *testing.T) {
	t.Parallel()
	ledger := limit.NewLedger(slog.New(slog.DiscardHandler))
	h := mustHost(t, transport{tls: true}, Config{HandshakesPerSecond: 1, Ledger: ledger})
	for range 10 * handshakeBurst {
		c := mustDial(t, h)
		if _, err := c.Write([]byte(getEcho)); err != nil {
			break // the TLS handshake failed
		}
		c.wantStatus("GET", 200)
		_ = c.Close()
	}
	if ledger.Total(limit.Handshakes) == 0 {
		t.Error("TLS handshakes are not bounded")
	}
}

// TestProxyComplaints: one line for a proxy that is set up otherwise, not one
// for each connection.
func TestProxyComplaints(t *testing.T) {
	t.Parallel()
	log := &countingHandler{records: make(chan slog.Record, 100)}
	h := &host{peers: make(chan *peer, 1)}
	s, err := NewServer(Config{ProxyProtocol: true, TrustedProxies: mustProxies(t, "loopback")}, h, h, slog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), ln) }()
	for range 10 {
		c := mustDial(t, h)
		c.send([]byte(getEcho))
		_, _ = io.ReadAll(c.r)
	}
	if err := errors.Join(s.Shutdown(t.Context()), <-served); err != nil {
		t.Error(err)
	}
	log.wantOneWarning(t)
}

// TestListenUnix: the file of a dead server is replaced, all else is left
// alone.
func TestListenUnix(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	dead, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = dead.Close()
	ln, err := ListenUnix(t.Context(), path, 0o600)
	if err != nil {
		t.Fatalf("over the socket of a dead server: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v, want 0600", info.Mode(), err)
	}
	if _, err := ListenUnix(t.Context(), path, 0o600); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("over the socket of a live server: got %v", err)
	}
	_ = ln.Close()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	data := []byte("precious")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenUnix(t.Context(), path, 0o600); err == nil {
		t.Error("a file that is no socket was taken")
	}
	if got, err := os.ReadFile(path); !bytes.Equal(got, data) {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{"", "@abstract", strings.Repeat("x", 200), dir + "/none/s"} {
		if _, err := ListenUnix(t.Context(), bad, 0o600); err == nil {
			t.Errorf("listened on %q", bad)
		}
	}
}
