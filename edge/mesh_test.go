package edge

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/broker/cluster"
	"reecho/edge/app"
	"reecho/edge/pusher"
)

// meshNode is one of several hubs that are a cluster.
type meshNode struct {
	*Hub
	t      *testing.T
	app    *app.App
	broker *brokertest.SharedBroker
}

// startMesh runs hubs that know each other. mute brokers more have joined, and answer
// nothing.
func startMesh(t *testing.T, size, mute int) []*meshNode {
	t.Helper()
	brokers := mustBrokers(t, size+mute)
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	for _, b := range brokers[size:] {
		for _, kind := range []string{questionCounts, questionList, questionTerminate, questionTerminations, questionUsers} {
			b.Nodes().Answer(kind, func(cluster.ID, []byte) ([]byte, error) { <-never; return nil, nil })
		}
		if err := b.Nodes().Start(); err != nil {
			t.Fatal(err)
		}
	}
	nodes := make([]*meshNode, size)
	for i := range nodes {
		nodes[i] = newMeshNode(t, brokers[i])
		nodes[i].join()
	}
	for _, n := range nodes {
		n.wantPeers(size + mute - 1)
	}
	return nodes
}

func mustBrokers(t *testing.T, size int) []*brokertest.SharedBroker {
	t.Helper()
	cfgs := make([]broker.Config, size)
	for i := range cfgs {
		cfgs[i].Node = fmt.Sprintf("node-%d", i+1)
	}
	return brokertest.StartShared(t, cfgs...)
}

// newMeshNode makes a hub that has not joined.
func newMeshNode(t *testing.T, b *brokertest.SharedBroker) *meshNode {
	t.Helper()
	a := &app.App{
		ID: "77", Credentials: []app.Credential{{Key: "key", Secret: "secret"}}, Enabled: true, Watchlist: true,
		ActivityTimeout: app.DefaultActivityTimeout, Limits: app.DefaultLimits(),
	}
	apps, err := app.NewRegistry([]*app.App{a})
	if err != nil {
		t.Fatal(err)
	}
	h, err := NewHub(t.Context(), Config{}, apps, b.Broker, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := h.Close(ctx, 0); err != nil {
			t.Error(err)
		}
	})
	return &meshNode{Hub: h, t: t, app: a, broker: b}
}

func (n *meshNode) join() {
	n.t.Helper()
	if err := n.broker.Nodes().Start(); err != nil {
		n.t.Fatal(err)
	}
}

func (n *meshNode) wantPeers(count int) {
	n.t.Helper()
	mustPoll(n.t, "the nodes to know each other", func() bool { return len(n.node.nodes.Peers()) == count })
}

// signIn attaches a guest that is signed in.
func (n *meshNode) signIn(id pusher.SocketID, userID string, watchlist ...string) (*Guest, *recordConn) {
	n.t.Helper()
	guest, conn := mustAttach(n.t, n.Hub, n.app, id)
	guest.SignIn(pusher.User{ID: userID, Watchlist: watchlist}, `{"id":"`+userID+`"}`)
	return guest, conn
}

// told is what a connection was told of alice, whom it watches.
func (c *recordConn) told() (states []string) {
	for _, text := range c.sent() {
		switch text {
		case string(pusher.AppendWatchlist(nil, []string{"alice"}, nil)):
			states = append(states, "online")
		case string(pusher.AppendWatchlist(nil, nil, []string{"alice"})):
			states = append(states, "offline")
		}
	}
	return states
}

func (n *meshNode) wantTold(c *recordConn, want ...string) {
	n.t.Helper()
	mustPoll(n.t, fmt.Sprintf("the watcher to be told %v", want), func() bool { return slices.Equal(c.told(), want) })
}

// While a node is dead and not known to be, what the others say is the answer. What
// was on it counts until it is, and is gone then: who was signed in there after the
// grace.
func TestNodeDies(t *testing.T) {
	t.Parallel()
	nodes := startMesh(t, 3, 0)
	a, b, c := nodes[0], nodes[1], nodes[2]
	for _, n := range nodes {
		guest, _ := mustAttach(t, n.Hub, n.app, pusher.NewSocketID())
		guest.Subscribe(pusher.Subscribe{Channel: "match.1"}, nil)
	}
	c.signIn(pusher.NewSocketID(), "alice")
	_, early := a.signIn(pusher.NewSocketID(), "bob", "alice")
	a.wantTold(early, "online")
	mustPoll(t, "all to be counted", func() bool { return a.Connections(a.app) == 5 })
	c.broker.Die()
	if n := a.Channel(t.Context(), a.app, "match.1").Subscriptions; n != 2 {
		t.Errorf("%d subscriptions while one node is dead, want 2", n)
	}
	if n := a.Channels(t.Context(), a.app, "match.")["match.1"].Subscriptions; n != 2 {
		t.Errorf("%d subscriptions in the list while one node is dead, want 2", n)
	}
	a.Terminate(t.Context(), a.app, "nobody")
	a.wantPeers(1)
	b.wantPeers(1)
	if n := a.Connections(a.app); n != 3 {
		t.Errorf("%d connections after the death of a node, want 3", n)
	}
	_, late := b.signIn(pusher.NewSocketID(), "eve", "alice")
	b.wantTold(late, "offline")
	a.wantTold(early, "online", "offline")
}

// A node that is alive and answers nothing holds nobody up for long.
func TestNodeIsMute(t *testing.T) {
	t.Parallel()
	nodes := startMesh(t, 2, 1)
	a, b := nodes[0], nodes[1]
	guest, _ := mustAttach(t, b.Hub, b.app, pusher.NewSocketID())
	guest.Subscribe(pusher.Subscribe{Channel: "match.1"}, nil)
	_, alice := b.signIn(pusher.NewSocketID(), "alice")
	_, watcher := a.signIn(pusher.NewSocketID(), "bob", "alice")
	a.wantTold(watcher, "online")
	if n := a.Channel(t.Context(), a.app, "match.1").Subscriptions; n != 1 {
		t.Errorf("%d subscriptions, want 1", n)
	}
	if n := len(a.Channels(t.Context(), a.app, "")); n != 1 {
		t.Errorf("%d channels, want 1", n)
	}
	a.Terminate(t.Context(), a.app, "alice")
	if code := alice.closedWith(); code != pusher.CodeUnauthorized {
		t.Errorf("closed with %d, want 4009", code)
	}
}

// A change that a node did not hear of is found with the next beat.
func TestMissedChange(t *testing.T) {
	t.Parallel()
	nodes := startMesh(t, 2, 0)
	a, b := nodes[0], nodes[1]
	_, watcher := a.signIn(pusher.NewSocketID(), "bob", "alice")
	a.wantTold(watcher, "offline")
	b.app.Watchlist = false // nothing is said
	b.signIn(pusher.NewSocketID(), "alice")
	neighbours := b.node.neighbours
	neighbours.out.Lock()
	neighbours.changes++
	neighbours.said++
	neighbours.out.Unlock()
	a.wantTold(watcher, "offline", "online")
}

// What was authorised for an id that outlives its connection ends on all nodes, wherever
// the id was used, and on one that was away: that closes who was signed in there before,
// and leaves who came since.
func TestTerminationsReachAll(t *testing.T) {
	t.Parallel()
	var nodes []*meshNode
	for _, b := range mustBrokers(t, 3) {
		nodes = append(nodes, newMeshNode(t, b))
	}
	a, b, late := nodes[0], nodes[1], nodes[2]
	a.join()
	b.join()
	a.wantPeers(1)
	id, _ := b.tenants[b.app].IssueID("secret")
	unused, _ := b.tenants[b.app].IssueID("secret")
	b.signIn(id, "alice")
	_, before := late.signIn(pusher.NewSocketID(), "alice")
	a.Terminate(t.Context(), a.app, "alice")
	ended := func(n *meshNode) bool {
		tenant := n.tenants[n.app]
		return tenant.Terminated("", id) && tenant.Terminated("alice", unused) && !tenant.Terminated("", unused)
	}
	// At once, unless the machine is so busy that a second is too short.
	mustPoll(t, "what alice had to be refused", func() bool { return ended(a) && ended(b) })
	late.join()
	mustPoll(t, "the late one to refuse it", func() bool { return ended(late) })
	mustPoll(t, "who was there to be closed", func() bool { return before.closedWith() == pusher.CodeUnauthorized })
	again, _ := late.tenants[late.app].IssueID("secret")
	_, since := late.signIn(again, "alice")
	if code := since.closedWith(); code != 0 {
		t.Errorf("who came since is closed with %d", code)
	}
	for _, n := range nodes {
		if again, _ := n.tenants[n.app].IssueID("secret"); n.tenants[n.app].Terminated("alice", again) {
			t.Error("what was issued since is refused")
		}
	}
}

// A list comes whole, whatever fits into one answer.
func TestPage(t *testing.T) {
	t.Parallel()
	channels := make(map[string]ChannelInfo)
	for i := range 100 {
		channels[fmt.Sprintf("match.%03d", i)] = ChannelInfo{Subscriptions: i + 1}
	}
	got, pages, after := make(map[string]ChannelInfo), 0, ""
	for {
		answer := page(channels, after, 300)
		pages++
		for name, info := range answer.Channels {
			got[name] = info
		}
		if after = answer.Last; after == "" {
			break
		}
	}
	if len(got) != len(channels) || got["match.099"].Subscriptions != 100 || pages < 10 {
		t.Errorf("%d channels of %d in %d pages", len(got), len(channels), pages)
	}
	if answer := page(nil, "", 300); len(answer.Channels) != 0 || answer.Last != "" {
		t.Errorf("nothing is %+v", answer)
	}
}
