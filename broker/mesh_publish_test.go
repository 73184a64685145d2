package broker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"reecho/broker"
	"reecho/broker/brokertest"
)

// An answer of a stream that is about now is not the last word on an event: it is
// tried again, and stored once. They come before the right ones here.
func TestMeshRefusalsPass(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMesh(t, 3, broker.Config{Partitions: 1})
	nc, err := m.Nodes[0].Server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	codes := []int{10158, 10008, 10009, 10023, 10077, 10096, 10118, 10167}
	answered := 0
	if _, err := nc.Subscribe("h.>", func(e *nats.Msg) {
		_ = nc.Publish(e.Reply, fmt.Appendf(nil, `{"error":{"code":503,"err_code":%d,"description":"not now"}}`, codes[answered%len(codes)]))
		answered++
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		mustPublish(t, m.Nodes[i%3].Broker, record("match.1", fmt.Sprint(i)))
	}
	wantEvents(t, m.Nodes[2].Broker, "match.1", 50)
}

// Where no majority is left an event fails after PublishTimeout, those that come after
// it fail at once, and when there is one again events are stored.
func TestMeshStalls(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMesh(t, 3, broker.Config{Partitions: 1, PublishTimeout: 2 * time.Second})
	b := m.Nodes[0].Broker
	m.Stop(m.Nodes[1:]...)
	begun := time.Now()
	for range 200 {
		if err := b.Publish(t.Context(), []broker.Record{record("match.1", "lost")}); !errors.Is(err, broker.ErrUnavailable) {
			t.Fatalf("publish without a majority: %v", err)
		}
		if time.Since(begun) > time.Minute {
			t.Fatal("each event is tried for as long as the first")
		}
	}
	m.Start(m.Nodes[1:]...)
	for err := errors.New("not tried"); err != nil; {
		if err = b.Publish(t.Context(), []broker.Record{record("match.2", "1")}); err != nil && time.Since(begun) > 2*time.Minute {
			t.Fatalf("publish with a majority: %v", err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
}

// Another leader disturbs its stream, and no other.
func TestMeshElectionDisturbs(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMesh(t, 3, broker.Config{Partitions: 2})
	heard := func(n *brokertest.MeshNode) bool {
		for {
			select {
			case stream := <-n.Disturbed():
				if stream == 1 {
					return true
				}
			case <-time.After(2 * time.Second):
				return false
			}
		}
	}
	for _, n := range m.Nodes {
		// That a node listens takes a moment to cross a route.
		poll(t, n.Config.Name+" knows of the new leader", func() bool {
			return m.StepDown(t.Context(), m.Nodes[0], "EVENTS-1") == nil && heard(n)
		})
	}
}

// Events of one call and channel are stored in their order over elections. Seen: a
// leader that had just ended lost one, and the next one reached its successor before the
// first was sent again.
func TestMeshBatchKeepsOrder(t *testing.T) {
	t.Parallel()
	const batch, callers, elections = 10, 4, 30
	m := brokertest.StartMesh(t, 3, broker.Config{Partitions: 1, EventsPerChannel: 1_000_000})
	ctx, stop := context.WithCancel(t.Context())
	calls := make([]int, callers)
	var running sync.WaitGroup
	for i := range callers {
		running.Go(func() {
			for ; ctx.Err() == nil; calls[i]++ {
				records := make([]broker.Record, batch)
				for n := range records {
					records[n] = record(fmt.Sprint("match.", i), fmt.Sprint(calls[i]*batch+n))
				}
				if err := m.Nodes[i%3].Publish(context.WithoutCancel(ctx), records); err != nil {
					t.Errorf("publish: %v", err)
					return
				}
			}
		})
	}
	for range elections {
		poll(t, "the leader steps down", func() bool { return m.StepDown(t.Context(), m.Nodes[0], "EVENTS-0") == nil })
		select {
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
	stop()
	running.Wait()
	for i, n := range calls {
		wantEvents(t, m.Nodes[0].Broker, fmt.Sprint("match.", i), n*batch)
	}
}
