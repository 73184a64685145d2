package session_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/replay"
	"reecho/replay/session"
)

// meshNode is the sessions of one node of a cluster.
type meshNode struct {
	*session.Store
	of *brokertest.MeshNode
}

func openMesh(t *testing.T, m *brokertest.Mesh, cfg session.Config) []*meshNode {
	t.Helper()
	var nodes []*meshNode
	for _, n := range m.Nodes {
		nodes = append(nodes, openMeshNode(t, n, cfg))
	}
	for _, n := range nodes {
		n.waitPeers(t, len(nodes)-1)
	}
	return nodes
}

func openMeshNode(t *testing.T, n *brokertest.MeshNode, cfg session.Config) *meshNode {
	t.Helper()
	records, err := session.OpenRecords(t.Context(), cfg, n.Broker)
	if err != nil {
		t.Fatal(err)
	}
	if void := records.Void(); !void.IsZero() {
		t.Errorf("%s has lost something until %v", n.Config.Name, void)
	}
	st := session.Open(cfg, records, n.Nodes().Line("sessions"), slog.New(slog.DiscardHandler))
	n.Nodes().Start()
	return &meshNode{st, n}
}

// waitPeers polls until a node knows so many others.
func (n *meshNode) waitPeers(t *testing.T, peers int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for len(n.of.Nodes().Peers()) != peers {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%s knows %v, want %d", n.of.Config.Name, n.of.Nodes().Peers(), peers)
		}
	}
}

// connected is a connection whose client answers, or not.
type connected struct {
	session.Hold
	alive bool
	over  atomic.Bool
	ended chan struct{} // closed when it is taken over
}

// Ask implements session.Connection.
func (c *connected) Ask() {
	if c.alive {
		go c.Answered()
	}
}

// TakenOver implements session.Connection.
func (c *connected) TakenOver() {
	if !c.over.Swap(true) {
		close(c.ended)
	}
}

func (n *meshNode) mustConnect(t *testing.T, id string, alive bool) *connected {
	t.Helper()
	c := &connected{alive: alive, ended: make(chan struct{})}
	if err := n.Claim(&c.Hold, session.Who{App: "77", ID: id, Socket: n.of.Config.Name}, c); err != nil {
		t.Fatal(err)
	}
	if err := c.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *connected) mustBegin(t *testing.T, channel string, at uint64) {
	t.Helper()
	line := replay.NewLine("E1", "77", channel)
	r, returning := c.Request(channel, line)
	if returning {
		t.Fatalf("%s is not new: %+v", channel, r)
	}
	if err := r.Begin(t.Context(), line.At(at)); err != nil {
		t.Fatal(err)
	}
}

func (c *connected) wantClaim(t *testing.T, channel string, at uint64) {
	t.Helper()
	r, returning := c.Request(channel, replay.NewLine("E1", "77", channel))
	if !returning || r.Want != replay.WantMissed || r.Claim.Sequence != at {
		t.Errorf("%s: returning %v, %+v; want it to go on behind %d", channel, returning, r, at)
	}
}

// A client hops over the nodes of a cluster, each time leaving a connection half open,
// and subscribes to further channels: it goes on with all of them on the next node,
// and each old connection is closed. So it does when its node has died, and when all
// nodes were stopped.
func TestSessionsInAMesh(t *testing.T) {
	t.Parallel()
	cfg := session.Config{Time: time.Hour}
	m := brokertest.StartMesh(t, 3, broker.Config{Partitions: 1})
	nodes := openMesh(t, m, cfg)
	const id, each = "4f7e9df0-0001", 10 // in several records
	var before *connected
	joined := 0
	hop := func(n *meshNode, more int) {
		t.Helper()
		c := n.mustConnect(t, id, false)
		for i := range joined {
			c.wantClaim(t, fmt.Sprint("match.", i), uint64(i))
		}
		for range more {
			c.mustBegin(t, fmt.Sprint("match.", joined), uint64(joined))
			joined++
		}
		if before != nil {
			select {
			case <-before.ended:
			case <-t.Context().Done():
				t.Fatal("the connection before was not closed")
			}
			before.Release(time.Now())
		}
		before = c
	}
	for i := range 4 {
		hop(nodes[i%3], each)
	}
	// Its node dies: nothing is stored any more.
	m.Stop(nodes[0].of)
	nodes[0].Close(t.Context())
	before = nil
	hop(nodes[1], each)
	before.Release(time.Now())
	nodes[1].Close(t.Context())
	nodes[2].Close(t.Context())
	m.Stop(nodes[1].of, nodes[2].of)
	m.Start(m.Nodes...)
	before = nil
	for _, n := range openMesh(t, m, cfg) {
		hop(n, 1)
		defer n.Close(t.Context())
	}
}

// Two pages on one session, on two nodes of a cluster: nobody is closed, the second
// has one of its own. What ids a node remembers is stored where the others look.
func TestPagesAndIDsInAMesh(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMesh(t, 3, broker.Config{Partitions: 1})
	nodes := openMesh(t, m, session.Config{})
	for _, n := range nodes {
		defer n.Close(t.Context())
	}
	a := nodes[0].mustConnect(t, "page", true)
	a.mustBegin(t, "match.1", 5)
	b := nodes[1].mustConnect(t, "page", true)
	if r, returning := b.Request("match.1", replay.NewLine("E1", "77", "match.1")); !returning || r.Lost != replay.SessionExpired {
		t.Errorf("returning %v, %+v; want it told that its session has expired", returning, r)
	}
	a.mustBegin(t, "match.2", 6)
	a.wantClaim(t, "match.1", 5)
	if a.over.Load() || b.over.Load() {
		t.Error("a page that lives is closed")
	}
	nodes[2].wantIDs(t, nodes[0].of.Config.Name)
}

// wantIDs polls until the ids of another node are stored where this one reads them.
func (n *meshNode) wantIDs(t *testing.T, name string) {
	t.Helper()
	records, err := session.OpenRecords(t.Context(), session.Config{}, n.of.Broker)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		keys, err := records.List(ctx, "ids ")
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(keys, "ids "+name+"/head") {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("the ids of %s are not in %v", name, keys)
		}
	}
}
