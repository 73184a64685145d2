package flight

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

func mustLock(t *testing.T, l *Lock) {
	t.Helper()
	if err := l.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestLockGoesFromHandToHandInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Lock
		var wg sync.WaitGroup
		var order []int
		mustLock(t, &l)
		for i := range 5 {
			wg.Go(func() {
				if err := l.Lock(t.Context()); err != nil {
					t.Error(err)
				}
				order = append(order, i)
				l.Unlock()
			})
			synctest.Wait()
		}
		l.Unlock()
		wg.Wait()
		if want := []int{0, 1, 2, 3, 4}; !slices.Equal(order, want) {
			t.Errorf("order %v, want %v", order, want)
		}
		if l.held || l.given != nil || l.waiting != 0 {
			t.Errorf("afterwards: held %v, channel %v, %d wait; want nothing", l.held, l.given, l.waiting)
		}
	})
}

func TestLockIsGivenUpWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Lock
		mustLock(t, &l)
		ctx, cancel := context.WithCancel(t.Context())
		gone, stays := make(chan error, 1), make(chan error, 1)
		go func() { gone <- l.Lock(ctx) }()
		synctest.Wait()
		go func() { stays <- l.Lock(t.Context()) }()
		synctest.Wait()
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want %v", err, context.Canceled)
		}
		l.Unlock()
		if err := <-stays; err != nil {
			t.Error(err)
		}
		l.Unlock()
		mustLock(t, &l)
	})
}

// The lock may be given to a caller in the moment it gives up: it goes on to the
// next one, or is free.
func TestLockIsNotLostByWhoGivesUp(t *testing.T) {
	for _, next := range []bool{false, true} {
		var l Lock
		mustLock(t, &l)
		mine := l.take()
		l.Unlock()
		var other chan struct{}
		if next {
			other = l.take()
		}
		l.giveUp()
		if next {
			// Which of the two got it is open; one did.
			<-other
		} else if l.held {
			t.Error("the lock is held by nobody")
		}
		if len(mine) != 0 {
			t.Error("the lock is given twice")
		}
	}
}

// Callers that come and give up at random all end, and one at a time has the
// lock.
func TestLockUnderLoad(t *testing.T) {
	var l Lock
	var wg sync.WaitGroup
	inside, got := 0, 0
	for i := range 8 {
		wg.Go(func() {
			for n := range 2000 {
				ctx, cancel := context.WithCancel(t.Context())
				if (n+i)%2 == 0 {
					go cancel()
				}
				if l.Lock(ctx) == nil {
					if inside++; inside != 1 {
						t.Errorf("%d have the lock", inside)
					}
					got++
					inside--
					l.Unlock()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if l.held || got < 8000 {
		t.Errorf("held %v, taken %d times; want free, at least 8,000 times", l.held, got)
	}
}

func TestUnlockOfAFreeLock(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	var l Lock
	l.Unlock()
}
