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

func TestTransitions(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	n := startNode(t, quick, r.webhook())
	c := n.channel("presence-room")
	c.Occupied(true)
	c.Member("ada", true)
	c.Tell(pusher.WebhookEvent{Name: pusher.WebhookClientEvent, Event: "client-x", Data: "1", SocketID: "1.2", UserID: "ada"})
	r.want("channel_occupied presence-room", "member_added presence-room ada", "client_event presence-room ada")
	c.Member("ada", false)
	c.Occupied(false)
	posts := r.want("channel_occupied presence-room", "member_added presence-room ada", "client_event presence-room ada",
		"member_removed presence-room ada", "channel_vacated presence-room")
	for i, p := range posts[1:] {
		if p.made < posts[i].made || p.made == 0 {
			t.Errorf("request %d was made at %d, the one before at %d", i+1, p.made, posts[i].made)
		}
	}
	// And again, with other ids.
	c.Occupied(true)
	all := r.until("another one", func(posts []*post) bool { return len(namesOf(posts)) == 6 })
	if last := all[len(all)-1]; last.names()[0] != "channel_occupied presence-room" {
		t.Errorf("got %q", last.names())
	}
}

// Who comes back within the grace was never away (151).
func TestReload(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	n := startNode(t, Config{Grace: time.Hour}, r.webhook())
	c := n.channel("presence-room")
	c.Occupied(true)
	c.Member("ada", true)
	for range 20 {
		c.Member("ada", false)
		c.Occupied(false)
		c.Occupied(true)
		c.Member("ada", true)
	}
	// A mark comes behind whatever there is.
	n.settled()
	c.Tell(pusher.WebhookEvent{Name: pusher.WebhookClientEvent, Event: "client-mark", SocketID: "1.2"})
	r.want("channel_occupied presence-room", "member_added presence-room ada", "client_event presence-room")
}

// Filters come first: an endpoint gets what it wants to hear of, and that alone (156).
func TestFilters(t *testing.T) {
	t.Parallel()
	all, chats, members := newReceiver(t, nil), newReceiver(t, nil), newReceiver(t, nil)
	only := func(r *receiver, edit func(*app.Webhook)) app.Webhook {
		w := r.webhook()
		edit(&w)
		return w
	}
	n := startNode(t, quick, all.webhook(),
		only(chats, func(w *app.Webhook) { w.ChannelPrefix, w.ChannelSuffix = "chat-", "-x" }),
		only(members, func(w *app.Webhook) {
			w.Events = []string{"member_added"}
			w.Headers = []app.WebhookHeader{{Name: "Authorization", Value: "Bearer 7"}}
		}))
	for _, name := range []string{"chat-1", "chat-2-x", "presence-x"} {
		c := n.channel(name)
		c.Occupied(true)
		if name == "presence-x" {
			c.Member("ada", true)
		}
		n.settled()
	}
	all.until("four events", func(posts []*post) bool { return len(namesOf(posts)) == 4 })
	chats.want("channel_occupied chat-2-x")
	got := members.want("member_added presence-x ada")
	if h := got[0].header.Get("Authorization"); h != "Bearer 7" {
		t.Errorf("the extra header is %q", h)
	}
	other := newApp()
	other.ID = "78"
	if n.Channel(other, "x") != nil {
		t.Error("an app without webhooks has hooks")
	}
}

// 500 twice, then 200: three requests that are the same, and no more (153).
func TestRetry(t *testing.T) {
	t.Parallel()
	var tries atomic.Int32
	r := newReceiver(t, func(w http.ResponseWriter, _ *post) {
		if tries.Add(1) <= 2 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	n := startNode(t, quick, r.webhook())
	n.channel("a").Occupied(true)
	posts := r.until("three requests", func(posts []*post) bool { return len(posts) == 3 })
	for _, p := range posts[1:] {
		if p.body != posts[0].body || !slices.Equal(p.ids, posts[0].ids) {
			t.Errorf("%s %v, want %s %v", p.body, p.ids, posts[0].body, posts[0].ids)
		}
	}
	eventually(t, "it is counted", func() bool { return n.Stats()[0].Delivered == 1 })
	if s := n.Stats()[0]; s.Retried != 2 || s.Pending != 0 || s.Failing || s.Posts != 1 {
		t.Errorf("got %+v", s)
	}
}

// Redirects are failures, and followed by nobody.
func TestRedirect(t *testing.T) {
	t.Parallel()
	other := newReceiver(t, nil)
	r := newReceiver(t, func(w http.ResponseWriter, p *post) {
		w.Header().Set("Location", other.url)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	n := startNode(t, quick, r.webhook())
	n.channel("a").Occupied(true)
	r.until("two requests", func(posts []*post) bool { return len(posts) == 2 })
	if len(other.posts) != 0 {
		t.Error("a redirect was followed")
	}
}

// An endpoint that takes nothing is given up on, and counted; others are not delayed.
func TestBadReceivers(t *testing.T) {
	t.Parallel()
	hanging := make(chan struct{})
	hangs := newReceiver(t, func(http.ResponseWriter, *post) { <-hanging })
	defer close(hanging)
	fails := newReceiver(t, func(w http.ResponseWriter, _ *post) { w.WriteHeader(http.StatusInternalServerError) })
	cuts := newReceiver(t, func(w http.ResponseWriter, _ *post) {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.Close()
		}
	})
	down := app.Webhook{URL: "http://127.0.0.1:1/", BatchEvents: 100, Concurrency: 8, AllowPrivate: true}
	good := newReceiver(t, nil)
	cfg := quick
	cfg.RetryTime, cfg.Timeout = 3*time.Second, time.Second
	n := startNode(t, cfg, hangs.webhook(), fails.webhook(), cuts.webhook(), down, good.webhook())
	const channels = 50
	for i := range channels {
		n.channel(fmt.Sprint("room-", i)).Occupied(true)
	}
	good.until("all", func(posts []*post) bool { return len(namesOf(posts)) == channels })
	eventually(t, "the others are given up on", func() bool {
		return !slices.ContainsFunc(n.Stats()[:4], func(s Stats) bool { return s.Dropped[DroppedLate] != channels })
	})
	for _, s := range n.Stats()[:4] {
		if s.Delivered != 0 || s.Pending != 0 || !s.Failing || s.Retried == 0 {
			t.Errorf("got %+v", s)
		}
	}
}

// What was not delivered when the process was killed is delivered by the next, and who was
// there before and does not come back is told of as gone.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var up atomic.Bool
	r := newReceiver(t, func(w http.ResponseWriter, _ *post) {
		if !up.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	b, stop := brokertest.Open(t, dir, broker.Config{})
	n := newNode(t, b, Config{Grace: 50 * time.Millisecond}, r.webhook())
	for _, name := range []string{"presence-gone", "presence-back"} {
		c := n.channel(name)
		c.Occupied(true)
		c.Member("ada", true)
		n.settled()
	}
	r.until("a try", func(posts []*post) bool { return len(posts) > 0 })
	n.die()
	stop()
	r.mu.Lock()
	r.posts = nil
	r.mu.Unlock()
	up.Store(true)
	b, stop = brokertest.Open(t, dir, broker.Config{})
	defer stop()
	n = newNode(t, b, Config{Grace: 50 * time.Millisecond, Return: time.Second}, r.webhook())
	c := n.channel("presence-back")
	c.Occupied(true)
	c.Member("ada", true)
	r.want("channel_occupied presence-gone", "member_added presence-gone ada", "channel_occupied presence-back", "member_added presence-back ada",
		"member_removed presence-gone ada", "channel_vacated presence-gone")
	n.stop()
}

// Who goes once the node sends its clients away is not told of as gone, however long that
// takes.
func TestHold(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	n := startNode(t, Config{Grace: time.Millisecond}, r.webhook())
	c := n.channel("a")
	c.Occupied(true)
	r.want("channel_occupied a")
	n.Hold()
	c.Occupied(false)
	_ = broker.Pause(t.Context(), 5*expirePeriod) // a mark would not wait for the grace
	n.channel("b").Occupied(true)
	r.want("channel_occupied a", "channel_occupied b")
}

// Closing tells of nobody as gone: clients come back to another node, or to the next start.
func TestClose(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newReceiver(t, nil)
	b, stop := brokertest.Open(t, dir, broker.Config{})
	n := newNode(t, b, Config{Grace: time.Hour}, r.webhook())
	c := n.channel("a")
	c.Occupied(true)
	r.want("channel_occupied a")
	c.Occupied(false)
	c.Tell(pusher.WebhookEvent{Name: pusher.WebhookClientEvent, Event: "client-last", SocketID: "1.2"})
	n.stop()
	stop()
	b, stop = brokertest.Open(t, dir, broker.Config{})
	defer stop()
	n = newNode(t, b, Config{Grace: time.Hour, Return: time.Hour}, r.webhook())
	n.channel("b").Occupied(true)
	r.until("what was told last, and the next", func(posts []*post) bool {
		names := namesOf(posts)
		return slices.Contains(names, "client_event a") && slices.Contains(names, "channel_occupied b")
	})
	n.stop()
}

// One channel's cache_miss is told once for all who ask (157).
func TestCacheMiss(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	n := startNode(t, quick, r.webhook())
	for range 3 {
		c := n.channel("cache-a") // another one on each node
		for range 50 {
			c.Tell(pusher.WebhookEvent{Name: pusher.WebhookCacheMiss})
		}
		n.settled()
	}
	n.channel("b").Occupied(true)
	r.want("cache_miss cache-a", "channel_occupied b")
}

// Off means one event per request; and a channel's order is kept by several at once (155).
func TestBatches(t *testing.T) {
	t.Parallel()
	single, many := newReceiver(t, nil), newReceiver(t, nil)
	one := single.webhook()
	one.BatchEvents = 1
	n := startNode(t, quick, one, many.webhook())
	const channels, events = 10, 30
	for i := range events {
		for c := range channels {
			n.channel(fmt.Sprint("private-", c)).Tell(pusher.WebhookEvent{Name: pusher.WebhookClientEvent, Event: fmt.Sprint("client-", i), SocketID: "1.2"})
		}
	}
	for _, r := range []*receiver{single, many} {
		posts := r.until("all", func(posts []*post) bool { return len(namesOf(posts)) == channels*events })
		next := make(map[any]int)
		for _, p := range posts {
			for _, e := range p.events {
				if want := fmt.Sprint("client-", next[e["channel"]]); e["event"] != want {
					t.Fatalf("%v has %v, want %s", e["channel"], e["event"], want)
				}
				next[e["channel"]]++
			}
		}
		if r == single && len(posts) != channels*events {
			t.Errorf("%d requests for %d events", len(posts), channels*events)
		}
	}
}

// More than there is memory for is dropped and counted, and holds up nobody.
func TestTooManyEvents(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	n := startNode(t, Config{Memory: 1}, r.webhook())
	n.channel("private-a").Tell(pusher.WebhookEvent{Name: pusher.WebhookClientEvent, Event: "client-x", SocketID: "1.2"})
	if got := n.Stats()[0].Dropped[DroppedMemory]; got != 1 {
		t.Errorf("%d are counted", got)
	}
	n.channel("private-a").Occupied(true)
	r.want("channel_occupied private-a")
}
