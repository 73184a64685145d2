package xhr

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

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
	testQuery  = "?protocol=7&client=js&version=8.6.0"
	// patience is how long a test waits for something that must happen.
	patience = 20 * time.Second
)

// server is a handler behind a real server.
type server struct {
	t       *testing.T
	hub     *edge.Hub
	app     *app.App
	handler *Handler
	addr    string
	client  *http.Client
	stop    func() // once
}

// mustServe starts a server with one app, with what change makes of it.
func mustServe(t *testing.T, cfg Config, change func(*app.App)) *server {
	t.Helper()
	return mustServeOver(t, brokertest.Start(t, broker.Config{}), cfg, change)
}

// mustServeOver is mustServe over a broker, which joins its cluster.
func mustServeOver(t *testing.T, b *broker.Broker, cfg Config, change func(*app.App)) *server {
	t.Helper()
	a := &app.App{
		ID: "77", Credentials: []app.Credential{{Key: testKey, Secret: testSecret}}, Enabled: true, UserAuthentication: true, ClientEvents: true,
		ActivityTimeout: app.DefaultActivityTimeout, Limits: app.DefaultLimits(),
	}
	if change != nil {
		change(a)
	}
	s := &server{t: t, app: a, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 20}}}
	apps, err := app.NewRegistry([]*app.App{a})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if s.hub, err = edge.NewHub(t.Context(), edge.Config{PathPrefix: cfg.PathPrefix}, apps, b, log); err != nil {
		t.Fatal(err)
	}
	if s.handler, err = New(cfg, s.hub, b.Nodes(), log); err != nil {
		t.Fatal(err)
	}
	if err := b.Nodes().Start(); err != nil {
		t.Fatal(err)
	}
	front, err := socket.NewServer(socket.Config{}, s.hub, s.handler, log)
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
	s.stop = sync.OnceFunc(func() {
		s.client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		closed := make(chan error, 1)
		s.handler.Leave()
		go func() { closed <- s.hub.Close(ctx, 0) }()
		if err := errors.Join(front.Shutdown(ctx), <-closed, <-served); err != nil {
			t.Error(err)
		}
		s.handler.Close()
		s.client.CloseIdleConnections()
	})
	t.Cleanup(s.stop)
	return s
}

// request makes a request with a path behind the app's.
func (s *server) request(ctx context.Context, method, path, body string) *http.Request {
	s.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+s.addr+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// answer is the whole of one.
type answer struct {
	status int
	header http.Header
	body   string
}

// do makes a request, and returns its answer.
func (s *server) do(r *http.Request) answer {
	s.t.Helper()
	response, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(body)}
}

// peer is a client with a transport session.
type peer struct {
	*server
	path     string // of the session
	socketID string
	waiting  []string // messages that came and were not looked at
	ended    string   // the frame c
	opened   int      // frames o
	beats    int
}

// peer makes a client with a session of this id, which is not begun yet.
func (s *server) peer(id string) *peer {
	return &peer{server: s, path: "/pusher/app/" + testKey + "/" + id}
}

// read takes a line of an answer.
func (p *peer) read(line string) {
	p.t.Helper()
	switch line = strings.TrimSuffix(line, "\n"); {
	case line == "o{}":
		p.opened++
	case line == "h":
		p.beats++
	case strings.HasPrefix(line, "a["):
		var messages []string
		if err := json.Unmarshal([]byte(line[1:]), &messages); err != nil {
			p.t.Fatalf("%s: %v", line, err)
		}
		p.waiting = append(p.waiting, messages...)
	case strings.HasPrefix(line, "c["):
		p.ended = line
	default:
		p.t.Fatalf("got %q", line)
	}
}

// poll makes one poll.
func (p *peer) poll() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	got := p.do(p.request(ctx, http.MethodPost, p.path+"/xhr"+testQuery, ""))
	if got.status != http.StatusOK || got.body == "" {
		p.t.Fatalf("%d: %q", got.status, got.body)
	}
	for line := range strings.Lines(got.body) {
		p.read(line)
	}
}

// stream is an answer that goes on.
type stream struct {
	*peer
	lines *bufio.Reader
	hang  context.CancelFunc
	size  int // UTF-16 code units
}

// stream opens a stream.
func (p *peer) stream() *stream {
	p.t.Helper()
	ctx, hang := context.WithTimeout(p.t.Context(), patience)
	p.t.Cleanup(hang)
	response, err := p.client.Do(p.request(ctx, http.MethodPost, p.path+"/xhr_streaming"+testQuery, ""))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		p.t.Fatal(response.Status)
	}
	return &stream{peer: p, lines: bufio.NewReader(response.Body), hang: hang}
}

// more reads the next line, and reports false at the end.
func (s *stream) more() bool {
	s.t.Helper()
	line, err := s.lines.ReadString('\n')
	if err != nil {
		return false
	}
	s.size += len(utf16.Encode([]rune(line)))
	s.read(line)
	return true
}

// receiverOf is what a peer reads with: poll, or must of a stream.
type receiverOf func()

// next returns the next message.
func (p *peer) next(receive receiverOf) string {
	p.t.Helper()
	for len(p.waiting) == 0 {
		if p.ended != "" {
			p.t.Fatalf("the session ended: %s", p.ended)
		}
		receive()
	}
	m := p.waiting[0]
	p.waiting = p.waiting[1:]
	return m
}

// want returns the next message, which must be of an event.
func (p *peer) want(event string, receive receiverOf) string {
	p.t.Helper()
	m := p.next(receive)
	if !strings.HasPrefix(m, `{"event":"`+event+`"`) {
		p.t.Fatalf("got %s, want %s", m, event)
	}
	return m
}

// established reads the first message.
func (p *peer) established(receive receiverOf) {
	p.t.Helper()
	var frame struct{ Data string }
	var data struct {
		SocketID string `json:"socket_id"`
	}
	m := p.want("pusher:connection_established", receive)
	if err := errors.Join(json.Unmarshal([]byte(m), &frame), json.Unmarshal([]byte(frame.Data), &data)); err != nil {
		p.t.Fatal(err)
	}
	p.socketID = data.SocketID
}

// must reads from a stream that must not end.
func (s *stream) must() {
	s.t.Helper()
	if !s.more() {
		s.t.Fatal("the stream ended")
	}
}

// post sends a body, and returns the status and what was said.
func (p *peer) post(body string) (int, string) {
	p.t.Helper()
	got := p.do(p.request(p.t.Context(), http.MethodPost, p.path+"/xhr_send", body))
	return got.status, got.body
}

// send sends events.
func (p *peer) send(events ...string) {
	p.t.Helper()
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(events); err != nil {
		p.t.Fatal(err)
	}
	if status, text := p.post(body.String()); status != http.StatusNoContent {
		p.t.Fatalf("%d %s", status, text)
	}
}

// subscription is the event that subscribes to a channel, with what it needs.
func (p *peer) subscription(channel, channelData string) string {
	data := map[string]string{"channel": channel}
	text := p.socketID + ":" + channel
	if channelData != "" {
		data["channel_data"] = channelData
		text += ":" + channelData
	}
	if pusher.KindOf(channel).Has(pusher.Private) {
		data["auth"] = testKey + ":" + pusher.Sign(testSecret, text)
	}
	event, _ := json.Marshal(map[string]any{"event": "pusher:subscribe", "data": data})
	return string(event)
}

// publish publishes an event on the channel chat.
func (s *server) publish(data string) {
	s.t.Helper()
	if err := s.hub.Publish(s.t.Context(), s.app, []pusher.Publish{{Name: "score", Data: data, Channels: []string{"chat"}}}); err != nil {
		s.t.Fatal(err)
	}
}

// until waits for something.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); {
		if time.Now().After(end) {
			t.Fatalf("gave up waiting for %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// open is how many sessions there are.
func (s *server) open() int { return int(s.handler.counts.open.Load()) }
