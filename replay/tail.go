package replay

import (
	"context"
	"fmt"
	"log/slog"
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

// start begins behind last, before which nothing had come at the time given; false:
// the channel was closed meanwhile.
func (ch *Channel) start(last broker.Event, known time.Time, end func()) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.closed {
		return false
	}
	ch.end = end
	ch.audience.Start(last)
	ch.ring.Start(last.Sequence)
	ch.whole = known
	ch.sequencer.Attach(last.Sequence)
	if ev, ok := ch.sequencer.First(); ok {
		ch.opensLocked(&ev)
	}
	ch.drainLocked()
	ch.repairLocked()
	return true
}

// Live implements broker.Receiver.
func (ch *Channel) Live(ev broker.Event) {
	ch.mu.Lock()
	ch.opensLocked(&ev)
	switch {
	case ch.closed:
	case ev.Sequence == 0:
		ch.audience.Deliver(ev, ch.node.cfg.Frame(ev.Frame))
	case ch.sequencer.Live(&ev):
		ch.deliverLocked(ev)
		ch.drainLocked()
	default:
		ch.repairLocked()
	}
	ch.mu.Unlock()
	ch.node.memory.Reclaim()
	ch.node.cfg.Throttle()
}

// Told implements broker.Hearer.
func (ch *Channel) Told(life string, text []byte) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if h, ok := ch.audience.(Hearer); ok && !ch.closed {
		h.Told(life, text)
	}
}

// Nudge implements broker.Receiver.
func (ch *Channel) Nudge(sequence uint64) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.sequencer.Nudge(sequence)
	ch.repairLocked()
}

// opensLocked leaves it unsettled whether ev, if it is the first of the channel
// here, is the first of all.
func (ch *Channel) opensLocked(ev *broker.Event) {
	if ev.Sequence != 0 && ch.sequencer.Opens(ev) {
		ch.unsettled = ev.Sequence
		ch.node.recheck(ch)
	}
}

// deliverLocked delivers the next stored event. One that was overtaken is a gap:
// those who were there before miss it, others must not get it.
func (ch *Channel) deliverLocked(ev broker.Event) {
	if ch.sequencer.Overtaken(&ev) {
		ch.gapLocked(TrimmedByAge)
		ch.movedLocked()
		return
	}
	// It was trimmed when nothing seemed to be missing, and came after that.
	// Others of its time may have been lost on the way: of them nothing is known.
	if ev.Time < ch.whole.UnixNano() {
		ch.whole = time.Unix(0, ev.Time)
	}
	frame := ch.node.cfg.Frame(ev.Frame)
	positioned := ch.audience.Deliver(ev, frame)
	ch.keepLocked(Entry{Sequence: ev.Sequence, Exclude: ev.Exclude, Frame: frame, Positioned: positioned})
	ch.movedLocked()
}

func (ch *Channel) drainLocked() {
	if ch.closed {
		return
	}
	for ev, ok := ch.sequencer.Next(); ok; ev, ok = ch.sequencer.Next() {
		ch.deliverLocked(ev)
	}
}

// gapLocked says that what the ring has no longer reaches the present.
func (ch *Channel) gapLocked(reason Reason) {
	ch.ring.Break()
	ch.gap = time.Now().UnixNano()
	ch.trimLocked()
	ch.audience.Gap(reason)
}

// compared is Nudge with where the stream has the end of the channel. It reports
// whether that leaves a doubt, which settle ends: the newest event here is not retained
// any more, and so may one behind it not be that never came here.
func (ch *Channel) compared(tail broker.Tail) (doubt bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	pos := ch.sequencer.Position()
	if tail.Sequence == pos && pos != 0 && ch.unsettled == 0 {
		ch.wholeLocked(tail.Known)
	}
	ch.sequencer.Nudge(tail.Sequence)
	ch.repairLocked()
	return tail.Sequence < pos || tail.Sequence == 0 || ch.unsettled != 0
}

// wholeLocked notes that nothing was missing at a time.
func (ch *Channel) wholeLocked(at time.Time) {
	if at.After(ch.whole) {
		ch.whole = at
	}
}

// settle decides with a state of the stream whether anything behind the newest event
// here can be gone. The error is ErrUnavailable if the state is of one that has not
// even that event: it was cut off, and does not know of a newer leader yet.
func (ch *Channel) settle(state broker.State) error {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.closed || ch.sequencer.Missing() {
		return nil
	}
	if pos := ch.sequencer.Position(); state.Last < pos {
		return fmt.Errorf("%w: the stream of channel %q seems to end at %d, before event %d", broker.ErrUnavailable, ch.ref.Channel, state.Last, pos)
	}
	claim := ch.claimLocked()
	if ch.unsettled != 0 {
		claim.Sequence, ch.unsettled = 0, 0
	}
	if reason := Decide(claim, RetainedOf(state), limitsOf(ch.log, unbounded), time.Now()); reason != "" {
		ch.gapLocked(reason)
	}
	ch.wholeLocked(state.Known)
	return nil
}

// settleNow compares the channel with the stream and settles what is unsettled,
// once nothing is missing.
func (ch *Channel) settleNow(ctx context.Context) error {
	if err := ch.await(ctx, func() bool { return !ch.sequencer.Missing() }); err != nil {
		return err
	}
	known := ch.log.Known(time.Now())
	last, _, err := ch.log.Last(ctx)
	if err != nil {
		return err
	}
	if !ch.compared(broker.Tail{Sequence: last.Sequence, Known: known}) {
		return nil
	}
	state, err := ch.log.State(ctx)
	if err != nil {
		return err
	}
	return ch.settle(state)
}

// claimLocked is what the node itself has of the channel.
func (ch *Channel) claimLocked() Claim {
	return Claim{Sequence: ch.sequencer.Position(), Confirmed: ch.whole.Add(confirmSlack), Own: true}
}

// repairLocked starts a fill when events are missing and none runs.
func (ch *Channel) repairLocked() {
	if ch.closed || ch.filling || !ch.sequencer.Missing() {
		return
	}
	ch.filling = ch.node.startFill(ch.fill)
}

// fill reads what is missing until nothing is.
func (ch *Channel) fill(ctx context.Context) {
	for pause := fillPause; ; pause = min(2*pause, fillPauseMax) {
		progress, err := ch.fillOnce(ctx)
		ch.node.memory.Reclaim()
		// A log that has failed is told of by the broker, once.
		if err != nil && ch.node.logs.Failure() == nil {
			ch.node.log.Warn("cannot read missed events, trying again",
				slog.String("channel", ch.ref.Channel), slog.Any("error", err))
		}
		switch {
		case ch.filled(ctx):
			return
		case progress:
			pause = fillPause / 2
		default:
			wait(ctx, pause)
		}
	}
}

// filled ends a fill that has nothing more to do.
func (ch *Channel) filled(ctx context.Context) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	done := ch.closed || !ch.sequencer.Missing() || ctx.Err() != nil
	ch.filling = !done
	return done
}

// fillOnce reads one batch above the position, or proves that there is none.
func (ch *Channel) fillOnce(ctx context.Context) (progress bool, err error) {
	ch.mu.Lock()
	claim, target := ch.claimLocked(), ch.sequencer.Target()
	ch.mu.Unlock()
	// With the event at the position: while it is there, nothing behind it was
	// trimmed. What the nearest replica has is enough: what is known to be missing is
	// read again.
	events, more, err := ch.log.ReadTo(ctx, max(claim.Sequence, 1), 0, fillBatch)
	if err != nil {
		return false, err
	}
	proven := len(events) > 0 && events[0].Sequence == claim.Sequence
	if proven {
		events = events[1:]
	}
	if len(events) == 0 && !more {
		return ch.abandonIfTrimmed(ctx, claim.Sequence+1, target)
	}
	if proven {
		ch.deliverRead(events)
		return true, nil
	}
	gap, err := ch.decide(ctx, claim, ch.newer(events, more))
	if err != nil {
		return false, err
	}
	ch.deliverBehind(claim, gap, events)
	return true, nil
}

// newer is how many events count as newer than what this node has, of those that
// were read.
func (ch *Channel) newer(events []broker.Event, more bool) int {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	switch {
	case len(events) > 0 && ch.sequencer.Begins(events[0].Sequence):
		return 0
	case more:
		return allRetained // of those at or below the claim, one is enough
	}
	return len(events)
}

// deliverRead delivers what was read and follows on what was delivered.
func (ch *Channel) deliverRead(events []broker.Event) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.deliverReadLocked(events)
}

// deliverBehind delivers what was read behind a claim, and the gap before it if
// there is one. When live events have come meanwhile nothing was decided about
// what is behind those, and it is read again.
func (ch *Channel) deliverBehind(c Claim, gap Reason, events []broker.Event) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.closed || ch.claimLocked() != c {
		return
	}
	if gap != "" {
		ch.gapLocked(gap)
	}
	ch.deliverReadLocked(events)
}

func (ch *Channel) deliverReadLocked(events []broker.Event) {
	for i := range events {
		if !ch.closed && ch.sequencer.Stored(&events[i]) {
			ch.deliverLocked(events[i])
		}
	}
	ch.drainLocked()
}

// abandonIfTrimmed asks the stream's leader, because an empty read proves
// nothing: a replica may be behind (DESIGN §5, step 3), and so may one that was the
// leader and was cut off, which does not reach the target.
func (ch *Channel) abandonIfTrimmed(ctx context.Context, from, target uint64) (progress bool, err error) {
	last, ok, err := ch.log.LastReaching(ctx, target)
	if err != nil || ok && last.Sequence >= from {
		return false, err
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.closed || ch.sequencer.Target() != target {
		return true, nil // of what was stored meanwhile that says nothing
	}
	for {
		ev, gap, ok := ch.sequencer.Abandon()
		if gap {
			ch.gapLocked(TrimmedByAge)
		}
		if !ok {
			break
		}
		ch.deliverLocked(ev)
	}
	ch.movedLocked()
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
