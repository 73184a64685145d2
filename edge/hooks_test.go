package edge

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"reecho/edge/app"
	"reecho/edge/pusher"
)

// recordHooks are Hooks that want to hear of all, and remember it.
type recordHooks struct {
	mu    sync.Mutex
	heard []string
}

func (r *recordHooks) Channel(_ *app.App, name string) ChannelHooks { return &recordChannel{r, name} }

func (r *recordHooks) add(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = append(r.heard, text)
}

func (r *recordHooks) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.heard)
}

type recordChannel struct {
	hooks *recordHooks
	name  string
}

func (c *recordChannel) Occupied(occupied bool) {
	c.hooks.add(fmt.Sprint(c.name, " occupied ", occupied))
}

func (c *recordChannel) Member(userID string, present bool) {
	c.hooks.add(fmt.Sprint(c.name, " ", userID, " ", present))
}

func (c *recordChannel) Tell(e pusher.WebhookEvent) {
	c.hooks.add(fmt.Sprint(c.name, " ", e.Name, " ", e.Count))
}

// mustAttachOnce attaches a guest that the test has leave.
func mustAttachOnce(t *testing.T, h *Hub, a *app.App) *Guest {
	t.Helper()
	conn := &recordConn{silentConn: silentConn{heard: time.Now().Add(time.Hour)}}
	g, refusal := h.Attach(h.tenants[a], Peer{Conn: conn, ID: pusher.NewSocketID()})
	if refusal != nil {
		t.Fatal(refusal)
	}
	return g
}

// One after the other comes and goes: hooks hear of the first and the last, of a channel
// and of a user, and nothing of what is internal.
func TestHooks(t *testing.T) {
	t.Parallel()
	hooks := &recordHooks{}
	h, a, _ := mustServe(t, Config{Hooks: hooks})
	var guests []*Guest
	for range 2 {
		g := mustAttachOnce(t, h, a)
		g.SignIn(pusher.User{ID: "ada"}, `{"id":"ada"}`)
		for _, name := range []string{"presence-room", "cache-a", "#server-to-user-ada"} {
			in := pusher.Subscribe{Channel: name}
			if name == "presence-room" {
				in.Auth = a.Key() + ":" + pusher.Sign(a.Credentials[0].Secret, g.client.ID().String()+":"+name)
			}
			g.Subscribe(in, nil)
		}
		guests = append(guests, g)
	}
	for _, g := range guests {
		g.Leave(nil)
	}
	got := hooks.all()
	slices.Sort(got)
	want := []string{
		"cache-a cache_miss 0", "cache-a cache_miss 0", "cache-a occupied false", "cache-a occupied true",
		"presence-room ada false", "presence-room ada true", "presence-room occupied false", "presence-room occupied true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Counts are of all nodes, and told by one of them.
func TestMeshHooksCount(t *testing.T) {
	t.Parallel()
	var nodes []*meshNode
	var all []*recordHooks
	for _, b := range mustBrokers(t, 2) {
		n := newMeshNode(t, b)
		hooks := &recordHooks{}
		n.node.cfg.Hooks, n.app.SubscriptionCounts = hooks, true
		nodes, all = append(nodes, n), append(all, hooks)
	}
	for _, n := range nodes {
		n.join()
	}
	for _, n := range nodes {
		n.wantPeers(1)
	}
	counts := func() (told []string) {
		for _, hooks := range all {
			for _, text := range hooks.all() {
				if text != "match.1 occupied true" && text != "match.1 occupied false" {
					told = append(told, text)
				}
			}
		}
		return told
	}
	first := mustAttachOnce(t, nodes[0].Hub, nodes[0].app)
	first.Subscribe(pusher.Subscribe{Channel: "match.1"}, nil)
	mustPoll(t, "the first to be counted", func() bool { return slices.Equal(counts(), []string{"match.1 subscription_count 1"}) })
	second := mustAttachOnce(t, nodes[1].Hub, nodes[1].app)
	second.Subscribe(pusher.Subscribe{Channel: "match.1"}, nil)
	twice := func() int {
		n := 0
		for _, text := range counts() {
			if text == "match.1 subscription_count 2" {
				n++
			}
		}
		return n
	}
	mustPoll(t, "the second to be counted", func() bool { return twice() > 0 })
	second.Leave(nil)
	first.Leave(nil)
	mustPoll(t, "nobody to be counted", func() bool { return slices.Contains(counts(), "match.1 subscription_count 0") })
	if n := twice(); n != 1 {
		t.Errorf("%d times it was told that there are two: %q", n, counts())
	}
}
