package sse

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/edge"
	"reecho/edge/app"
	"reecho/edge/pusher"
	"reecho/edge/socket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testKey    = "demo-key-01"
	testSecret = "demo-secret-01"
	// patience is how long a test waits for something that must happen.
	patience = 20 * time.Second
)

// newTestApp is the app of a test, with what change makes of it.
func newTestApp(change func(*app.App)) *app.App {
	a := &app.App{
		ID: "77", Credentials: []app.Credential{{Key: testKey, Secret: testSecret}}, Enabled: true, UserAuthentication: true,
		ActivityTimeout: app.DefaultActivityTimeout, Limits: app.DefaultLimits(),
	}
	if change != nil {
		change(a)
	}
	return a
}

// mustHub is a hub with one app over a real broker, which closes with the test.
func mustHub(t *testing.T, a *app.App) *edge.Hub {
	t.Helper()
	b := brokertest.Start(t, broker.Config{})
	apps, err := app.NewRegistry([]*app.App{a})
	if err != nil {
		t.Fatal(err)
	}
	hub, err := edge.NewHub(t.Context(), edge.Config{}, apps, b, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := hub.Close(ctx, 0); err != nil {
			t.Error(err)
		}
	})
	return hub
}

// mustTenant is the app of a test at its hub.
func mustTenant(t *testing.T, change func(*app.App)) *edge.Tenant {
	t.Helper()
	tenant, no := mustHub(t, newTestApp(change)).Admit(testKey, false, "")
	if no != nil {
		t.Fatal(no)
	}
	return tenant
}

// server is a handler behind a real server.
type server struct {
	t       *testing.T
	hub     *edge.Hub
	app     *app.App
	handler *Handler
	addr    string
	client  *http.Client
}

func mustServe(t *testing.T, cfg Config, change func(*app.App)) *server {
	t.Helper()
	s := &server{t: t, app: newTestApp(change), client: &http.Client{Transport: &http.Transport{}}}
	s.hub = mustHub(t, s.app)
	var err error
	if s.handler, err = New(cfg, s.hub); err != nil {
		t.Fatal(err)
	}
	front, err := socket.NewServer(socket.Config{}, s.hub, s.handler, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := socket.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- front.Serve(context.Background(), ln) }()
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		closed := make(chan error, 1)
		go func() { closed <- s.hub.Close(ctx, 0) }()
		if err := errors.Join(front.Shutdown(ctx), <-closed, <-served); err != nil {
			t.Error(err)
		}
	})
	return s
}

// answer is that to a request; its body is closed with the test.
type answer struct {
	status int
	header http.Header
	body   io.ReadCloser
}

// do sends a request below /app/{key}/events; headers are pairs.
func (s *server) do(method, rest string, headers ...string) answer {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	s.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, "http://"+s.addr+"/app/"+testKey+"/events"+rest, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = response.Body.Close() })
	return answer{status: response.StatusCode, header: response.Header, body: response.Body}
}

// want sends a request and expects a status, and part in the answer, the header
// of which it returns.
func (s *server) want(status int, part, method, rest string, headers ...string) http.Header {
	s.t.Helper()
	got := s.do(method, rest, headers...)
	body, err := io.ReadAll(got.body)
	if err != nil {
		s.t.Fatal(err)
	}
	if got.status != status || !strings.Contains(string(body), part) {
		s.t.Errorf("%s %s: got %d %s, want %d and %q", method, rest, got.status, body, status, part)
	}
	return got.header
}

func (s *server) publish(channel string, data ...string) {
	s.t.Helper()
	for _, d := range data {
		if err := s.hub.Publish(s.t.Context(), s.app, []pusher.Publish{{Name: "score", Data: d, Channels: []string{channel}}}); err != nil {
			s.t.Fatal(err)
		}
	}
}

// stream is an answer that is read block by block.
type stream struct {
	t     *testing.T
	body  io.ReadCloser
	lines *bufio.Scanner
	id    string // the last
}

func (s *server) stream(query string, headers ...string) *stream {
	s.t.Helper()
	got := s.do(http.MethodGet, "?"+query, headers...)
	if got.status != http.StatusOK {
		s.t.Fatalf("%s: %d", query, got.status)
	}
	lines := bufio.NewScanner(got.body)
	lines.Buffer(nil, 1<<20)
	return &stream{t: s.t, body: got.body, lines: lines}
}

// block returns the lines up to the next empty one, "" at the end of the stream.
// The padding is left out, and of an id its value: that is in e.id.
func (e *stream) block() string {
	e.t.Helper()
	var b strings.Builder
	for e.lines.Scan() {
		line := e.lines.Text()
		if line == "" {
			return b.String()
		}
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			e.id, line = id, "id"
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return ""
}

// want expects blocks.
func (e *stream) want(blocks ...string) {
	e.t.Helper()
	for _, want := range blocks {
		if got := e.block(); got != want {
			e.t.Fatalf("got %q (%v), want %q", got, e.lines.Err(), want)
		}
	}
}

func score(data string) string {
	return `data: {"event":"score","channel":"match.1","data":"` + data + `"}` + "\nid\n"
}

func mustPoll(t *testing.T, what string, ready func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for late := time.After(patience); !ready(); {
		select {
		case <-ticker.C:
		case <-late:
			t.Fatalf("waited too long for %s", what)
		}
	}
}
