package presence

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reecho/broker/brokertest/seed"
)

// mesh is the nodes of a cluster with one channel, and what is on its way between
// them.
type mesh struct {
	t      *testing.T
	seed   uint64
	random *rand.Rand
	clock  uint64
	lives  int
	nodes  []*modelNode
	// waiting is what is on its way, delivered in any order.
	waiting []func()
}

// modelNode is one of them.
type modelNode struct {
	life    string
	alive   map[string]bool // lives that it takes for alive
	sockets []string        // users
	// members is nil while the node does not follow the channel.
	members *Members
	parts   *Parts
	told    map[string]bool // what subscribers here were told
}

func newMesh(t *testing.T, seed uint64, size int) *mesh {
	t.Helper()
	m := &mesh{t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 1))}
	for range size {
		m.nodes = append(m.nodes, &modelNode{})
		m.begin(m.nodes[len(m.nodes)-1])
	}
	return m
}

func (m *mesh) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("%s: %s", seed.Repeat(m.seed), fmt.Sprintf(format, args...))
}

// begin begins a life of a node, which all others hear of.
func (m *mesh) begin(n *modelNode) {
	m.lives++
	*n = modelNode{life: strconv.Itoa(m.lives), alive: make(map[string]bool)}
	for _, other := range m.nodes {
		if other != n {
			m.meet(other, n)
			m.meet(n, other)
		}
	}
}

// meet makes a node take another for alive, and ask it.
func (m *mesh) meet(n, other *modelNode) {
	if !n.alive[other.life] {
		n.alive[other.life] = true
		m.ask(n, other)
	}
}

// part makes a node take a life for dead.
func (m *mesh) part(n *modelNode, life string) {
	delete(n.alive, life)
	if n.parts != nil {
		m.tell(n, n.parts.Drop(life))
	}
}

// follow makes a node follow the channel, and ask all others about it.
func (m *mesh) follow(n *modelNode) {
	if n.members == nil {
		m.clock += 10_000
		n.members, n.parts, n.told = &Members{}, NewParts(m.clock), make(map[string]bool)
		m.askAll(n)
	}
}

func (m *mesh) askAll(n *modelNode) {
	for _, other := range m.nodes {
		if other != n && n.alive[other.life] {
			m.ask(n, other)
		}
	}
}

// send puts something on its way: it may be lost, and come twice.
func (m *mesh) send(do func()) {
	for range []int{0, 1, 1, 1, 1, 2}[m.random.IntN(6)] {
		m.waiting = append(m.waiting, do)
	}
}

// ask sends a question, with its answer as of when it is delivered.
func (m *mesh) ask(n, other *modelNode) {
	if n.members == nil {
		return
	}
	me, it, parts := n.life, other.life, n.parts
	m.send(func() {
		if other.life != it || n.life != me || n.parts != parts {
			return
		}
		var d Delta
		switch have := n.parts.Have(it); {
		case other.parts == nil && have == 0, other.parts != nil && other.parts.Version() == have:
			return
		case other.parts == nil:
			m.clock += 10_000
			d = Nothing(m.clock)
		default:
			d = m.copy(other.parts.Whole(other.members, len(other.sockets)))
		}
		m.send(func() {
			if n.life == me && n.parts == parts && n.alive[it] {
				m.take(n, other, it, d)
			}
		})
	})
}

// publish sends a delta to all who follow the channel when it arrives.
func (m *mesh) publish(n *modelNode, d Delta) {
	life := n.life
	d = m.copy(d)
	for _, other := range m.nodes {
		if other != n {
			m.send(func() {
				if other.parts != nil && other.alive[life] {
					m.take(other, n, life, d)
				}
			})
		}
	}
}

// copy is what arrives of a delta.
func (m *mesh) copy(d Delta) (c Delta) {
	m.t.Helper()
	text, err := json.Marshal(d)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		m.fail("%v", err)
	}
	return c
}

func (m *mesh) take(n, from *modelNode, life string, d Delta) {
	changes, hole := n.parts.Take(life, d)
	m.tell(n, changes)
	if hole && from.life == life {
		m.ask(n, from)
	}
}

// tell tells subscribers of changes: nobody comes or goes twice.
func (m *mesh) tell(n *modelNode, changes []Change) {
	for _, c := range changes {
		switch {
		case c.Gone && n.members.Go(c.ID):
			m.told(n, c.ID, false)
		case !c.Gone && n.members.Come(c.ID, c.Info):
			m.told(n, c.ID, true)
		}
	}
}

func (m *mesh) told(n *modelNode, id string, present bool) {
	if n.told[id] == present {
		m.fail("node %s tells twice that %s is there: %v", n.life, id, present)
	}
	if n.told[id] = present; !present {
		delete(n.told, id)
	}
}

func (m *mesh) join(n *modelNode) {
	m.follow(n)
	id := fmt.Sprintf("user-%d", m.random.IntN(6))
	info := []byte(strconv.Itoa(m.random.IntN(2)))
	n.sockets = append(n.sockets, id)
	if n.members.Join(id, info) {
		m.told(n, id, true)
	}
	if n.members.Sockets(id) == 1 {
		m.publish(n, n.parts.Joined(n.members, id, info))
	}
}

func (m *mesh) leave(n *modelNode) {
	if len(n.sockets) == 0 {
		return
	}
	i := m.random.IntN(len(n.sockets))
	id := n.sockets[i]
	n.sockets = slices.Delete(n.sockets, i, i+1)
	if n.members.Leave(id) {
		m.told(n, id, false)
	}
	if n.members.Sockets(id) == 0 {
		m.publish(n, n.parts.Left(n.members, id))
	}
}

// step does something at random.
func (m *mesh) step() {
	n := m.nodes[m.random.IntN(len(m.nodes))]
	other := m.nodes[m.random.IntN(len(m.nodes))]
	switch k := m.random.IntN(100); {
	case k < 25:
		m.join(n)
	case k < 45:
		m.leave(n)
	case k < 90 && len(m.waiting) > 0:
		m.deliver(m.random.IntN(len(m.waiting)))
	case k < 92 && len(n.sockets) == 0:
		n.members, n.parts, n.told = nil, nil, nil // it lingered for long enough
	case k < 94 && n != other:
		m.part(n, other.life) // and is heard again
		m.meet(n, other)
	case k < 96 && n != other:
		m.part(n, other.life)
	case k == 97:
		life := n.life
		m.begin(n)
		for _, other := range m.nodes {
			m.part(other, life)
		}
	}
}

func (m *mesh) deliver(i int) {
	do := m.waiting[i]
	m.waiting = slices.Delete(m.waiting, i, i+1)
	do()
}

// settle lets nodes compare what they have until nothing is lost any more.
func (m *mesh) settle() {
	for range 40 {
		for _, n := range m.nodes {
			for _, other := range m.nodes {
				if n != other {
					m.meet(n, other)
				}
			}
			m.askAll(n)
		}
		for len(m.waiting) > 0 {
			m.deliver(m.random.IntN(len(m.waiting)))
		}
	}
}

// check makes sure that all know who is there.
func (m *mesh) check() {
	want := make(map[string]bool)
	for _, n := range m.nodes {
		for _, id := range n.sockets {
			want[id] = true
		}
	}
	for _, n := range m.nodes {
		if n.members == nil {
			continue
		}
		got := slices.Sorted(slices.Values(n.members.IDs()))
		if want := slices.Sorted(maps.Keys(want)); !slices.Equal(got, want) {
			m.fail("node %s knows %v, there are %v", n.life, got, want)
		}
		if !maps.Equal(n.told, want) {
			m.fail("node %s told of %v, want %v", n.life, n.told, want)
		}
	}
}

// Whatever is lost, doubled, late or out of order between nodes that come, go, and
// are taken for dead, and whoever joins and leaves meanwhile: nobody is told to come
// or go twice in a row, and once nodes can compare all know who is there.
func TestPartsModel(t *testing.T) {
	t.Parallel()
	first := seed.First(t)
	for i := range uint64(100) {
		m := newMesh(t, first+i, 2+int(i%4))
		for range 4 {
			for range 200 {
				m.step()
			}
			m.settle()
			m.check()
		}
	}
}

// Deltas that come while the whole part is asked for are applied on top of it, and
// those that are in it are not.
func TestPartsAhead(t *testing.T) {
	t.Parallel()
	p := NewParts(1)
	join := func(version uint64, id string) Delta { return Delta{Version: version, Came: []Member{{ID: id}}} }
	for _, step := range []struct {
		d    Delta
		want []Change
		hole bool
	}{
		{d: join(6, "carol"), hole: true},
		{d: Delta{Version: 7, Gone: []string{"alice"}}, hole: true},
		{d: join(6, "carol"), hole: true},
		{d: join(4, "bob"), hole: true},
		{
			d:    Delta{Version: 5, Whole: true, Came: []Member{{ID: "alice"}, {ID: "bob"}}},
			want: []Change{{Member: Member{ID: "alice"}}, {Member: Member{ID: "bob"}}, {Member: Member{ID: "carol"}}, {Member: Member{ID: "alice"}, Gone: true}},
		},
		{d: Delta{Version: 5, Whole: true}},
		{d: join(8, "bob")},
		{d: join(10, "dave"), hole: true},
		{d: Delta{Version: 9, Whole: true}, want: []Change{{Member: Member{ID: "bob"}, Gone: true}, {Member: Member{ID: "carol"}, Gone: true}, {Member: Member{ID: "dave"}}}},
	} {
		changes, hole := p.Take("life", step.d)
		slices.SortStableFunc(changes, func(a, b Change) int { return cmpIDs(a, b, step.d.Version) })
		if diff := cmp.Diff(step.want, changes); diff != "" || hole != step.hole {
			t.Errorf("%+v: hole %v, changes (-want +got):\n%s", step.d, hole, diff)
		}
	}
	if changes := p.Drop("life"); len(changes) != 1 || changes[0].ID != "dave" || p.Have("life") != 0 {
		t.Errorf("%+v after the node has gone, version %d", changes, p.Have("life"))
	}
}

// cmpIDs orders the two that go together in version 9; a map has no order.
func cmpIDs(a, b Change, version uint64) int {
	if version == 9 && a.Gone && b.Gone && a.ID < b.ID {
		return -1
	}
	return 0
}

// A hole that more deltas follow than are kept is not forgotten, and they are not all
// kept.
func TestPartsKeepLittle(t *testing.T) {
	t.Parallel()
	p := NewParts(1)
	for v := range uint64(10 * maxAhead) {
		if _, hole := p.Take("life", Delta{Version: v + 10, Came: []Member{{ID: "a"}}}); !hole {
			t.Fatalf("no hole before version %d", v+10)
		}
		if n := len(p.of["life"].ahead); n > maxAhead {
			t.Fatalf("%d deltas are kept", n)
		}
	}
	if _, hole := p.Take("life", Delta{Version: 100, Whole: true}); !hole {
		t.Error("what came behind the whole part is forgotten")
	}
	if _, hole := p.Take("life", Delta{Version: 10 * maxAhead * 2, Whole: true}); hole {
		t.Error("a hole is left behind the newest whole part")
	}
}

// Numbers of subscribers add up by node.
func TestPartsCount(t *testing.T) {
	t.Parallel()
	p := NewParts(1)
	a, b := NewParts(10), NewParts(20)
	p.Take("a", a.Counted(3))
	p.Take("b", b.Counted(4))
	late := b.Counted(1)
	p.Take("b", b.Counted(7))
	p.Take("b", late)
	if got := p.Subs(); got != 10 {
		t.Errorf("%d subscribers, want 10", got)
	}
	p.Drop("b")
	if got := p.Subs(); got != 3 {
		t.Errorf("%d subscribers without b, want 3", got)
	}
}

func TestPartsLowest(t *testing.T) {
	t.Parallel()
	p := NewParts(1)
	if got := p.Lowest(); got != "" {
		t.Errorf("nobody is known, and %q", got)
	}
	p.Take("b", Delta{Version: 1, Whole: true, Subs: 2})
	p.Take("c", Delta{Version: 1, Whole: true, Subs: 1})
	p.Take("a", Delta{Version: 1, Whole: true})
	if got := p.Lowest(); got != "b" {
		t.Errorf("got %q", got)
	}
	p.Drop("b")
	if got := p.Lowest(); got != "c" {
		t.Errorf("got %q", got)
	}
}
