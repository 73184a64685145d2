package edge

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"reecho/edge/limit"
	"reecho/edge/pusher"
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

// turn is replay.Request's Turn: it waits for the turn of the client's address,
// in order and for as long as it takes, and takes events of the past out of the
// app's budget. Who comes back does not wait for those who want the past.
func (j *joining) turn(ctx context.Context, past int) (end func(read int), denied bool, err error) {
	node, address := j.c.app.node, j.c.address
	turns := &node.replays
	if past > 0 {
		turns = &node.pasts
	}
	err = turns.Enter(ctx, address, node.cfg.ReplaysPerAddress, func() {
		node.cfg.Ledger.Note(limit.Replays, slog.String("app", j.c.app.ID), slog.String("address", address.String()),
			slog.Int("value", node.cfg.ReplaysPerAddress))
	})
	if err != nil {
		return nil, false, fmt.Errorf("wait for other replays of the address: %w", err)
	}
	if ok, err := j.takeBudget(ctx, past); !ok || err != nil {
		turns.Leave(address)
		return nil, err == nil, err
	}
	return func(read int) {
		j.c.app.reads.Return(past - read)
		turns.Leave(address)
	}, false, nil
}

// takeBudget takes n events out of what the app's clients may read of the past,
// and waits a moment for it. When it reports false the client was told that it
// gets none.
func (j *joining) takeBudget(ctx context.Context, n int) (ok bool, err error) {
	perSecond := j.c.app.Limits.ReplayReadsPerSecond
	if perSecond == 0 || n == 0 {
		return true, nil
	}
	for waited, first := time.Duration(0), true; ; first = false {
		ok, after := j.c.app.reads.Take(n, perSecond, budgetBurst*perSecond, time.Now())
		if ok {
			return true, nil
		}
		if first {
			j.c.app.node.cfg.Ledger.Note(limit.ReplayReads, slog.String("app", j.c.app.ID), slog.Int("value", perSecond))
		}
		// A little more: the clock and the tokens are rounded.
		after += time.Millisecond
		if waited += after; waited > budgetPatience {
			j.deny(perSecond)
			return false, nil
		}
		select {
		case <-time.After(after):
		case <-ctx.Done():
			return false, fmt.Errorf("wait for the app's budget of reading: %w", ctx.Err())
		}
	}
}

// deny tells the client that the past is not read.
func (j *joining) deny(perSecond int) {
	j.c.fail(pusher.Errorf(0, "The past of channel %s is not sent: all clients of the app together may read %d events a second of it (replay_reads_per_second). Try again later",
		j.ch.name, perSecond))
}
