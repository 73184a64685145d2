package acme

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
)

// Of many that want the lease at once, on three nodes, one has it, and one of the others
// when it is given back.
func TestLeaseOfMesh(t *testing.T) {
	t.Parallel()
	mesh := brokertest.StartMesh(t, 3, broker.Config{})
	vaults := make([]*vault, 3)
	for i := range vaults {
		vaults[i] = mustVault(t, mesh.Nodes[i].Broker, "a.example.com")
	}
	for round := range 5 {
		var mu sync.Mutex
		var taken []*lease
		var all sync.WaitGroup
		for i := range 12 {
			all.Go(func() {
				l, err := vaults[i%3].take(t.Context(), "node")
				if err != nil && !errors.Is(err, errHeld) {
					t.Error(err)
				}
				if err == nil {
					mu.Lock()
					taken = append(taken, l)
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if len(taken) != 1 {
			t.Fatalf("round %d: %d have the lease", round, len(taken))
		}
		taken[0].release(t.Context())
	}
}

// A lease ends by itself when its node is dead, and then another one has it; the dead
// one, should it live again, is told.
func TestLeaseExpires(t *testing.T) {
	t.Parallel()
	v := mustAlone(t, "a.example.com")
	dead, err := v.take(t.Context(), "dead")
	if err != nil {
		t.Fatal(err)
	}
	// As if it had been taken long ago.
	if dead.revision, err = v.write(t.Context(), leaseKeys+v.order, dead.self, dead.revision, time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := v.take(t.Context(), "other"); !errors.Is(err, errHeld) {
		t.Fatalf("got %v, want errHeld", err)
	}
	var other *lease
	wait(t, "the lease to end", func() bool {
		other, err = v.take(t.Context(), "other")
		return err == nil
	})
	if err := dead.renew(t.Context()); !errors.Is(err, broker.ErrConflict) {
		t.Errorf("the dead one renewed: %v", err)
	}
	dead.release(t.Context())
	if _, err := v.take(t.Context(), "third"); !errors.Is(err, errHeld) {
		t.Errorf("what the dead one gives back is another's: %v", err)
	}
	other.release(t.Context())
	if third, err := v.take(t.Context(), "third"); err != nil || third == nil {
		t.Errorf("not free after its release: %v", err)
	}
}

// What is done under a lease ends when the lease does, and its goroutine with stop.
func TestLeaseHold(t *testing.T) {
	t.Parallel()
	v := mustAlone(t, "a.example.com")
	l, err := v.take(t.Context(), "node")
	if err != nil {
		t.Fatal(err)
	}
	held, stop := l.hold(t.Context())
	if held.Err() != nil {
		t.Error("ended at once")
	}
	stop()
	if !errors.Is(held.Err(), context.Canceled) {
		t.Error("goes on after stop")
	}
	// One that is not the newest is lost with the next renewal.
	l.revision--
	l.every = time.Millisecond
	held, stop = l.hold(t.Context())
	defer stop()
	<-held.Done()
	if cause := context.Cause(held); !errors.Is(cause, errLeaseLost) {
		t.Errorf("ended with %v, want errLeaseLost", cause)
	}
}
