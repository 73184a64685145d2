// Package flight is for work that many want at the same time: one does it, the
// others wait, and each may give up waiting. It says nothing of what the work
// is, and starts no goroutine.
package flight

import (
	"context"
	"sync"
	"sync/atomic"
)

// Once is work that is done once: a sync.Once for what takes time and may fail.
// Its zero value is ready. It is safe for concurrent use and must not be copied.
//
// It is not x/sync/singleflight, which gives the failure of one to all who wait:
// the context of who tries is often that of a connection, and one client that
// hangs up would fail the others.
type Once struct {
	done atomic.Bool

	mu      sync.Mutex
	attempt chan struct{} // closed when the attempt under way has ended; nil: none is
}

// Done reports whether the work has been done, so that Do would return at once.
// What the work wrote can be read by whom this tells so.
func (o *Once) Done() bool { return o.done.Load() }

// Undo makes work that has been done undone, so that Do does it again.
func (o *Once) Undo() { o.done.Store(false) }

// Do returns nil when the work is done. It calls work with ctx unless it is done
// already or somebody else is at it. Who has waited for an attempt that failed
// tries itself, so the error is that of the caller's own attempt, or, when ctx
// ends while it waits, the context's as it is.
func (o *Once) Do(ctx context.Context, work func(context.Context) error) error {
	for !o.Done() {
		attempt, mine := o.join()
		if mine {
			return o.try(ctx, work)
		}
		select {
		case <-attempt:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// join returns the attempt under way, or makes the caller the one to try.
func (o *Once) join() (attempt chan struct{}, mine bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.attempt == nil {
		o.attempt = make(chan struct{})
		return o.attempt, true
	}
	return o.attempt, false
}

// try makes an attempt. One that panics has failed: others must not wait for it
// for ever.
func (o *Once) try(ctx context.Context, work func(context.Context) error) error {
	defer o.leave()
	// It may have been done between the caller's look and its turn.
	if o.Done() {
		return nil
	}
	err := work(ctx)
	if err == nil {
		o.done.Store(true)
	}
	return err
}

func (o *Once) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.attempt)
	o.attempt = nil
}
