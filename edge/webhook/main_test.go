package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/edge"
	"reecho/edge/app"
	"reecho/edge/pusher"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

var silent = slog.New(slog.DiscardHandler)

// post is a request that a receiver got.
type post struct {
	header http.Header
	body   string
	ids    []string
	made   int64
	events []map[string]any
}

// names are the events as "name channel user".
func (p *post) names() []string {
	names := make([]string, len(p.events))
	for i, e := range p.events {
		names[i] = strings.TrimSpace(fmt.Sprintf("%v %v %v", e["name"], e["channel"], valueOr(e["user_id"])))
	}
	return names
}

func valueOr(v any) any {
	if v == nil {
		return ""
	}
	return v
}

// receiver is an endpoint. It answers what answer says, 200 by default.
type receiver struct {
	t      *testing.T
	url    string
	answer func(w http.ResponseWriter, p *post)

	mu      sync.Mutex
	changed *sync.Cond
	posts   []*post
}

func newReceiver(t *testing.T, answer func(w http.ResponseWriter, p *post)) *receiver {
	t.Helper()
	r := &receiver{t: t, answer: answer}
	r.changed = sync.NewCond(&r.mu)
	server := httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	p := &post{header: req.Header, body: string(body), ids: strings.Split(req.Header.Get(app.HeaderWebhookIDs), ",")}
	var text struct {
		Made   int64            `json:"time_ms"`
		Events []map[string]any `json:"events"`
	}
	if err := json.Unmarshal(body, &text); err != nil {
		r.t.Errorf("the body %s is no JSON: %v", body, err)
	}
	p.made, p.events = text.Made, text.Events
	if len(p.ids) != len(p.events) {
		r.t.Errorf("%d ids for %d events", len(p.ids), len(p.events))
	}
	if got, want := p.header.Get("X-Pusher-Signature"), pusher.Sign("secret", p.body); got != want || p.header.Get("X-Pusher-Key") != "key" {
		r.t.Errorf("key %q, signature %q, want %q", p.header.Get("X-Pusher-Key"), got, want)
	}
	if got := p.header.Get("Content-Type"); got != "application/json" {
		r.t.Errorf("content type %q", got)
	}
	r.mu.Lock()
	r.posts = append(r.posts, p)
	r.changed.Broadcast()
	answer := r.answer
	r.mu.Unlock()
	if answer != nil {
		answer(w, p)
	}
}

// until waits until test is true of the requests up to now, and returns those.
func (r *receiver) until(what string, test func(posts []*post) bool) []*post {
	r.t.Helper()
	deadline := time.AfterFunc(patience, r.changed.Broadcast)
	defer deadline.Stop()
	late := time.Now().Add(patience)
	r.mu.Lock()
	defer r.mu.Unlock()
	for !test(r.posts) {
		if time.Now().After(late) {
			r.t.Fatalf("gave up waiting for %s; got %q", what, namesOf(r.posts))
		}
		r.changed.Wait()
	}
	return slices.Clone(r.posts)
}

// want waits for events, by their names, and nothing else, in any number of requests: in
// this order for each channel. Repeats, by their ids, are not counted.
func (r *receiver) want(names ...string) []*post {
	r.t.Helper()
	posts := r.until(fmt.Sprintf("%q", names), func(posts []*post) bool { return len(namesOf(posts)) >= len(names) })
	if got := namesOf(posts); !slices.Equal(byChannel(got), byChannel(names)) {
		r.t.Fatalf("got %q, want %q", got, names)
	}
	return posts
}

// byChannel sorts names by channel alone.
func byChannel(names []string) []string {
	names = slices.Clone(names)
	slices.SortStableFunc(names, func(a, b string) int { return strings.Compare(strings.Fields(a)[1], strings.Fields(b)[1]) })
	return names
}

func namesOf(posts []*post) (names []string) {
	seen := make(map[string]bool)
	for _, p := range posts {
		for i, name := range p.names() {
			if !seen[p.ids[i]] {
				seen[p.ids[i]] = true
				names = append(names, name)
			}
		}
	}
	return names
}

func (r *receiver) webhook() app.Webhook {
	return app.Webhook{URL: r.url, BatchEvents: 100, Concurrency: 8, AllowPrivate: true}
}

func newApp(webhooks ...app.Webhook) *app.App {
	return &app.App{
		ID: "77", Credentials: []app.Credential{{Key: "key", Secret: "secret"}}, Enabled: true,
		Webhooks: webhooks, Limits: app.DefaultLimits(),
	}
}

// node is a service with its broker.
type node struct {
	*Service
	t      *testing.T
	app    *app.App
	broker *broker.Broker
}

// quick is a Config for tests.
var quick = Config{Grace: 50 * time.Millisecond, Return: 50 * time.Millisecond}

func startNode(t *testing.T, cfg Config, webhooks ...app.Webhook) *node {
	t.Helper()
	return newNode(t, brokertest.Start(t, broker.Config{}), cfg, webhooks...)
}

// newNode runs a service over a broker, which ends with the test.
func newNode(t *testing.T, b *broker.Broker, cfg Config, webhooks ...app.Webhook) *node {
	t.Helper()
	n := &node{t: t, app: newApp(webhooks...), broker: b}
	apps, err := app.NewRegistry([]*app.App{n.app})
	if err != nil {
		t.Fatal(err)
	}
	if n.Service, err = New(t.Context(), cfg, apps, b, silent); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.stop)
	return n
}

// stop ends the service. It may be called again.
func (n *node) stop() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s := n.Service
	n.Service = nil
	if err := s.Close(ctx); err != nil {
		n.t.Error(err)
	}
}

// die ends the service as a process ends that is killed: nothing is stored any more.
func (n *node) die() {
	n.t.Helper()
	s := n.Service
	n.Service = nil
	s.tracker.close()
	s.stopAll()
	s.working.Wait()
	s.tasks.Wait()
}

func (n *node) channel(name string) edge.ChannelHooks {
	n.t.Helper()
	c := n.Channel(n.app, name)
	if c == nil {
		n.t.Fatalf("nobody wants to hear of %s", name)
	}
	return c
}

// settled waits until all that there was to tell is stored.
func (n *node) settled() {
	n.t.Helper()
	eventually(n.t, "all is stored", func() bool { return n.tracker.pending() == 0 })
}

func eventually(t *testing.T, what string, test func() bool) {
	t.Helper()
	for late := time.Now().Add(patience); !test(); {
		if time.Now().After(late) {
			t.Fatalf("gave up waiting until %s", what)
		}
		_ = broker.Pause(t.Context(), 5*time.Millisecond)
	}
}
