package replay

import (
	"context"
	"fmt"
	"math"
	"time"

	"reecho/broker"
)

// proof is whether everything behind a claim is there, and for whom.
type proof struct {
	reason Reason // why not
	shared bool   // it is, for whoever makes the same claim
}

// Bounds are those of one replay.
type Bounds struct {
	Events int // how many
	Bytes  int // of their frames
	// EventBytes is what one event has at most.
	EventBytes int
}

// unbounded is for a node, which repairs whatever it takes.
var unbounded = Bounds{Events: math.MaxInt, Bytes: math.MaxInt}

// limitsOf is what bounds what a log retains, and a replay from it.
func limitsOf(log Log, b Bounds) Limits {
	kept := log.Retention()
	return Limits{
		PerChannel: int(kept.EventsPerChannel), MaxAge: kept.MaxAge, MaxBytes: kept.MaxBytes,
		Skew: log.Skew(), Events: b.Events, Bytes: b.Bytes,
	}
}

// retainedOf asks what a channel's stream holds, and for the newest sequence it ever
// assigned. What is newer than a sequence is counted if no other is left: one that is
// proves that nothing was trimmed, however many there are. They are not added up from
// what was read before and what is here, for the ring may have been evicted between.
func retainedOf(ctx context.Context, log Log, after uint64) (r Retained, last uint64, err error) {
	// In this order: trimming goes on, and what is gone when the state is asked
	// for must not have been counted on after it.
	first, count, err := log.Span(ctx)
	if err != nil {
		return r, 0, err
	}
	state, err := log.State(ctx)
	if err != nil {
		return r, 0, err
	}
	r = RetainedOf(state)
	if r.First = first.Sequence; r.First > after {
		r.Newer = count
	}
	// The range was read before, too: that all is there, or gone, is believed only
	// of a log that can read.
	return r, state.Last, log.Sound(ctx)
}

// allRetained stands for as many events as are retained of the channel.
const allRetained = -1

// decide tells whether everything behind a claim, of which newer events are
// known, is still retained; a node wants all of it.
func (ch *Channel) decide(ctx context.Context, c Claim, newer int) (Reason, error) {
	r, _, err := retainedOf(ctx, ch.log, c.Sequence)
	if err != nil {
		return "", err
	}
	if newer != allRetained {
		r.Newer = newer
	}
	return Decide(c, r, limitsOf(ch.log, unbounded), time.Now()), nil
}

// prove decides whether events, which were read from the claim's own on, and
// those that this node has are all there were behind the claim. It returns the
// events behind it.
func (ch *Channel) prove(ctx context.Context, c Claim, events []broker.Event) (proof, []broker.Event, error) {
	if len(events) > 0 && events[0].Sequence == c.Sequence {
		return proof{shared: true}, events[1:], nil
	}
	r, _, err := retainedOf(ctx, ch.log, c.Sequence)
	if err != nil {
		return proof{}, nil, err
	}
	limits, now := limitsOf(ch.log, ch.bounds), time.Now()
	return proof{
		reason: Decide(c, r, limits, now),
		shared: Decide(Claim{Sequence: c.Sequence}, r, limits, now) == "",
	}, events, nil
}

// proveSince decides whether the events since a time, which were read after a
// sequence, are all there were.
func (ch *Channel) proveSince(ctx context.Context, since time.Time, after uint64) (Reason, error) {
	if since.Before(ch.log.Runs().Since()) {
		return EpochChanged, nil
	}
	r, _, err := retainedOf(ctx, ch.log, after)
	if err != nil {
		return "", err
	}
	if r.First != 0 && r.First <= after {
		return "", nil // it is older than that, and would have been trimmed first
	}
	// Nobody claims to have what was before after: of that only the time is known.
	return Decide(Claim{Confirmed: since.Add(confirmSlack)}, r, limitsOf(ch.log, ch.bounds), time.Now()), nil
}

// extent is the end of the channel and how many events the ring has.
func (ch *Channel) extent() (end uint64, events int) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.sequencer.End(), len(ch.ring.All())
}

// waited is the error of a wait that its context ended.
func waited(ctx context.Context, what string) error {
	return fmt.Errorf("wait %s: %w", what, ctx.Err())
}
