package replay

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	"reecho/broker"
)

// What a client wants and the ring does not have is looked for in this order
// (DESIGN §6): T1 is the ring, which Catchup asks itself; T2 the rings of other
// nodes, for a client that comes back (others.go); T3 the stream.

// past is what was found of a channel's past for a client that wants it.
type past struct {
	loaded bool   // it was looked for; should that fail, it is not tried again
	denied bool   // for want of a turn
	from   uint64 // WantSince: where the events begin
	lowest uint64 // how far down the ring was extended
	read   int    // events that were read
}

// nowhere is the lowest of a past that could not be had: any ring reaches it.
const nowhere = math.MaxUint64

// reaches reports whether the past that was loaded is in the ring still: it may
// have been evicted.
func (p *past) reaches(ring *Ring) bool { return p.loaded && ring.Base() <= p.lowest }

// wanted is how many events of the past may have to be read, 0 for a client that
// comes back.
func (c *Catchup) wanted() int {
	switch {
	case c.past.denied:
	case c.req.Want == WantSince:
		return c.ch.bounds.Events
	case c.req.Want == WantNewest:
		return min(c.req.Newest, c.ch.bounds.Events)
	}
	return 0
}

// load makes the next try come further, when it is the client's turn. The turn
// comes before the lock of the extension, or those who have one would wait for
// those who wait for one.
func (c *Catchup) load(ctx context.Context) error {
	end := func(int) {}
	if c.req.Turn != nil {
		var denied bool
		var err error
		end, denied, err = c.req.Turn(ctx, c.wanted())
		if err != nil {
			return err
		}
		if denied {
			c.past = past{loaded: true, denied: true, from: nowhere, lowest: nowhere}
			c.reason = OverLimit
			return nil
		}
	}
	c.past.read = 0
	defer func() { end(c.past.read) }()
	return within(ctx, func(attempt context.Context) error { return c.extend(ctx, attempt) })
}

// extend extends the ring, or finds the reason why that cannot be. One at a
// time: clients that come back together mostly miss the same. attempt ends
// before ctx, the client's.
func (c *Catchup) extend(ctx, attempt context.Context) error {
	ch := c.ch
	if err := ch.extending.Lock(attempt); err != nil {
		return waited(attempt, "for the missed events of channel "+ch.ref.Channel)
	}
	defer ch.extending.Unlock()
	var known, settled bool
	var base, end uint64
	ch.locked(func() {
		known, base, end = ch.ring.Known(), ch.ring.Base(), ch.sequencer.End()
		settled = c.req.Want != WantMissed || c.req.Claim.Sequence >= ch.unsettled
	})
	var err error
	switch {
	case !known:
		return untilAnswered(attempt, ch.findEnd)
	case !settled:
		err = untilAnswered(attempt, ch.settleNow)
	default:
		err = untilAnswered(attempt, func(ctx context.Context) error { return c.loadWanted(ctx, base, end) })
	}
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	ch.node.log.Warn("cannot read missed events", slog.String("app", ch.ref.App),
		slog.String("channel", ch.ref.Channel), slog.Any("error", err))
	c.reason = Unavailable
	return nil
}

// askAgain is the pause after a question that the log has not answered.
const askAgain = 100 * time.Millisecond

// untilAnswered reads again what the log has not answered: it may be busy, or being
// mended, and a client that is told of a gap has lost what is there.
func untilAnswered(ctx context.Context, read func(context.Context) error) error {
	for {
		err := read(ctx)
		if !errors.Is(err, broker.ErrUnavailable) {
			return err
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return err
		}
	}
}

func (c *Catchup) loadWanted(ctx context.Context, base, end uint64) error {
	switch at := c.req.Claim.Sequence; {
	case c.req.Want == WantNothing:
		return nil // the end was all that had to be known
	case c.req.Want == WantSince && c.req.Newest > 0:
		return c.loadBoth(ctx, base)
	case c.req.Want == WantSince:
		return c.loadSince(ctx, base)
	case c.req.Want == WantNewest:
		return c.loadNewest(ctx, base)
	case at > end:
		return c.loadAhead(ctx)
	case at < base:
		return c.loadBack(ctx, base)
	}
	return nil // somebody else loaded it meanwhile
}

// loadBack extends the ring down to the claim and proves that nothing is
// missing.
func (c *Catchup) loadBack(ctx context.Context, base uint64) error {
	at, bounds := c.req.Claim.Sequence, c.ch.bounds
	if events, whole := c.askOthers(ctx, at, base); whole {
		c.ch.prepend(c.line, at, base, events)
		return nil
	}
	// With the event of the claim itself, which proves most.
	events, _, err := c.read(ctx, Range{
		After: at - min(at, 1), UpTo: base, Events: bounds.Events + 1, Bytes: bounds.Bytes + bounds.EventBytes,
	})
	if errors.Is(err, ErrRangeTooLarge) {
		c.reason = OverLimit
		return nil
	}
	if err != nil {
		return err
	}
	proof, events, err := c.ch.prove(ctx, c.req.Claim, events)
	if err != nil {
		return err
	}
	if c.reason = proof.reason; proof.reason == "" {
		c.extendTo(proof, base, events)
	}
	return nil
}

// extendTo puts the events behind the claim into the ring. What is true of the
// claim for everybody makes the ring reach down to it. What is true for this
// client only, because it was there when nothing was missing, does not: then
// the claim is brought up to where the ring begins.
func (c *Catchup) extendTo(proof proof, base uint64, events []broker.Event) {
	after := c.req.Claim.Sequence
	if !proof.shared {
		if after = base; len(events) > 0 {
			after = events[0].Sequence - 1
		}
		c.req.Claim.Sequence = max(c.req.Claim.Sequence, after)
	}
	c.ch.prepend(c.line, after, base, events)
}

// loadAhead handles a claim above what this node has delivered: the event may
// not have come here yet, may be gone, or was never there.
func (c *Catchup) loadAhead(ctx context.Context) error {
	last, found, err := c.ch.log.Last(ctx)
	if err != nil {
		return err
	}
	if end, _ := c.ch.extent(); found && last.Sequence > end {
		c.coming = min(last.Sequence, c.req.Claim.Sequence)
		c.ch.Nudge(last.Sequence)
		return nil
	}
	if c.ahead.IsZero() {
		c.ahead = time.Now()
	}
	state, err := c.ch.log.State(ctx)
	if err != nil {
		return err
	}
	if state.Last < c.req.Claim.Sequence {
		// A leader that was cut off does not know what others have stored since.
		if state.Known.UnixNano() < c.ahead.UnixNano() {
			return errOldEnd
		}
		c.reason = UnknownPosition
		return nil
	}
	proof, _, err := c.ch.prove(ctx, c.req.Claim, nil)
	if err != nil {
		return err
	}
	if c.reason = proof.reason; proof.reason == "" {
		c.ch.foundAhead(c.req.Claim.Sequence)
	}
	return nil
}

// loadNewest finds the newest events.
func (c *Catchup) loadNewest(ctx context.Context, base uint64) error {
	bounds := c.ch.bounds
	if c.req.Newest > bounds.Events {
		c.req.Newest, c.reason = bounds.Events, OverLimit
	}
	_, have := c.ch.extent()
	want := c.req.Newest - have
	if want <= 0 {
		return nil
	}
	c.past.loaded, c.past.lowest = true, nowhere
	events, older, err := c.read(ctx, Range{UpTo: base, Events: want, Bytes: bounds.Bytes, Keep: KeepNewest, Past: true})
	if err != nil {
		return err
	}
	c.past.read = len(events)
	if older && len(events) < want {
		c.reason = OverLimit
	}
	if c.past.lowest = base; len(events) > 0 {
		c.past.lowest = events[0].Sequence - 1
		c.ch.prepend(c.line, c.past.lowest, base, events)
	}
	return nil
}

// loadBoth finds the newest events and where those since a time begin. What is
// told is whether the latter are whole.
func (c *Catchup) loadBoth(ctx context.Context, base uint64) error {
	if err := c.loadNewest(ctx, base); err != nil {
		return err
	}
	c.reason = ""
	read, known := c.past.read, false
	c.ch.locked(func() { known, base = c.ch.ring.Known(), c.ch.ring.Base() })
	if !known {
		c.past = past{read: read} // it was broken meanwhile: all is looked for again
		return nil
	}
	err := c.loadSince(ctx, base)
	c.past.read += read
	return err
}

// loadSince finds where the events since a time begin. What is not retained of
// them is told; the rest is sent.
func (c *Catchup) loadSince(ctx context.Context, base uint64) error {
	ch, bounds := c.ch, c.ch.bounds
	c.past.loaded, c.past.from, c.past.lowest = true, base, nowhere
	first, _, err := ch.log.ReadSince(ctx, c.req.Since, 1)
	if err != nil {
		return err
	}
	if c.past.from, _ = ch.extent(); len(first) > 0 {
		c.past.from = first[0].Sequence - 1
	}
	events, older, err := c.read(ctx, Range{
		After: c.past.from, UpTo: base, Events: bounds.Events, Bytes: bounds.Bytes, Keep: KeepNewest, Past: true,
	})
	if err != nil {
		return err
	}
	c.past.read = len(events)
	if c.reason, err = ch.proveSince(ctx, c.req.Since, c.past.from); err != nil {
		return err
	}
	if older {
		c.reason = OverLimit
	}
	if c.past.lowest = base; len(events) > 0 {
		c.past.lowest = max(c.past.from, events[0].Sequence-1)
		ch.prepend(c.line, c.past.lowest, base, events)
	}
	return nil
}

// read reads a range of the channel for the client.
func (c *Catchup) read(ctx context.Context, r Range) (events []broker.Event, cut bool, err error) {
	r.Log, r.Asker = c.ch.log, c.req.Asker
	return c.ch.node.history.Read(ctx, r)
}
