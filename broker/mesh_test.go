package broker_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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

// What the leader is asked for event by event is what any replica answers at once.
func TestMeshReadOfLeader(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMesh(t, 3, broker.Config{Partitions: 1, EventsPerChannel: 150})
	for i := range 180 {
		mustPublish(t, m.Nodes[i%3].Broker, record("match.1", fmt.Sprint(i)), record("match.2", fmt.Sprint(i)))
	}
	log := m.Nodes[0].Log(broker.Ref{App: "app-1", Channel: "match.1"})
	all, _, err := log.Read(t.Context(), 0, 1000)
	if err != nil || len(all) != 150 {
		t.Fatalf("read %d events, %v", len(all), err)
	}
	middle := all[100]
	for _, tt := range []struct {
		from  uint64
		since time.Time
		limit int
		want  []broker.Event
		more  bool
	}{
		{0, time.Time{}, 10, all[:10], true},
		{0, time.Time{}, 1000, all[:64], true},
		{middle.Sequence, time.Time{}, 1000, all[100:], false},
		{middle.Sequence + 1, time.Time{}, 49, all[101:], false},
		{all[149].Sequence + 1, time.Time{}, 10, nil, false},
		{0, time.Unix(0, middle.Time), 20, all[100:120], true},
		{0, time.Now(), 20, nil, false},
	} {
		events, more, err := log.ReadOfLeader(t.Context(), tt.from, tt.since, tt.limit)
		if diff := cmp.Diff(tt.want, events); diff != "" || more != tt.more || err != nil {
			t.Errorf("from %d, since %v, at most %d: more %v, %v, want %v (-want +got):\n%s", tt.from, tt.since, tt.limit, more, err, tt.more, diff)
		}
	}
}

// A stream that a command makes anew while the nodes run is none whose files were
// removed, however many it had: nodes go on. Seen: the server of each was restarted.
func TestMeshStreamMadeAnew(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMesh(t, 3, broker.Config{Partitions: 1})
	large := strings.Repeat("x", 1<<20)
	for range 20 { // some files
		mustPublish(t, m.Nodes[0].Broker, record("match.1", large))
	}
	for _, n := range m.Nodes { // which are known
		if err := n.Server.Check(t.Context(), 0, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := brokertest.Recreate(t.Context(), m.Nodes[1].Server, "EVENTS-0", "anew"); err != nil {
		t.Fatal(err)
	}
	// As long as it takes for what is missing to count as removed, and more.
	for until := time.Now().Add(3 * time.Second); time.Now().Before(until); <-time.After(100 * time.Millisecond) {
		for _, n := range m.Nodes {
			if err := n.Server.Check(t.Context(), 0, false); err != nil {
				t.Fatalf("%s: %v", n.Config.Name, err)
			}
			if err := n.Failure(); err != nil {
				t.Fatalf("%s: %v", n.Config.Name, err)
			}
		}
	}
	mustPublish(t, m.Nodes[2].Broker, record("match.1", "0"))
	wantEvents(t, m.Nodes[0].Broker, "match.1", 1)
}
