package broker_test

import (
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
