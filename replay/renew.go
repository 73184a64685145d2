package replay

import (
	"context"
	"time"

	"reecho/broker"
)

// outdated reports that the stream of the channel has another epoch than the channel
// was told.
func (ch *Channel) outdated() bool { return ch.log.Epoch() != ch.Line().epoch }

// renew begins anew behind the newest event, after the stream got another epoch: all
// who are here are told of a gap, and nothing of before is kept.
func (ch *Channel) renew(ctx context.Context) error {
	line, known := LineOf(ch.log), ch.log.Known(time.Now())
	last, ok, err := ch.log.Last(ctx)
	if err != nil {
		return err
	}
	if !ok {
		last = broker.Event{}
	}
	ch.locked(func() {
		if ch.closed {
			return
		}
		next := &renewal{line: line, n: 1}
		if r := ch.renewed.Load(); r != nil {
			next.n += r.n
		}
		ch.renewed.Store(next)
		ch.sequencer = sequencer{}
		ch.sequencer.Attach(last.Sequence)
		ch.ring.Start(last.Sequence)
		ch.trimLocked()
		ch.whole, ch.unsettled = known, 0
		if r, ok := ch.audience.(Renewer); ok {
			r.Renewed(last)
		}
		ch.audience.Gap(EpochChanged)
		ch.movedLocked()
	})
	// Live events of the new epoch may have been taken for old ones.
	ch.node.recheck(ch)
	return nil
}

// followLocked begins anew if the channel's stream has got another epoch: what the
// client has, or was found for it, says nothing any more.
func (c *Catchup) followLocked() {
	line := c.ch.Line().text
	if line == c.line {
		return
	}
	c.line, c.past, c.coming = line, past{}, 0
	if c.req.Want == WantMissed {
		c.reason = EpochChanged
	}
}
