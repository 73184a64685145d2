package exchange_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"reecho/broker"
	"reecho/broker/brokertest/seed"
	"reecho/broker/natsd"
	"reecho/broker/presence"
	"reecho/broker/presence/exchange"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var silent = slog.New(slog.DiscardHandler)

// node is one of several brokers on one server, with the rooms that it follows.
type node struct {
	*exchange.Exchange
	broker *broker.Broker

	mu    sync.Mutex
	rooms map[broker.Ref]*room
	gate  chan struct{} // Own waits until it is closed; nil: it does not
}

// room is a channel of one node.
type room struct {
	node *node
	ref  broker.Ref
	lose *rand.Rand // nil: nothing is lost

	mu      sync.Mutex
	members presence.Members
	parts   *presence.Parts
	sockets []string
}

// startNodes runs size nodes that know each other.
func startNodes(t *testing.T, size int) []*node {
	t.Helper()
	server, err := natsd.Start(t.Context(), natsd.Config{Dir: t.TempDir()}, silent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	nodes := make([]*node, size)
	for i := range nodes {
		nodes[i] = startNode(t, server, fmt.Sprintf("node-%d", i+1))
	}
	for _, n := range nodes {
		poll(t, "the nodes to know each other", func() bool { return len(n.broker.Nodes().Peers()) == size-1 })
	}
	return nodes
}

func startNode(t *testing.T, server *natsd.Server, name string) *node {
	t.Helper()
	b, err := broker.New(t.Context(), broker.Config{Shared: true, Node: name, Partitions: 1}, server, false, silent)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{broker: b, rooms: make(map[broker.Ref]*room)}
	n.Exchange = exchange.New(b, n, silent)
	if err := b.Nodes().Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Close()
		_ = b.Close(context.Background())
	})
	return n
}

func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !done() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("gave up waiting for %s", what)
		}
	}
}

// follow makes the node follow a channel.
func (n *node) follow(t *testing.T, name string, lose *rand.Rand) *room {
	t.Helper()
	r := &room{node: n, ref: broker.Ref{App: "77", Channel: name}, lose: lose, parts: presence.NewParts(uint64(time.Now().UnixNano()))}
	sub, err := n.broker.Log(r.ref).Subscribe(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sub.Close)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rooms[r.ref] = r
	return r
}

func (n *node) find(ref broker.Ref) *room {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rooms[ref]
}

// Have implements exchange.Rooms.
func (n *node) Have(ref broker.Ref, life string) (uint64, bool) {
	r := n.find(ref)
	if r == nil {
		return 0, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.parts.Have(life), true
}

// Own implements exchange.Rooms.
func (n *node) Own(ref broker.Ref, have uint64) *presence.Delta {
	if n.gate != nil {
		<-n.gate
	}
	d := presence.Nothing(uint64(time.Now().UnixNano()))
	r := n.find(ref)
	if r == nil && have == 0 {
		return nil
	}
	if r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.parts.Version() == have {
			return nil
		}
		d = r.parts.Whole(&r.members, 0)
	}
	return &d
}

// Take implements exchange.Rooms.
func (n *node) Take(ref broker.Ref, life string, d presence.Delta) bool {
	return n.find(ref).take(life, d)
}

// Drop implements exchange.Rooms.
func (n *node) Drop(life string) {
	n.Each(func(ref broker.Ref) {
		r := n.find(ref)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.apply(r.parts.Drop(life))
	})
}

// Each implements exchange.Rooms.
func (n *node) Each(visit func(broker.Ref)) {
	n.mu.Lock()
	refs := slices.Collect(maps.Keys(n.rooms))
	n.mu.Unlock()
	for _, ref := range refs {
		visit(ref)
	}
}

func (*room) Live(broker.Event) {}

func (*room) Nudge(uint64) {}

// Told implements broker.Hearer.
func (r *room) Told(life string, text []byte) {
	if r.lose != nil && r.lose.IntN(3) == 0 {
		return
	}
	var d presence.Delta
	if err := json.Unmarshal(text, &d); err != nil {
		panic(err)
	}
	if r.take(life, d) {
		r.node.CompareWith(r.ref, life)
	}
}

func (r *room) take(life string, d presence.Delta) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.node.Alive(life) {
		return false
	}
	changes, hole := r.parts.Take(life, d)
	r.apply(changes)
	return hole
}

func (r *room) apply(changes []presence.Change) {
	for _, c := range changes {
		if c.Gone {
			r.members.Go(c.ID)
		} else {
			r.members.Come(c.ID, c.Info)
		}
	}
}

func (r *room) join(id string, info []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sockets = append(r.sockets, id)
	if r.members.Join(id, info); r.members.Sockets(id) == 1 {
		r.node.Tell(r.ref, r.parts.Joined(&r.members, id, info))
	}
}

func (r *room) leave(i int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := r.sockets[i]
	r.sockets = slices.Delete(r.sockets, i, i+1)
	if r.members.Leave(id); r.members.Sockets(id) == 0 {
		r.node.Tell(r.ref, r.parts.Left(&r.members, id))
	}
}

func (r *room) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(slices.Values(r.members.IDs()))
}

// A third of what nodes tell each other is lost, and still all know all in the end.
func TestLoss(t *testing.T) {
	t.Parallel()
	first := seed.First(t)
	nodes := startNodes(t, 3)
	random := rand.New(rand.NewPCG(first, 0))
	var rooms []*room
	for c := range 10 {
		for i, n := range nodes {
			rooms = append(rooms, n.follow(t, fmt.Sprintf("presence-%d", c), rand.New(rand.NewPCG(first, uint64(10*c+i+1)))))
		}
	}
	for range 3000 {
		r := rooms[random.IntN(len(rooms))]
		if n := len(r.sockets); n > 0 && random.IntN(2) == 0 {
			r.leave(random.IntN(n))
		} else {
			r.join(fmt.Sprintf("user-%d", random.IntN(20)), nil)
		}
	}
	for i := 0; i < len(rooms); i += 3 {
		want := make(map[string]bool)
		for _, r := range rooms[i : i+3] {
			r.node.Compare(r.ref) // as the sweep does
			for _, id := range r.sockets {
				want[id] = true
			}
		}
		ids := slices.Sorted(maps.Keys(want))
		for _, r := range rooms[i : i+3] {
			poll(t, "the members of "+r.ref.Channel, func() bool { return slices.Equal(r.ids(), ids) })
		}
	}
}

// A node that comes to know of very many channels at once, with more in them than fits
// into one answer, knows them all.
func TestMany(t *testing.T) {
	t.Parallel()
	nodes := startNodes(t, 2)
	info := []byte(`"` + strings.Repeat("x", 10_000) + `"`)
	var there []*room
	for c := range 600 {
		name := fmt.Sprintf("presence-%d", c)
		nodes[0].follow(t, name, nil).join("ada", info)
		there = append(there, nodes[1].follow(t, name, nil))
	}
	var meeting sync.WaitGroup
	for _, r := range there {
		meeting.Go(func() {
			if err := nodes[1].Meet(t.Context(), r.ref); err != nil {
				t.Error(err)
			}
		})
	}
	meeting.Wait()
	for _, r := range there {
		poll(t, "all of "+r.ref.Channel, func() bool { return slices.Equal(r.ids(), []string{"ada"}) })
	}
}

// A node that does not answer holds nobody up for long, and is asked again. A channel
// that nobody else follows is nobody's.
func TestSilentNode(t *testing.T) {
	t.Parallel()
	nodes := startNodes(t, 3)
	gate := make(chan struct{})
	nodes[0].gate = gate
	for _, n := range nodes[:2] {
		n.follow(t, "presence-lobby", nil).join(n.broker.Nodes().Self().Name, nil)
	}
	r := nodes[2].follow(t, "presence-lobby", nil)
	if err := nodes[2].Meet(t.Context(), r.ref); err != nil {
		t.Error(err)
	}
	// What the others told before it began to follow the channel may be on its way.
	if ids := r.ids(); !slices.Contains(ids, "node-2") {
		t.Errorf("the node that answers is not in %v", ids)
	}
	close(gate)
	poll(t, "the silent node to be heard", func() bool { return len(r.ids()) == 2 })
	alone := nodes[2].follow(t, "presence-elsewhere", nil)
	if err := nodes[2].Meet(t.Context(), alone.ref); err != nil || len(alone.ids()) != 0 {
		t.Errorf("%v, %v", alone.ids(), err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := nodes[2].Meet(gone, r.ref); err == nil {
		t.Error("no error though nobody waits")
	}
	if parts := nodes[2].Ask(t.Context(), r.ref); len(parts) != 2 {
		t.Errorf("asked for what others have: %+v", parts)
	}
}

// Who is gone is forgotten, also what was told before and comes late.
func TestGone(t *testing.T) {
	t.Parallel()
	nodes := startNodes(t, 2)
	lost, r := nodes[0].follow(t, "presence-lobby", nil), nodes[1].follow(t, "presence-lobby", nil)
	lost.join("ada", nil)
	poll(t, "ada", func() bool { return slices.Equal(r.ids(), []string{"ada"}) })
	life := nodes[0].broker.Nodes().Self().Life
	nodes[0].broker.Nodes().Close()
	poll(t, "ada to be gone", func() bool { return len(r.ids()) == 0 })
	lost.join("bob", nil)
	nodes[0].Flush()
	if hole := r.take(life, lost.parts.Whole(&lost.members, 0)); hole || len(r.ids()) != 0 {
		t.Errorf("%v are there, of a node that is gone", r.ids())
	}
}
