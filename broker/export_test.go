package broker

import (
	"context"
	"time"
)

// For tests in package broker_test, which have a mesh of real brokers.
var (
	TooMuch = (*Broker).tooMuch
	YieldTo = (*Broker).yieldTo
	AheadOf = aheadOf
)

// ReadOfLeader is Read, or ReadSince unless since is zero, of who leads the stream.
func (l Log) ReadOfLeader(ctx context.Context, from uint64, since time.Time, limit int) ([]Event, bool, error) {
	last, _, err := l.Last(ctx)
	if err != nil {
		return nil, false, err
	}
	request := get{Sequence: max(from, 1), Batch: limit, MaxBytes: readBytes}
	if !since.IsZero() {
		request = get{Start: &since, Batch: limit, MaxBytes: readBytes}
	}
	return l.lookAtLeader(ctx, request, last.Sequence)
}
