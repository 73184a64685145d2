package webhook

import (
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/edge/app"
	"reecho/edge/pusher"
)

// meshNode is one of several nodes.
type meshNode struct {
	*node
	shared *brokertest.SharedBroker
}

// startMesh runs three services that know each other.
func startMesh(t *testing.T, cfg Config, webhooks ...app.Webhook) []*meshNode {
	t.Helper()
	const size = 3
	cfgs := make([]broker.Config, size)
	for i := range cfgs {
		cfgs[i].Node = fmt.Sprintf("node-%d", i+1)
	}
	nodes := make([]*meshNode, size)
	for i, b := range brokertest.StartShared(t, cfgs...) {
		nodes[i] = &meshNode{newNode(t, b.Broker, cfg, webhooks...), b}
		if err := b.Nodes().Start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes {
		eventually(t, "all nodes know each other", func() bool { return len(n.nodes.Peers()) == size-1 })
	}
	return nodes
}

// kill ends a node as kill -9 does.
func (n *meshNode) kill() {
	n.t.Helper()
	n.shared.Die()
	n.die()
}

// Nodes get and lose a channel and a member at the same time: each transition is told once.
func TestMeshTransitions(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	nodes := startMesh(t, quick, r.webhook())
	const rounds = 5
	for i := range rounds {
		for _, present := range []bool{true, false} {
			for _, n := range nodes {
				c := n.channel("presence-room")
				if present {
					c.Occupied(true)
					c.Member("ada", true)
				} else {
					c.Member("ada", false)
					c.Occupied(false)
				}
			}
			want := 4*i + 2
			if !present {
				want += 2
			}
			r.until("all to come or go", func(posts []*post) bool { return len(namesOf(posts)) >= want })
			for _, n := range nodes {
				n.settled()
			}
		}
	}
	got := namesOf(r.posts)
	for _, subject := range [][]string{{"channel_occupied presence-room", "channel_vacated presence-room"}, {"member_added presence-room ada", "member_removed presence-room ada"}} {
		i := 0
		for _, name := range got {
			if slices.Contains(subject, name) {
				if name != subject[i%2] {
					t.Fatalf("got %q", got)
				}
				i++
			}
		}
		if i != 2*rounds {
			t.Errorf("%d transitions, want %d: %q", i, 2*rounds, got)
		}
	}
}

// A node dies with a channel and a member of its own, and with ones that another has, too:
// the former are told of as gone, once.
func TestMeshDeath(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	nodes := startMesh(t, quick, r.webhook())
	own, both := nodes[0].channel("presence-own"), nodes[0].channel("presence-both")
	own.Occupied(true)
	own.Member("ada", true)
	both.Occupied(true)
	both.Member("ada", true)
	both.Member("bob", true)
	nodes[0].settled()
	other := nodes[1].channel("presence-both")
	other.Occupied(true)
	other.Member("bob", true)
	nodes[1].settled()
	r.until("five events", func(posts []*post) bool { return len(namesOf(posts)) == 5 })
	nodes[0].kill()
	r.until("what went with it", func(posts []*post) bool { return len(namesOf(posts)) == 8 })
	other.Member("bob", false)
	other.Occupied(false)
	posts := r.until("the rest", func(posts []*post) bool { return len(namesOf(posts)) >= 10 })
	got := namesOf(posts)[5:]
	slices.Sort(got)
	if want := []string{
		"channel_vacated presence-both", "channel_vacated presence-own",
		"member_removed presence-both ada", "member_removed presence-both bob", "member_removed presence-own ada",
	}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The node that delivers dies before what there is was taken: another delivers it.
func TestMeshSenderDies(t *testing.T) {
	t.Parallel()
	var up atomic.Bool
	r := newReceiver(t, func(w http.ResponseWriter, _ *post) {
		if !up.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	w := r.webhook()
	w.BatchEvents = 1
	nodes := startMesh(t, Config{Grace: time.Hour}, w)
	sends := func(n *meshNode) bool { return n.endpoints[0].stats.pending.Load() > 0 }
	const events = 20
	for i := range events {
		nodes[i%3].channel("private-a").Tell(pusher.WebhookEvent{Name: pusher.WebhookClientEvent, Event: fmt.Sprint("client-", i), SocketID: "1.2"})
		nodes[i%3].settled()
	}
	eventually(t, "one of them delivers", func() bool { return slices.ContainsFunc(nodes, sends) })
	i := slices.IndexFunc(nodes, sends)
	if slices.ContainsFunc(slices.Delete(slices.Clone(nodes), i, i+1), sends) {
		t.Error("two nodes deliver")
	}
	nodes[i].kill()
	r.mu.Lock()
	r.posts = nil
	r.mu.Unlock()
	up.Store(true)
	posts := r.until("all", func(posts []*post) bool { return len(namesOf(posts)) == events })
	for i, p := range posts {
		if want := fmt.Sprint("client-", i); p.events[0]["event"] != want {
			t.Errorf("%d is %v, want %s", i, p.events[0]["event"], want)
		}
	}
}

// A node that stops has another deliver, at once and without repeats.
func TestMeshSenderStops(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	nodes := startMesh(t, Config{Grace: time.Hour}, r.webhook())
	for i := range 3 {
		nodes[i].channel(fmt.Sprint("room-", i)).Occupied(true)
		r.until("the event", func(posts []*post) bool { return len(namesOf(posts)) == i+1 })
		if i < 2 {
			nodes[i].nodes.Close()
			nodes[i].stop()
		}
	}
	if n := len(slices.Concat(namesOf(r.posts))); n != 3 || len(r.posts) != 3 {
		t.Errorf("%d events in %d requests", n, len(r.posts))
	}
}

// A cache_miss on several nodes is told once (157).
func TestMeshCacheMiss(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	nodes := startMesh(t, quick, r.webhook())
	for _, n := range nodes {
		c := n.channel("cache-a")
		for range 20 {
			c.Tell(pusher.WebhookEvent{Name: pusher.WebhookCacheMiss})
		}
	}
	for _, n := range nodes {
		n.settled()
	}
	nodes[0].channel("b").Occupied(true)
	r.want("cache_miss cache-a", "channel_occupied b")
}
