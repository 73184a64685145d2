package broker_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
)

// A node that is cut off is answered by its own replica, which says that it knows
// nothing of what was stored since; and when it says that it knows, it has it.
func TestMeshKnownOnAnIsland(t *testing.T) {
	t.Parallel()
	m := brokertest.StartFragileMesh(t, 3, broker.Config{Partitions: 1})
	ref := broker.Ref{App: "app-1", Channel: "match.1"}
	mustPublish(t, m.Nodes[1].Broker, record(ref.Channel, "before"))
	// ask returns the end as the first node has it; it may not answer for a moment.
	ask := func() (tail broker.Tail) {
		t.Helper()
		poll(t, "the first node to answer", func() bool {
			tails, err := m.Nodes[0].Tails(t.Context(), []broker.Ref{ref})
			if err == nil {
				tail = tails[0]
			}
			return err == nil
		})
		return tail
	}
	now := time.Now()
	poll(t, "the first node to know the present", func() bool { return ask().Known.After(now) })
	m.Cut(m.Nodes[0])
	cut := time.Now()
	mustPublish(t, m.Nodes[1].Broker, record(ref.Channel, "meanwhile"))
	stored := time.Now()
	last, ok, err := m.Nodes[1].Log(ref).Last(t.Context())
	if err != nil || !ok {
		t.Fatalf("the other nodes have no event: %v", err)
	}
	poll(t, "the first node to be without a pulse", func() bool { return m.Nodes[0].CutOff() > 0 })
	if tail := ask(); tail.Known.After(cut) || tail.Known.IsZero() {
		t.Errorf("cut off since %v it knows of %v", cut, tail.Known)
	}
	m.Heal(m.Nodes[0])
	poll(t, "the first node to know what it missed", func() bool {
		tail := ask()
		if tail.Known.After(stored) && tail.Sequence != last.Sequence {
			t.Fatalf("it says to know of all until %v, and ends at %d, not %d", tail.Known, tail.Sequence, last.Sequence)
		}
		return tail.Known.After(stored)
	})
}

// The leader of a stream that is cut off answers for a moment, and does not know what
// another one has stored: who asks for more than it has is not answered by it.
func TestMeshOldLeader(t *testing.T) {
	t.Parallel()
	m := brokertest.StartFragileMesh(t, 3, broker.Config{Partitions: 1})
	ref := broker.Ref{App: "app-1", Channel: "match.1"}
	mustPublish(t, m.Nodes[1].Broker, record(ref.Channel, "before"))
	old, other := m.Nodes[0], m.Nodes[1]
	if leader := m.Leader(t, "EVENTS-0"); leader != old {
		old, other = leader, old
	}
	before, _, err := other.Log(ref).Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m.Cut(old)
	var answered, stale atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for ctx.Err() == nil {
				if ev, _, err := old.Log(ref).Last(ctx); err == nil && ev.Sequence == before.Sequence {
					answered.Add(1)
				}
				// A sequence above all that this node has.
				if _, _, err := old.Log(ref).LastReaching(ctx, before.Sequence+1_000_000); err == nil {
					stale.Add(1)
				}
			}
		})
	}
	poll(t, "the old leader to answer", func() bool { return answered.Load() > 0 })
	poll(t, "it to know that it is cut off", func() bool { return old.CutOff() > 0 })
	stop()
	asking.Wait()
	if n := stale.Load(); n > 0 {
		t.Errorf("the old leader has answered %d times for what it does not have", n)
	}
	m.Heal(old)
	mustPublish(t, other.Broker, record(ref.Channel, "after"))
	poll(t, "it to have what was stored", func() bool {
		ev, ok, err := old.Log(ref).LastReaching(t.Context(), before.Sequence+1)
		return err == nil && ok && string(ev.Frame) == "after"
	})
}
