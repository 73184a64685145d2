package edge

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// However many clients come back, the shards are given only so much at once:
// the next has its turn when a shard is done with what it was given.
func TestAdmitted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const slots, resumes = 3, 10
		ch := &channel{hub: &Hub{slots: make(chan struct{}, slots)}}
		given := make(chan chan<- struct{}, resumes)
		var ended atomic.Int64
		for range resumes {
			go func() {
				r := &resume{ch: ch}
				if err := r.admitted(t.Context(), func(written chan<- struct{}) bool {
					given <- written
					return true
				}); err != nil {
					t.Error(err)
				}
				ended.Add(1)
			}()
		}
		for done := range resumes {
			synctest.Wait()
			if n := len(given); n != min(slots, resumes-done) || ended.Load() != int64(done) {
				t.Fatalf("%d under way, %d ended after %d", n, ended.Load(), done)
			}
			close(<-given)
		}
	})
}

// What gives nothing to a shard is not waited for, and who waits for a slot
// gives up with its context.
func TestAdmittedWithoutWaiting(t *testing.T) {
	t.Parallel()
	ch := &channel{hub: &Hub{slots: make(chan struct{}, 1)}}
	r := &resume{ch: ch}
	for range 3 {
		if err := r.admitted(t.Context(), func(chan<- struct{}) bool { return false }); err != nil {
			t.Fatal(err)
		}
	}
	ch.hub.slots <- struct{}{}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	err := r.admitted(gone, func(chan<- struct{}) bool {
		t.Error("admitted without a slot")
		return false
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
