package replay_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/broker/brokertest/seed"
	"reecho/replay"
)

// load publishes on all nodes until stop is called.
func load(t *testing.T, m *brokertest.Mesh) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() {
			for k := 0; ctx.Err() == nil; k++ {
				r := broker.Record{App: app, Channel: fmt.Sprintf("load.%d", (i+k)%200), Frame: make([]byte, 200)}
				if err := m.Nodes[i%len(m.Nodes)].Publish(ctx, []broker.Record{r}); err != nil && ctx.Err() == nil {
					t.Errorf("publish: %v", err)
					return
				}
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

// What was stored by way of one node is read whole on another at once, while all of
// them are busy: the nearest replica answers, which may be behind.
func TestMeshReadIsWhole(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(seed.First(t), 1))
	m := brokertest.StartMesh(t, 3, broker.Config{Partitions: 1})
	defer load(t, m)()
	histories := make([]*replay.History, len(m.Nodes))
	for i, n := range m.Nodes {
		histories[i] = replay.NewHistory(replay.LogsOf(n.Broker), 1<<20)
		defer histories[i].Close()
	}
	var readers sync.WaitGroup
	for c := range 4 {
		order := rand.New(rand.NewPCG(rng.Uint64(), 2))
		readers.Go(func() { readWhole(t, m, histories, fmt.Sprintf("match.%d", c), order) })
	}
	readers.Wait()
}

// readWhole publishes to a channel of its own, and reads its newest events each time.
func readWhole(t *testing.T, m *brokertest.Mesh, histories []*replay.History, channel string, rng *rand.Rand) {
	t.Helper()
	ref := broker.Ref{App: app, Channel: channel}
	var sequences []uint64
	for range 200 {
		from, at := m.Nodes[rng.IntN(3)], rng.IntN(3)
		if err := from.Publish(t.Context(), []broker.Record{{App: ref.App, Channel: ref.Channel, Frame: []byte("x")}}); err != nil {
			t.Errorf("publish: %v", err)
			return
		}
		log := replay.LogsOf(m.Nodes[at].Broker).Log(ref)
		last, _, err := log.Last(t.Context())
		if err != nil {
			t.Errorf("last: %v", err)
			return
		}
		sequences = append(sequences, last.Sequence)
		want := sequences[max(0, len(sequences)-10):]
		r := replay.Range{Log: log, After: want[0] - 1, UpTo: last.Sequence, Events: 100, Bytes: 1 << 20}
		if rng.IntN(2) == 0 {
			r.Keep = replay.KeepNewest
		}
		events, _, err := histories[at].Read(t.Context(), r)
		if err != nil || len(events) != len(want) {
			t.Errorf("%s on %s, stored by %s: %d events up to %d, %v; want %d", channel, m.Nodes[at].Config.Name, from.Config.Name, len(events), last.Sequence, err, len(want))
		}
	}
}

// audience notes what a channel delivers.
type audience struct {
	mu     sync.Mutex
	began  uint64
	events []broker.Event
	gaps   []replay.Reason
}

var _ replay.Audience = (*audience)(nil)

// Start implements replay.Audience.
func (a *audience) Start(last broker.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.began = last.Sequence
}

// Deliver implements replay.Audience.
func (a *audience) Deliver(ev broker.Event, _ []byte) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, ev)
	return nil
}

// Gap implements replay.Audience.
func (a *audience) Gap(reason replay.Reason) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gaps = append(a.gaps, reason)
}

func openNode(b *broker.Broker) *replay.Node {
	return replay.Open(replay.LogsOf(b), replay.Config{
		Frame: func(text []byte) []byte { return text }, Position: withPosition,
	}, silent)
}

// A node that finds no majority says of everything that it is not available, and who
// begins to follow a channel there waits until there is one again.
func TestMeshWithoutMajority(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMesh(t, 3, broker.Config{Partitions: 1})
	ref := broker.Ref{App: app, Channel: "match.1"}
	if err := m.Nodes[0].Publish(t.Context(), []broker.Record{{App: app, Channel: ref.Channel, Frame: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	n := openNode(m.Nodes[0].Broker)
	defer n.Close()
	m.Stop(m.Nodes[1:]...)
	refused := 0
	for refused < 3 {
		_, err := n.Page(t.Context(), ref, replay.PageQuery{Limit: 10})
		switch {
		case errors.Is(err, broker.ErrUnavailable):
			refused++
		case err != nil:
			t.Fatalf("a page without a majority: %v", err)
		}
	}
	attached := make(chan error, 1)
	ch := n.Channel(ref, replay.Bounds{Events: 100, Bytes: 1 << 20, EventBytes: 1 << 16}, &audience{})
	go func() { attached <- ch.Attach(t.Context()) }()
	m.Start(m.Nodes[1:]...)
	if err := <-attached; err != nil {
		t.Errorf("follow a channel while a leader is elected: %v", err)
	}
}

// A stream that is made anew, with other sequences, is noticed on all nodes while they
// live: followers are told of a gap and get what is stored from then on, and a position
// from before says nothing.
func TestMeshEpochChanges(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMesh(t, 3, broker.Config{Partitions: 1})
	ref := broker.Ref{App: app, Channel: "match.1"}
	publish := func(text string) {
		t.Helper()
		if err := m.Nodes[0].Publish(t.Context(), []broker.Record{{App: app, Channel: ref.Channel, Frame: []byte(text)}}); err != nil {
			t.Fatal(err)
		}
	}
	for range 50 {
		publish("old")
	}
	var channels []*replay.Channel
	var notes []*audience
	for _, b := range m.Nodes {
		n := openNode(b.Broker)
		defer n.Close()
		a := &audience{}
		ch := n.Channel(ref, replay.Bounds{Events: 100, Bytes: 1 << 20, EventBytes: 1 << 16}, a)
		if err := ch.Attach(t.Context()); err != nil {
			t.Fatal(err)
		}
		channels, notes = append(channels, ch), append(notes, a)
	}
	before := channels[0].Line().At(48).String()
	if err := brokertest.Recreate(t.Context(), m.Nodes[2].Server, "EVENTS-0", "anew"); err != nil {
		t.Fatal(err)
	}
	for i, a := range notes {
		a.wait(t, "is told of the gap", func() bool { return len(a.gaps) > 0 })
		if a.gaps[0] != replay.EpochChanged || len(a.gaps) != 1 {
			t.Errorf("node %d: gaps %v", i, a.gaps)
		}
	}
	publish("new")
	for i, a := range notes {
		a.wait(t, "gets what is new", func() bool { return len(a.events) > 0 && string(a.events[len(a.events)-1].Frame) == "new" })
		if req := channels[i].After(before, time.Time{}); req.Lost != replay.EpochChanged {
			t.Errorf("node %d: a position from before: %+v", i, req)
		}
		if at := channels[i].Line().At(1).String(); channels[i].After(at, time.Time{}).Lost != "" {
			t.Errorf("node %d: %s is no position of the new epoch", i, at)
		}
	}
}

// wait polls until done, which is called with a locked, is true.
func (a *audience) wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; <-time.After(10 * time.Millisecond) {
		a.mu.Lock()
		is := done()
		a.mu.Unlock()
		if is {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it never %s: %+v", what, a)
		}
	}
}

// visitor is a client that comes, takes what it missed, and goes.
type visitor struct {
	got  []uint64
	text map[uint64]string
	out  replay.Outcome
	late replay.Reason // a gap behind the first part
	end  uint64
}

var _ replay.Client = (*visitor)(nil)

// Take implements replay.Client.
func (v *visitor) Take(p *replay.Part) bool {
	if p.First {
		v.out = p.Outcome
	} else {
		v.late = cmp.Or(v.late, p.Outcome.Reason)
	}
	for _, frame := range p.AppendFrames(nil) {
		position, text, _ := bytes.Cut(frame, []byte{'|'})
		at, _ := replay.ParsePosition(string(position))
		v.got = append(v.got, at.Sequence)
		v.text[at.Sequence] = string(text)
	}
	v.end = p.End
	if p.Written != nil {
		close(p.Written)
	}
	return true
}

// Drained implements replay.Client.
func (*visitor) Drained() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}
