package broker

import (
	"context"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"slices"
	"time"
)

// watch sends late events again until ctx ends.
func (p *publisher) watch(ctx context.Context) {
	ticker := time.NewTicker(watchPeriod)
	defer ticker.Stop()
	var probed time.Time
	for {
		select {
		case now := <-ticker.C:
			p.repair(now)
			if p.isIdle() && now.Sub(probed) > tryTimeout {
				probed = now
				p.probe(ctx)
			}
			// Partitions must not retry in step.
			ticker.Reset(watchPeriod/2 + mathrand.N(watchPeriod)) //nolint:gosec // jitter
		case <-ctx.Done():
			return
		}
	}
}

// repair resends every event in flight, oldest first, if one of them is late,
// and gives up on those that were tried too long. A log that has failed gets
// nothing more. It may yet store what it has, as a disk does that only hangs, so
// that is waited for; unless the log is broken, which had ackTimeout to answer.
func (p *publisher) repair(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expireLocked(now)
	late := false
	for _, e := range p.inFlight {
		late = late || now.Sub(e.sent) > ackTimeout
	}
	if !late {
		return
	}
	if !p.repairing {
		p.broker.log.Debug("a stream does not answer, trying again", slog.String("stream", p.lane.stream))
	}
	p.repairing = true
	for _, number := range p.numbersLocked() {
		e := p.inFlight[number]
		switch {
		case now.Sub(e.sent) <= ackTimeout:
		case p.broken:
			delete(p.inFlight, number)
			p.finishLocked(e, p.failure)
		case now.Sub(e.first) > p.broker.cfg.PublishTimeout:
			delete(p.inFlight, number)
			p.giveUpLocked(e, now)
		case p.failure != nil:
		default:
			e.retried = true
			// An error leaves it late, for the next round.
			_ = p.sendLocked(e, now)
		}
	}
	p.pumpLocked()
}

var errStalled = fmt.Errorf("%w: the stream has no leader", ErrUnavailable)

// giveUpLocked fails an event that was tried for too long.
func (p *publisher) giveUpLocked(e *pending, now time.Time) {
	if p.broker.cfg.Shared {
		p.stalled = true
	} else {
		p.silent = true
	}
	if e.refused == nil {
		p.finishLocked(e, ErrLate)
		return
	}
	p.refusal, p.refusedAt = e.refused, now
	p.finishLocked(e, e.refused)
}

// isIdle reports that the publisher is stalled and tries nothing any more.
func (p *publisher) isIdle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stalled && len(p.inFlight) == 0
}

// probe ends a stall if the stream has a leader: that one was elected may not have
// been heard.
func (p *publisher) probe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	if _, _, err := p.broker.askLeader(ctx, p.lane, map[string]any{"last_by_subj": p.lane.subject(storedRoot, Ref{})}); err == nil {
		p.elected()
	}
}

// expireLocked gives up on what has waited too long to be sent. It is not
// stored. Those that had waited for room before may be behind younger ones.
func (p *publisher) expireLocked(now time.Time) {
	for len(p.queue) > 0 && now.Sub(p.queue[0].first) > p.broker.cfg.PublishTimeout {
		p.finishLocked(p.shiftLocked(), ErrLate)
	}
	if !p.repairing || len(p.queue) == 0 {
		return
	}
	p.queue = slices.DeleteFunc(p.queue, func(e *pending) bool {
		late := now.Sub(e.first) > p.broker.cfg.PublishTimeout
		if late {
			p.queued -= len(e.record.Frame)
			p.finishLocked(e, ErrLate)
		}
		return late
	})
}

// refusedLocked has e, if it is in flight, tried again: the stream has answered that it
// does not take it now, or that an earlier try is under way.
func (p *publisher) refusedLocked(e *pending, err error) {
	if e != nil {
		p.repairing = true
		e.refused, e.sent = err, time.Time{}
	}
}

// elected means that the stream has a leader, perhaps another one. It has not got what
// was sent to the one before.
func (p *publisher) elected() {
	p.mu.Lock()
	p.stalled = false
	p.resendLocked()
	p.mu.Unlock()
	p.repair(time.Now())
}

// noLeader means that nobody serves the stream at the moment: what is in
// flight is sent again by watch.
func (p *publisher) noLeader() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.repairing = len(p.inFlight) > 0
	p.resendLocked()
}

// resendLocked makes all that is in flight late.
func (p *publisher) resendLocked() {
	for _, e := range p.inFlight {
		e.sent = time.Time{}
	}
}
