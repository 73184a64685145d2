package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reecho/broker/brokertest"
	"reecho/broker/brokertest/seed"
	"reecho/edge/app"
	"reecho/edge/config"
)

func plainMesh(int, *config.Config) {}

// isolate cuts a node off from the others, as if its process were killed or its network
// gone, without a goodbye. Its clients stay. mend brings it back.
func (s *server) isolate(t *testing.T) (mend func()) {
	t.Helper()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	// A restart that nobody waits for ends the server alone.
	if err := s.NATS().Restart(gone); err == nil {
		t.Fatal("the server was restarted")
	}
	return sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), meshStart)
		defer cancel()
		if err := s.NATS().Restart(ctx); err != nil {
			t.Errorf("bring the node back: %v", err)
			return
		}
		brokertest.WaitCurrent(t, s.NATS(), s.name)
	})
}

// watcher is a client in the lobby with what it knows of the members.
type watcher struct {
	*client
	view
}

// enter joins the lobby as a user.
func (s *server) enter(t *testing.T, id string) *watcher {
	t.Helper()
	w := &watcher{client: s.connect(t), view: view{}}
	w.take(t, w.join(lobby, fmt.Sprintf(`{"user_id":%q}`, id)))
	return w
}

// wantMembers follows what w is told until it knows these members.
func (w *watcher) wantMembers(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	for !slices.Equal(w.members(), want) {
		w.follow(w.client)
	}
}

// wantTold is the next that w is told: a change of a member.
func (w *watcher) wantTold(event, id string) {
	w.t.Helper()
	f := w.wantOn(lobby, "pusher_internal:"+event)
	var data struct {
		UserID string `json:"user_id"`
	}
	if err := json.Unmarshal([]byte(f.text(w.t)), &data); err != nil || data.UserID != id {
		w.t.Fatalf("got %s, want %s of %s", f.raw, event, id)
	}
	w.take(w.t, f)
}

// Members of all nodes are one list, from the first frame on; a user on two nodes is
// one member, who goes with the last of them.
func TestMeshPresence(t *testing.T) {
	t.Parallel()
	servers := startMesh(t, 3, plainMesh)
	a := servers[0].enter(t, "a")
	c := servers[2].enter(t, "c")
	a.wantTold("member_added", "c")
	b := servers[1].connect(t)
	f := b.join(lobby, `{"user_id":"b","user_info":{"name":"<Zoë>"}}`)
	if text := f.text(t); !strings.Contains(text, `"count":3`) {
		t.Errorf("the first on its node begins with %s", text)
	}
	for _, w := range []*watcher{a, c} {
		f := w.wantOn(lobby, "pusher_internal:member_added")
		if f.text(t) != `{"user_id":"b","user_info":{"name":"<Zoë>"}}` {
			t.Errorf("got %s", f.raw)
		}
		w.take(t, f)
	}
	// A user on two nodes.
	again := servers[2].connect(t)
	again.join(lobby, `{"user_id":"a"}`)
	// What different nodes tell is in no order: all know of the second one when they
	// know of who came to its node behind it.
	servers[2].enter(t, "marker")
	c.wantTold("member_added", "marker")
	b.wantOn(lobby, "pusher_internal:member_added")
	poll(t, "all clients to be counted", func() bool { return servers[0].connections() == 5 })
	_ = a.conn.Close()
	poll(t, "the client to be gone", func() bool { return servers[0].connections() == 4 })
	_ = again.conn.Close()
	c.wantTold("member_removed", "a")
	if f := b.wantOn(lobby, "pusher_internal:member_removed"); f.text(t) != `{"user_id":"a"}` {
		t.Errorf("got %s", f.raw)
	}
	c.wantNothing()
	b.wantNothing()
}

// connections is how many there are on all nodes.
func (s *server) connections() int { return s.Hub().Connections(s.Hub().Apps().ByID(appID)) }

// The first subscribers of a channel that come to two nodes at the same moment, so that
// what each node tells crosses the other's first look, get to know each other.
func TestMeshPresenceFirst(t *testing.T) {
	t.Parallel()
	servers := startMesh(t, 3, plainMesh)
	const rooms = 100
	clients := []*client{servers[0].connect(t), servers[1].connect(t)}
	var joining sync.WaitGroup
	for i, c := range clients {
		joining.Go(func() {
			for r := range rooms {
				c.trySubscribe(fmt.Sprintf("presence-%d", r), fmt.Sprintf(`{"user_id":"user-%d"}`, i))
			}
		})
	}
	joining.Wait()
	for i, c := range clients {
		other := fmt.Sprintf(`"user-%d"`, 1-i)
		for known, joined := map[string]bool{}, 0; len(known) < rooms || joined < rooms; {
			f := c.next()
			if f.Event == "pusher_internal:subscription_succeeded" {
				joined++
			}
			if !strings.Contains(f.text(t), other) {
				continue
			}
			if known[*f.Channel] {
				t.Fatalf("%s is told of twice: %s", other, f.raw)
			}
			known[*f.Channel] = true
		}
	}
}

// GET /users and user_count are those of all nodes, also on one that does not follow
// the channel.
func TestMeshPresenceAPI(t *testing.T) {
	t.Parallel()
	servers := startMesh(t, 3, plainMesh)
	servers[0].enter(t, "a")
	servers[1].enter(t, "b").wantMembers("a", "b")
	for i, s := range servers {
		poll(t, "the members to be known", func() bool { return slices.Equal(s.members(), []string{"a", "b"}) })
		_, body := s.call("GET", "/apps/"+appID+"/channels/"+lobby, map[string][]string{"info": {"user_count"}}, "")
		if !strings.Contains(body, `"user_count":2`) {
			t.Errorf("node %d says %s", i+1, body)
		}
	}
}

// The limit is that of all nodes together, and of users, not of sockets.
func TestMeshPresenceLimit(t *testing.T) {
	t.Parallel()
	servers := startMesh(t, 3, plainMesh, demoApp(func(a *app.App) { a.Limits.PresenceMembers = 3 }))
	a := servers[0].enter(t, "a")
	servers[1].enter(t, "b").wantMembers("a", "b")
	servers[2].enter(t, "c").wantMembers("a", "b", "c")
	a.wantMembers("a", "b", "c")
	c := servers[0].connect(t)
	c.trySubscribe(lobby, `{"user_id":"d"}`)
	c.wantError(0, "3 members")
	c.join(lobby, `{"user_id":"c"}`)
}

// A node that is cut off takes its members with it, each user once; when it is back the
// difference is told, there too.
func TestMeshPresenceCutOff(t *testing.T) {
	t.Parallel()
	servers := startMesh(t, 3, plainMesh)
	a, b := servers[0].enter(t, "a"), servers[1].enter(t, "b")
	lost := servers[2].enter(t, "c")
	second := servers[2].enter(t, "b") // there elsewhere too
	for _, w := range []*watcher{a, b, lost, second} {
		w.wantMembers("a", "b", "c")
	}
	mend := servers[2].isolate(t)
	defer mend()
	a.wantTold("member_removed", "c")
	b.wantTold("member_removed", "c")
	a.wantNothing()
	b.wantNothing()
	lost.wantMembers("c", "b")
	second.wantMembers("c", "b")
	// Who comes meanwhile is not told of the lost ones, and comes to be known there.
	d := servers[0].enter(t, "d")
	a.wantTold("member_added", "d")
	b.wantTold("member_added", "d")
	mend()
	for _, w := range []*watcher{a, b, d, lost, second} {
		w.wantMembers("a", "b", "c", "d")
	}
	for _, w := range []*watcher{a, b, d, lost, second} {
		w.wantNothing()
	}
}

// What a node misses while it hears nothing is told to its clients when it hears again,
// whether it was taken for dead or not.
func TestMeshPresenceSilence(t *testing.T) {
	t.Parallel()
	servers := startMesh(t, 3, plainMesh)
	a, b := servers[0].enter(t, "a"), servers[1].enter(t, "b")
	c := servers[2].enter(t, "c")
	for _, w := range []*watcher{a, b, c} {
		w.wantMembers("a", "b", "c")
	}
	mend := servers[2].isolate(t)
	_ = b.conn.Close()
	servers[0].enter(t, "d").wantMembers("a", "c", "d")
	servers[2].enter(t, "e")
	mend()
	a.wantMembers("a", "c", "d", "e")
	c.wantMembers("a", "c", "d", "e")
}

// A node that is closed takes its members with it, each user once.
func TestMeshPresenceDrain(t *testing.T) {
	t.Parallel()
	servers := startMesh(t, 3, plainMesh)
	a := servers[0].enter(t, "a")
	want := []string{"a"}
	for i := range 20 {
		id := fmt.Sprintf("user-%d", i)
		servers[2].enter(t, id)
		want = append(want, id)
	}
	a.wantMembers(want...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := servers[2].close(ctx); err != nil {
		t.Fatal(err)
	}
	a.wantMembers("a")
	a.wantNothing()
}

// Whatever clients on three nodes do at random, in the end all of them know the same
// members as each node.
func TestMeshPresenceChurn(t *testing.T) {
	t.Parallel()
	servers := startMesh(t, 3, plainMesh)
	const clients, turns = 15, 60
	first := seed.First(t)
	var wg sync.WaitGroup
	all := make([]*watcher, clients)
	want := map[string]bool{}
	for i := range all {
		all[i] = &watcher{client: servers[i%3].connect(t), view: view{}}
		want[fmt.Sprintf("user-%d", i%7)] = true
	}
	for i, w := range all {
		random := rand.New(rand.NewPCG(first, uint64(i)))
		wg.Go(func() {
			id := fmt.Sprintf(`{"user_id":"user-%d"}`, i%7)
			for range turns {
				w.trySubscribe(lobby, id)
				for random.IntN(3) == 0 {
					w.trySubscribe(lobby, id) // an error
				}
				w.send("pusher:unsubscribe", "", map[string]any{"channel": lobby})
			}
			w.trySubscribe(lobby, id)
			w.trySubscribe("done", "")
		})
	}
	wg.Wait()
	ids := view(want).members()
	for i, s := range servers {
		poll(t, fmt.Sprintf("node %d to know all", i+1), func() bool { return cmp.Equal(s.members(), ids) })
	}
	for _, w := range all {
		for joined := false; !joined; {
			f := w.next()
			w.take(t, f)
			joined = f.Event == "pusher_internal:subscription_succeeded" && *f.Channel == "done"
		}
		w.wantMembers(ids...)
	}
}

// subscription_count is the number on all nodes, and without those of a node that is
// gone.
func TestMeshSubscriptionCount(t *testing.T) {
	t.Parallel()
	servers := startMesh(t, 3, plainMesh, demoApp(func(a *app.App) { a.SubscriptionCounts = true }))
	var clients []*client
	wantCount := func(c *client, n int) {
		t.Helper()
		want := fmt.Sprintf(`{"subscription_count":%d}`, n)
		for {
			if f := c.next(); f.Event == "pusher_internal:subscription_count" && f.text(t) == want {
				return
			}
		}
	}
	for i := range 6 {
		c := servers[i%3].connect(t)
		c.subscribe("chat")
		clients = append(clients, c)
	}
	for _, c := range clients {
		wantCount(c, 6)
	}
	_ = clients[5].conn.Close()
	for _, c := range clients[:5] {
		wantCount(c, 5)
	}
	mend := servers[2].isolate(t)
	defer mend()
	wantCount(clients[0], 4)
	wantCount(clients[1], 4)
	wantCount(clients[2], 1)
	mend()
	for _, c := range clients[:5] {
		wantCount(c, 5)
	}
}
