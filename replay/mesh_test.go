package replay_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

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
	events []broker.Event
	gaps   []replay.Reason
}

var _ replay.Audience = (*audience)(nil)

// Start implements replay.Audience.
func (*audience) Start(broker.Event) {}

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
