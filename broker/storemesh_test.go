package broker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
)

// In a cluster a value is put only where that is which is expected, by whichever node:
// of many that count at the same time none is lost and none counted twice, also while
// a node goes and comes back. A store has lost nothing by that.
func TestStoreInAMesh(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMesh(t, 3, broker.Config{Partitions: 1})
	views := make([]*broker.Store, len(m.Nodes))
	for i, n := range m.Nodes {
		views[i] = mustOpenStore(t, n.Broker)
	}
	wantPutExpects(t, views...)
	const each = 20
	count := func(s *broker.Store) {
		for range each {
			if err := countOne(t.Context(), s); err != nil {
				t.Error(err)
				return
			}
		}
	}
	var counting sync.WaitGroup
	for _, s := range views[:2] {
		counting.Go(func() { count(s) })
		counting.Go(func() { count(s) })
	}
	m.Stop(m.Nodes[2])
	m.Start(m.Nodes[2])
	counting.Wait()
	s := mustOpenStore(t, m.Nodes[2].Broker)
	v, err := s.Get(t.Context(), "count")
	if want := fmt.Sprint(4 * each); err != nil || string(v.Text) != want {
		t.Errorf("counted %s, %v; want %s", v.Text, err, want)
	}
	if !s.Void().IsZero() {
		t.Errorf("the store has lost something until %v", s.Void())
	}
}

// countOne adds one to the number in a store.
func countOne(ctx context.Context, s *broker.Store) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		v, err := s.Get(ctx, "count")
		if err != nil {
			return err
		}
		n := 0
		if v.Revision != 0 {
			if _, err := fmt.Sscan(string(v.Text), &n); err != nil {
				return err
			}
		}
		_, err = s.Put(ctx, "count", fmt.Append(nil, n+1), v.Revision)
		if !errors.Is(err, broker.ErrConflict) {
			return err
		}
	}
}
