package broker

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/nats-io/nats.go"
)

// findBatch is how many events one answer of Find has at most.
const findBatch = 256

// Floor is a sequence below which nothing will be that is published from now on: 0 if
// nothing better is known. It asks nobody.
func (l Log) Floor() uint64 {
	p := l.broker.publishers[l.lane.index]
	if p == nil || l.lane.renewed.Load() != nil {
		return 0
	}
	return max(p.newestAcknowledged(), l.lane.seen.Load(), l.lane.found)
}

// Find returns the sequences of retained events above one whose Record.ID begins with
// prefix, by the rest of it. What was stored before the call is found. It reads what
// there is of the channel above that sequence.
func (l Log) Find(ctx context.Context, above uint64, prefix string) (map[string]uint64, error) {
	found := make(map[string]uint64)
	last, ok, err := l.Last(ctx)
	if err != nil || !ok {
		return found, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for seen := above; seen < last.Sequence; {
		before, more := seen, false
		request := get{Sequence: seen + 1, Batch: findBatch, MaxBytes: readBytes, NextFor: l.stored()}
		err := l.broker.get(ctx, l.lane, request, func(m *nats.Msg) {
			seen = number(m.Header, headerSequence)
			if rest, is := strings.CutPrefix(value(m.Header, headerMessageID), prefix); is {
				found[rest] = seen
			}
		}, func(end *nats.Msg) { more = number(end.Header, headerPending) > 0 })
		if err == nil && seen < last.Sequence && !more {
			// A replica that is behind, unless it was removed since.
			seen, err = l.behind(ctx, seen)
		}
		if err == nil && seen == before {
			err = Pause(ctx, behindPause)
		}
		if err != nil {
			return nil, fmt.Errorf("find events of channel %q above %d: %w", l.ref.Channel, above, unanswered(err))
		}
	}
	return found, nil
}

// behind says how far the channel was read if a replica had nothing more above a
// sequence: to its end if the leader has nothing more either.
func (l Log) behind(ctx context.Context, seen uint64) (uint64, error) {
	last, ok, err := l.Last(ctx)
	if err == nil && (!ok || last.Sequence <= seen) {
		return math.MaxUint64, nil
	}
	return seen, err
}
