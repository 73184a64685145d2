package broker_test

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/broker/natsd"
)

// Three brokers that start at the same time agree on the epoch and the runs, what is
// stored by one is read on all, and it is there when all of them start again.
func TestMesh(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMesh(t, 3, broker.Config{Partitions: 2})
	ref := broker.Ref{App: "app-1", Channel: "match.1"}
	same := func() (epoch, run string) {
		t.Helper()
		for _, n := range m.Nodes {
			log := n.Log(ref)
			if epoch == "" {
				epoch, run = log.Epoch(), log.Runs().Current()
			}
			if log.Epoch() != epoch || log.Runs().Current() != run {
				t.Fatalf("%s has epoch %s and run %s, another %s and %s", n.Config.Name, log.Epoch(), log.Runs().Current(), epoch, run)
			}
		}
		return epoch, run
	}
	epoch, run := same()
	for i := range 30 {
		mustPublish(t, m.Nodes[i%3].Broker, record("match.1", fmt.Sprint(i)))
		for _, n := range m.Nodes {
			ev, ok, err := n.Log(ref).Last(t.Context())
			if err != nil || !ok || string(ev.Frame) != fmt.Sprint(i) {
				t.Fatalf("%s has %q after %d: %v", n.Config.Name, ev.Frame, i, err)
			}
		}
	}
	m.Stop(m.Nodes...)
	// That is nothing to the others, who have what it lost.
	m.Nodes[1].Unclean = true
	m.Start(m.Nodes...)
	if e, r := same(); e != epoch || r != run {
		t.Errorf("epoch %s and run %s after a restart, before %s and %s", e, r, epoch, run)
	}
	wantEvents(t, m.Nodes[1].Broker, "match.1", 30)
}

// A second server with the name of one that runs is refused, wherever it listens.
func TestMeshNameIsTaken(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMesh(t, 3, broker.Config{Partitions: 1})
	cfg := m.Nodes[0].Config
	second := *cfg.Mesh
	second.Listen = brokertest.FreeAddresses(t, 1)[0]
	cfg.Mesh, cfg.Dir = &second, t.TempDir()
	_, err := natsd.Start(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if !errors.Is(err, natsd.ErrMesh) {
		t.Errorf("got %v, want ErrMesh", err)
	}
}
