package flight

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBroken = errors.New("broken")

func TestOnceIsDoneByOneForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o Once
		var wg sync.WaitGroup
		runs, started, finish := 0, make(chan struct{}), make(chan struct{})
		for range 10 {
			wg.Go(func() {
				err := o.Do(t.Context(), func(context.Context) error {
					runs++
					close(started)
					<-finish
					return nil
				})
				if err != nil || !o.Done() {
					t.Errorf("Do: error %v, done %v; want no error, done", err, o.Done())
				}
			})
		}
		<-started
		synctest.Wait()
		if o.Done() {
			t.Error("done while somebody is at it")
		}
		close(finish)
		wg.Wait()
		if err := o.Do(t.Context(), func(context.Context) error { return errBroken }); err != nil || runs != 1 {
			t.Errorf("Do when done: error %v after %d runs; want no error, one run", err, runs)
		}
	})
}

// Who waits for another's attempt does not get its failure.
func TestOnceFailsForItsOwnCallerOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o Once
		first, hung := make(chan error, 1), make(chan struct{})
		go func() {
			first <- o.Do(t.Context(), func(context.Context) error { <-hung; return errBroken })
		}()
		synctest.Wait()
		second := make(chan error, 1)
		go func() { second <- o.Do(t.Context(), func(context.Context) error { return nil }) }()
		synctest.Wait()
		close(hung)
		if err := <-first; !errors.Is(err, errBroken) {
			t.Errorf("the first one's error: %v, want %v", err, errBroken)
		}
		if err := <-second; err != nil || !o.Done() {
			t.Errorf("the second one: error %v, done %v; want no error, done", err, o.Done())
		}
	})
}

func TestOnceEndsWaitingWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o Once
		finish, first := make(chan struct{}), make(chan error, 1)
		go func() {
			first <- o.Do(t.Context(), func(context.Context) error { <-finish; return nil })
		}()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := o.Do(ctx, func(context.Context) error { t.Error("two are at it"); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want %v", err, context.Canceled)
		}
		close(finish)
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}

func TestOncePassesItsContextOn(t *testing.T) {
	var o Once
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errBroken)
	if err := o.Do(ctx, context.Cause); !errors.Is(err, errBroken) {
		t.Errorf("error %v, want %v", err, errBroken)
	}
}

func TestOnceGoesOnAfterAPanic(t *testing.T) {
	var o Once
	func() {
		defer func() { _ = recover() }()
		_ = o.Do(t.Context(), func(context.Context) error { panic(errBroken) })
	}()
	if o.Done() {
		t.Error("done by a panic")
	}
	if err := o.Do(t.Context(), func(context.Context) error { return nil }); err != nil || !o.Done() {
		t.Errorf("Do after a panic: error %v, done %v; want no error, done", err, o.Done())
	}
}

// Who looked before it was done, and comes to try when it is, does it no second
// time.
func TestOnceLooksAgainWhenItIsItsTurn(t *testing.T) {
	var o Once
	if _, mine := o.join(); !mine {
		t.Fatal("somebody else is at it")
	}
	o.done.Store(true)
	if err := o.try(t.Context(), func(context.Context) error { return errBroken }); err != nil {
		t.Errorf("error %v, want none", err)
	}
}
