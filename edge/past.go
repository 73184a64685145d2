package edge

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"time"

	"reecho/edge/limit"
	"reecho/edge/pusher"
	"reecho/replay"
)

const (
	// DefaultReplaysPerAddress is how many replays of one address read from the
	// log at once: enough to be read together, which is cheaper, also when all
	// clients are behind one proxy.
	DefaultReplaysPerAddress = 64
	// budgetPatience is how long a client that wants the past waits for the
	// budget of its app.
	budgetPatience = time.Second
	// budgetBurst is how many seconds of its budget an app may use at once.
	budgetBurst = 10
)

// asker is whose turn it is when the client reads.
func (r *resume) asker() netip.Addr { return limit.Address(r.c.address) }

// wantsPast is how many events of the past may have to be read, 0 for a client
// that comes back.
func (r *resume) wantsPast() int {
	limits := &r.c.app.Limits
	switch {
	case r.denied:
		return 0
	case r.wantsSince():
		return limits.ReplayEvents
	case r.last > 0 && !r.claimed:
		return min(r.last, limits.ReplayEvents)
	}
	return 0
}

// takeBudget takes n events out of what the app's clients may read of the past,
// and waits a moment for it. When it reports false the client was told that it
// gets none.
func (r *resume) takeBudget(ctx context.Context, n int) (ok bool, err error) {
	perSecond := r.c.app.Limits.ReplayReadsPerSecond
	if perSecond == 0 || n == 0 {
		return true, nil
	}
	for waited, first := time.Duration(0), true; ; first = false {
		ok, after := r.c.app.reads.Take(n, perSecond, budgetBurst*perSecond, time.Now())
		if ok {
			return true, nil
		}
		if first {
			r.ch.hub.cfg.Ledger.Note(limit.ReplayReads, slog.String("app", r.c.app.ID), slog.Int("value", perSecond))
		}
		// A little more: the clock and the tokens are rounded.
		after += time.Millisecond
		if waited += after; waited > budgetPatience {
			r.deny(perSecond)
			return false, nil
		}
		select {
		case <-time.After(after):
		case <-ctx.Done():
			return false, fmt.Errorf("wait for the app's budget of reading: %w", ctx.Err())
		}
	}
}

// deny makes it a gap that the past is not read.
func (r *resume) deny(perSecond int) {
	r.denied, r.loaded, r.from, r.lowest = true, true, math.MaxUint64, math.MaxUint64
	r.c.fail(pusher.Errorf(0, "The past of channel %s is not sent: all clients of the app together may read %d events a second of it (replay_reads_per_second). Try again later",
		r.ch.name, perSecond))
	r.gap(replay.OverLimit)
}

// loadLast finds the newest events.
func (r *resume) loadLast(ctx context.Context, base uint64) error {
	limits := &r.c.app.Limits
	if r.last > limits.ReplayEvents {
		r.last, r.reason = limits.ReplayEvents, replay.OverLimit
	}
	r.ch.mu.Lock()
	have := len(r.ch.ring.After(r.ch.ring.Base()))
	r.ch.mu.Unlock()
	if r.last <= have {
		return nil
	}
	// Should it fail, it is not tried again.
	r.loaded, r.lowest = true, math.MaxUint64
	events, older, err := r.ch.hub.history.Read(ctx, replay.Range{
		App: r.ch.app.ID, Channel: r.ch.name, UpTo: base,
		Events: r.last - have, Bytes: limits.ReplayBytes, Keep: replay.KeepNewest, Past: true, Asker: r.asker(),
	})
	if err != nil {
		r.unavailable(err)
		return nil
	}
	r.read = len(events)
	if older && len(events) < r.last-have {
		r.reason = replay.OverLimit
	}
	if r.lowest = base; len(events) > 0 {
		r.lowest = events[0].Sequence - 1
		r.prepend(r.lowest, base, events)
	}
	return nil
}

// loadSince finds where the events since a time begin. What is not retained of
// them is told; the rest is sent.
func (r *resume) loadSince(ctx context.Context, base uint64) error {
	ch, limits := r.ch, &r.c.app.Limits
	r.loaded, r.from, r.lowest = true, base, math.MaxUint64
	first, _, err := ch.hub.broker.ReadSince(ctx, ch.app.ID, ch.name, r.ask.Since, 1)
	if err != nil {
		r.unavailable(err)
		return nil
	}
	if r.from = ch.position(); len(first) > 0 {
		r.from = first[0].Sequence - 1
	}
	events, older, err := ch.hub.history.Read(ctx, replay.Range{
		App: ch.app.ID, Channel: ch.name, After: r.from, UpTo: base,
		Events: limits.ReplayEvents, Bytes: limits.ReplayBytes, Keep: replay.KeepNewest, Past: true, Asker: r.asker(),
	})
	if err != nil {
		r.unavailable(err)
		return nil
	}
	r.read = len(events)
	// The claim of a client that had everything at that time.
	r.claim = replay.Claim{Sequence: r.from, Confirmed: r.ask.Since.Add(replay.DefaultSweep)}
	proof, _, err := r.prove(ctx, events)
	if err != nil {
		r.unavailable(err)
		return nil
	}
	if r.reason = proof.reason; older {
		r.reason = replay.OverLimit
	}
	if r.lowest = base; len(events) > 0 {
		r.lowest = max(r.from, events[0].Sequence-1)
		r.prepend(r.lowest, base, events)
	}
	return nil
}
