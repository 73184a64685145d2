package session

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"reecho/broker"
	"reecho/replay"
	"reecho/replay/replaytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	app = "77"
	id  = "4f7e9df0-0001"
)

var (
	home  = netip.MustParseAddr("192.0.2.1")
	errIO = errors.New("the disk is gone")
)

// lineOf is the line of a channel in an epoch.
func lineOf(epoch, channel string) replay.Line { return replay.NewLine(epoch, app, channel) }

// table is records of several nodes, which outlive them.
type table struct {
	*replaytest.Log
	wires *wires // nil: there is one node at a time
}

func newTable() table {
	return table{Log: replaytest.NewLog(rand.New(rand.NewPCG(1, 2)), broker.Retention{EventsPerChannel: 1, MaxAge: time.Hour, MaxBytes: 1})}
}

// node is a store over a table that can be cut off from it.
type node struct {
	*Store
	table table
	lines journal

	mu     sync.Mutex
	fail   error         // of all that is read and written, if not nil
	gate   chan struct{} // writing waits until it is closed, if not nil
	read   chan struct{} // and reading until that is
	puts   []string      // the keys, but of the alive mark and of the ids
	gets   int
	idGets int // those of ids
	bad    int // the number of the read that fails, 0 for none

	before func(key string)      // called before something is put, if not nil
	lost   func(key string) bool // of what is put no answer comes, if it says so
}

var _ Records = (*node)(nil)

// start starts a node that ends with the test at the latest, and waits until it
// has said for the first time that it is alive.
func start(t *testing.T, cfg Config, in table) *node {
	t.Helper()
	n := &node{table: in}
	n.Store = Open(cfg, n, in.join(), slog.New(slog.NewTextHandler(&n.lines, nil)))
	t.Cleanup(func() { n.end(context.Background()) })
	pass(time.Second)
	return n
}

// end closes the node, if it is not.
func (n *node) end(ctx context.Context) {
	if !n.isClosed() {
		n.Close(ctx)
	}
}

func (st *Store) isClosed() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.closed
}

// kill ends the node without that it writes anything more.
func (n *node) kill() {
	n.breakOff(errIO)
	n.end(context.Background())
}

// breakOff makes all that is read and written fail; nil: no more.
func (n *node) breakOff(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fail = err
}

// hold makes writing wait until release is called.
func (n *node) hold() (release func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	gate := make(chan struct{})
	n.gate = gate
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.gate = nil
		close(gate)
	}
}

// holdReads makes reading wait until release is called.
func (n *node) holdReads() (release func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	gate := make(chan struct{})
	n.read = gate
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.read = nil
		close(gate)
	}
}

// failRead makes a read fail: that after so many.
func (n *node) failRead(after int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.bad = after + 1
}

// reads is how often the records were asked.
func (n *node) reads() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.gets
}

// idReads is how often ids were read since the last call.
func (n *node) idReads() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := n.idGets
	n.idGets = 0
	return count
}

// Void implements Records.
func (n *node) Void() time.Time { return n.table.Void() }

// Get implements Records.
func (n *node) Get(ctx context.Context, key string) (broker.Value, error) {
	n.mu.Lock()
	err, gate := n.fail, n.read
	if strings.HasPrefix(key, idsPrefix) {
		n.idGets++
	} else {
		n.gets++
		if n.gets == n.bad {
			err = errIO
		}
	}
	n.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return broker.Value{}, ctx.Err()
		}
	}
	if err != nil {
		return broker.Value{}, err
	}
	return n.table.Get(ctx, key)
}

// Put implements Records.
func (n *node) Put(ctx context.Context, key string, value []byte, expected uint64) (uint64, error) {
	n.mu.Lock()
	err, gate := n.fail, n.gate
	mark := strings.HasPrefix(key, "node ") || strings.HasPrefix(key, idsPrefix)
	if !mark {
		n.puts = append(n.puts, key)
	}
	n.mu.Unlock()
	if gate != nil && !mark {
		select {
		case <-gate:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if err != nil {
		return 0, err
	}
	n.mu.Lock()
	before, lost := n.before, n.lost
	n.mu.Unlock()
	if before != nil {
		before(key)
	}
	revision, err := n.table.Put(ctx, key, value, expected)
	if err == nil && lost != nil && lost(key) {
		return 0, errIO
	}
	return revision, err
}

// intercept has functions called about what is put.
func (n *node) intercept(before func(key string), lost func(key string) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.before, n.lost = before, lost
}

// List implements Records.
func (n *node) List(ctx context.Context, prefix string) ([]string, error) {
	return n.table.List(ctx, prefix)
}

// written is how often something was put since the last call.
func (n *node) written() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := len(n.puts)
	n.puts = nil
	return count
}

// counts is how many sessions are here, of how many apps and addresses.
func (st *Store) counts() [3]int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return [3]int{len(st.live), len(st.apps), len(st.addresses)}
}

// journal is what was logged.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (j *journal) Write(text []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(text)
}

// count is how many lines hold a text.
func (j *journal) count(text string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), text)
}

// mustClaim is the hold of a new connection, loaded.
func (n *node) mustClaim(t *testing.T, socket string) *Hold {
	t.Helper()
	return n.mustClaimID(t, id, socket)
}

// mustClaimID is that of another session.
func (n *node) mustClaimID(t *testing.T, id, socket string) *Hold {
	t.Helper()
	h, err := n.try(Who{App: app, ID: id, Socket: socket, Address: home})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h
}

// try is a hold, unless it is refused.
func (n *node) try(who Who) (*Hold, error) {
	h := &Hold{}
	return h, n.Claim(h, who, page{})
}

// page is a connection of which the client does something when it is asked, or
// taken over.
type page struct{ asked, over func() }

var _ Connection = page{}

// Ask implements Connection.
func (p page) Ask() {
	if p.asked != nil {
		p.asked()
	}
}

// TakenOver implements Connection.
func (p page) TakenOver() {
	if p.over != nil {
		p.over()
	}
}

// mustBegin makes the session follow a channel that is new to it.
func mustBegin(t *testing.T, h *Hold, channel string, at uint64) {
	t.Helper()
	line := lineOf("E1", channel)
	r, returning := h.Request(channel, line)
	if returning || r.Begin == nil {
		t.Fatalf("%s is not new to the session: returning %v, %+v", channel, returning, r)
	}
	if err := r.Begin(t.Context(), line.At(at)); err != nil {
		t.Fatal(err)
	}
}

// confirm says that a client has a channel up to a sequence, now.
func confirm(h *Hold, channel string, sequence uint64) {
	h.Confirm([]Reached{{Channel: channel, Position: lineOf("E1", channel).At(sequence)}}, time.Now())
}

// wantClaim checks that a client goes on behind a sequence.
func wantClaim(t *testing.T, h *Hold, channel string, sequence uint64) {
	t.Helper()
	r, returning := h.Request(channel, lineOf("E1", channel))
	if !returning || r.Want != replay.WantMissed || r.Claim.Sequence != sequence || r.Lost != "" {
		t.Errorf("%s: returning %v, wants %v behind %d, lost %q; want it to go on behind %d",
			channel, returning, r.Want, r.Claim.Sequence, r.Lost, sequence)
	}
}

// wantLost checks that a client is told of a gap.
func wantLost(t *testing.T, h *Hold, channel string, reason replay.Reason) {
	t.Helper()
	r, returning := h.Request(channel, lineOf("E1", channel))
	if !returning || r.Want != replay.WantNothing || r.Lost != reason || r.Begin != nil {
		t.Errorf("%s: returning %v, wants %v, lost %q; want it told of %q", channel, returning, r.Want, r.Lost, reason)
	}
}

// pass lets time go by.
func pass(d time.Duration) { <-time.After(d) }
