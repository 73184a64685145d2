package replay

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"reecho/broker"
)

const (
	// fillBatch is how many events one read of a fill asks for.
	fillBatch = 256
	// fillPause and fillPauseMax are the back-off of a fill that found less
	// than it knows to be stored: a replica may be behind its leader.
	fillPause    = 20 * time.Millisecond
	fillPauseMax = time.Second
)

// Sink takes the events of one channel. Deliver is called in stream order, by
// one goroutine at a time, with the tail locked: it must not block and must
// not call the Tail. ev.Frame is immutable and may be kept.
type Sink interface {
	Deliver(ev broker.Event)
}

// Tail follows one channel and gives its Sink every event stored since Open,
// each once, in stream order. Ephemeral events (sequence 0) pass as they come.
type Tail struct {
	follower *Follower
	ref      broker.Ref
	sink     Sink
	sub      *broker.Subscription

	mu      sync.Mutex
	log     Log  // guarded by mu
	filling bool // guarded by mu: one fill at a time
	closed  bool // guarded by mu
}

var _ broker.Receiver = (*Tail)(nil)

// Live implements broker.Receiver.
func (t *Tail) Live(ev broker.Event) {
	t.mu.Lock()
	switch {
	case t.closed:
	case ev.Sequence == 0:
		t.sink.Deliver(ev)
	case t.log.Live(&ev):
		t.sink.Deliver(ev)
		t.drainLocked()
	default:
		t.repairLocked()
	}
	t.mu.Unlock()
	t.follower.cfg.Throttle()
}

// Nudge implements broker.Receiver.
func (t *Tail) Nudge(sequence uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log.Nudge(sequence)
	t.repairLocked()
}

// Close ends the subscription. No Deliver starts after it returned.
func (t *Tail) Close() {
	t.follower.forget(t)
	t.sub.Close()
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
}

func (t *Tail) attach(last uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log.Attach(last)
	t.drainLocked()
	t.repairLocked()
}

func (t *Tail) drainLocked() {
	for ev, ok := t.log.Next(); ok; ev, ok = t.log.Next() {
		t.sink.Deliver(ev)
	}
}

// repairLocked starts a fill when events are missing and none runs.
func (t *Tail) repairLocked() {
	if t.closed || t.filling || !t.log.Missing() {
		return
	}
	t.filling = t.follower.start(t.fill)
}

// fill reads what is missing until nothing is.
func (t *Tail) fill(ctx context.Context) {
	for pause := fillPause; ; pause = min(2*pause, fillPauseMax) {
		progress, err := t.fillOnce(ctx)
		if err != nil {
			t.follower.log.Warn("cannot read missed events, trying again",
				slog.String("channel", t.ref.Channel), slog.Any("error", err))
		}
		t.mu.Lock()
		done := t.closed || !t.log.Missing() || ctx.Err() != nil
		if done {
			t.filling = false
		}
		t.mu.Unlock()
		if done {
			return
		}
		if progress {
			pause = fillPause / 2
			continue
		}
		wait(ctx, pause)
	}
}

// fillOnce reads one batch above the position, or proves that there is none.
func (t *Tail) fillOnce(ctx context.Context) (progress bool, err error) {
	t.mu.Lock()
	from := t.log.Position() + 1
	t.mu.Unlock()
	events, more, err := t.follower.broker.Read(ctx, t.ref.App, t.ref.Channel, from, fillBatch)
	if err != nil {
		return false, err
	}
	if len(events) == 0 && !more {
		return t.abandonIfTrimmed(ctx, from)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range events {
		if !t.closed && t.log.Stored(&events[i]) {
			t.sink.Deliver(events[i])
		}
	}
	t.drainLocked()
	return true, nil
}

// abandonIfTrimmed asks the stream's leader, because an empty read proves
// nothing: a replica may be behind (DESIGN §5, step 3).
func (t *Tail) abandonIfTrimmed(ctx context.Context, from uint64) (progress bool, err error) {
	last, ok, err := t.follower.broker.Last(ctx, t.ref.App, t.ref.Channel)
	if err != nil || ok && last.Sequence >= from {
		return false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for ev, ok := t.log.Abandon(); ok; ev, ok = t.log.Abandon() {
		if !t.closed {
			t.sink.Deliver(ev)
		}
	}
	return true, nil
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
