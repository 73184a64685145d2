package replay

import (
	"context"
	"log/slog"
	"math"
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

// Sink takes the events of one channel. Its methods are called by one
// goroutine at a time with the tail locked: they must not block and must not
// call the Tail.
type Sink interface {
	// Start is called once, before any stored event is delivered. last is the
	// newest event stored before, with a zero Sequence if none is retained.
	Start(last broker.Event)
	// Deliver is called in stream order. ev.Frame is immutable and may be
	// kept.
	Deliver(ev broker.Event)
	// Gap says that events between the last delivered one and the next were
	// trimmed before this node could read them, or may have been.
	Gap(reason Reason)
}

// Tail follows one channel and gives its Sink every event stored since Open,
// each once, in stream order. Ephemeral events (sequence 0) pass as they come.
type Tail struct {
	follower *Follower
	ref      broker.Ref
	sink     Sink
	sub      *broker.Subscription

	mu  sync.Mutex
	log Log // guarded by mu
	// whole is when nothing was missing; guarded by mu.
	whole time.Time
	// unsettled: the first event came without a predecessor; whether one was
	// lost and trimmed before is asked at the next sweep, for asking at once
	// would cost more than delivering. Guarded by mu.
	unsettled bool
	filling   bool // guarded by mu: one fill at a time
	closed    bool // guarded by mu
}

var _ broker.Receiver = (*Tail)(nil)

// Live implements broker.Receiver.
func (t *Tail) Live(ev broker.Event) {
	t.mu.Lock()
	t.unsettled = t.unsettled || ev.Sequence != 0 && t.log.Opens(&ev)
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

// compared is Nudge with the newest sequence of the stream, 0 if nothing of the
// channel is retained, which was asked for at the time given. It reports whether
// that leaves a doubt, which settle ends: the newest event here is not retained
// any more, and so may one behind it not be that never came here.
func (t *Tail) compared(sequence uint64, asked time.Time) (doubt bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	pos := t.log.Position()
	if sequence == pos && pos != 0 && !t.unsettled && asked.After(t.whole) {
		t.whole = asked
	}
	t.log.Nudge(sequence)
	t.repairLocked()
	return sequence < pos || sequence == 0 || t.unsettled
}

// settle decides with a state of the stream, of the time given, whether
// anything behind the newest event here can be gone.
func (t *Tail) settle(state broker.State, asked time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.log.Missing() {
		return
	}
	claim := Claim{Sequence: t.log.Position(), Confirmed: t.whole.Add(confirmSlack)}
	if t.unsettled {
		claim.Sequence, t.unsettled = 0, false
	}
	if reason := Decide(claim, RetainedOf(state), t.limits(), time.Now()); reason != "" {
		t.sink.Gap(reason)
	}
	t.whole = asked
}

// limits of the channel; a node repairs whatever it takes.
func (t *Tail) limits() Limits {
	kept := t.follower.broker.Retention(t.ref.App, t.ref.Channel)
	return Limits{
		PerChannel: int(kept.EventsPerChannel), MaxAge: kept.MaxAge, MaxBytes: kept.MaxBytes,
		Events: math.MaxInt, Bytes: math.MaxInt,
	}
}

// Close ends the subscription. No Deliver starts after it returned.
func (t *Tail) Close() {
	t.follower.forget(t)
	t.sub.Close()
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
}

// attach starts behind last, which was asked for at the time given.
func (t *Tail) attach(last broker.Event, asked time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sink.Start(last)
	t.whole = asked
	t.log.Attach(last.Sequence)
	t.drainLocked()
	t.unsettled = last.Sequence == 0 && t.log.Position() != 0
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
		// A log that has failed is told of by the broker, once.
		if err != nil && t.follower.broker.Failure() == nil {
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
	pos, whole := t.log.Position(), t.whole
	t.mu.Unlock()
	// With the event at the position: while it is there, nothing behind it was
	// trimmed.
	events, more, err := t.follower.broker.Read(ctx, t.ref.App, t.ref.Channel, max(pos, 1), fillBatch)
	if err != nil {
		return false, err
	}
	proven := len(events) > 0 && events[0].Sequence == pos
	if proven {
		events = events[1:]
	}
	if len(events) == 0 && !more {
		return t.abandonIfTrimmed(ctx, pos+1)
	}
	var gap Reason
	if !proven {
		newer := len(events)
		switch {
		case t.begins(events):
			newer = 0
		case more:
			newer = math.MaxInt // enough to doubt it
		}
		if gap, err = t.decide(ctx, Claim{Sequence: pos, Confirmed: whole.Add(confirmSlack)}, newer); err != nil {
			return false, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if gap != "" && !t.closed && t.log.Position() == pos {
		t.sink.Gap(gap)
	}
	for i := range events {
		if !t.closed && t.log.Stored(&events[i]) {
			t.sink.Deliver(events[i])
		}
	}
	t.drainLocked()
	return true, nil
}

func (t *Tail) begins(events []broker.Event) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(events) > 0 && t.log.Begins(events[0].Sequence)
}

// decide tells whether all events behind a claim are still retained.
func (t *Tail) decide(ctx context.Context, c Claim, newer int) (Reason, error) {
	b := t.follower.broker
	first, _, err := b.First(ctx, t.ref.App, t.ref.Channel)
	if err != nil {
		return "", err
	}
	state, err := b.State(ctx, t.ref.App, t.ref.Channel)
	if err != nil {
		return "", err
	}
	r := RetainedOf(state)
	r.First, r.Newer = first.Sequence, newer
	return Decide(c, r, t.limits(), time.Now()), nil
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
	if !t.closed && t.log.Missing() {
		t.sink.Gap(TrimmedByAge)
	}
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
