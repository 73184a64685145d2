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

// retainedOf asks what a channel's stream holds, how many events of the channel,
// and for the newest sequence it ever assigned; how many of the events are newer
// than a claim is the caller's to add.
func retainedOf(ctx context.Context, log Log) (r Retained, count int, last uint64, err error) {
	// In this order: trimming goes on, and what is gone when the state is asked
	// for must not have been counted on after it.
	first, count, err := log.Span(ctx)
	if err != nil {
		return r, 0, 0, err
	}
	state, err := log.State(ctx)
	if err != nil {
		return r, 0, 0, err
	}
	r = RetainedOf(state)
	r.First = first.Sequence
	// The range was read before, too: that all is there, or gone, is believed only
	// of a log that can read.
	return r, count, state.Last, log.Sound(ctx)
}

// allRetained stands for as many events as are retained of the channel.
const allRetained = -1

// decide tells whether everything behind a claim, of which newer events are
// known, is still retained; a node wants all of it.
func (ch *Channel) decide(ctx context.Context, c Claim, newer int) (Reason, error) {
	r, count, _, err := retainedOf(ctx, ch.log)
	if err != nil {
		return "", err
	}
	if r.Newer = newer; newer == allRetained {
		r.Newer = count
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
	r, err := ch.retained(ctx, c.Sequence, len(events))
	if err != nil {
		return proof{}, nil, err
	}
	limits, now := limitsOf(ch.log, ch.bounds), time.Now()
	return proof{
		reason: Decide(c, r, limits, now),
		shared: Decide(Claim{Sequence: c.Sequence}, r, limits, now) == "",
	}, events, nil
}

// proveSince decides whether the events since a time, of which so many were read
// after a sequence, are all there were.
func (ch *Channel) proveSince(ctx context.Context, since time.Time, after uint64, read int) (Reason, error) {
	if since.Before(ch.log.Runs().Since()) {
		return EpochChanged, nil
	}
	r, err := ch.retained(ctx, after, read)
	if err != nil {
		return "", err
	}
	if r.First != 0 && r.First <= after {
		return "", nil // it is older than that, and would have been trimmed first
	}
	// Nobody claims to have what was before after: of that only the time is known.
	return Decide(Claim{Confirmed: since.Add(confirmSlack)}, r, limitsOf(ch.log, ch.bounds), time.Now()), nil
}

// retained is what the stream holds, and this node, above a sequence, of which so
// many events were read already.
func (ch *Channel) retained(ctx context.Context, after uint64, read int) (Retained, error) {
	end, here := ch.countAbove(after)
	coming, err := ch.coming(ctx, max(end, after), limitsOf(ch.log, ch.bounds).PerChannel)
	if err != nil {
		return Retained{}, err
	}
	r, _, _, err := retainedOf(ctx, ch.log)
	r.Newer = read + here + coming
	return r, err
}

// countAbove is the end of the channel and how many events above a sequence, or
// above where it begins, the ring has.
func (ch *Channel) countAbove(sequence uint64) (end uint64, n int) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.sequencer.End(), len(ch.ring.After(max(sequence, ch.ring.Base())))
}

// coming is how many events above a sequence, up to limit, the stream has that
// may not have come to this node yet.
func (ch *Channel) coming(ctx context.Context, after uint64, limit int) (n int, err error) {
	last, found, err := ch.log.Last(ctx)
	if err != nil || !found || last.Sequence <= after {
		return 0, err
	}
	for more := true; more && n < limit; {
		var events []broker.Event
		if events, more, err = ch.log.ReadTo(ctx, after+1, last.Sequence, limit-n); err != nil || len(events) == 0 {
			return n, err
		}
		n, after = n+len(events), events[len(events)-1].Sequence
	}
	return n, nil
}

// waited is the error of a wait that its context ended.
func waited(ctx context.Context, what string) error {
	return fmt.Errorf("wait %s: %w", what, ctx.Err())
}
