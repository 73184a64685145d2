package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

const (
	// behindPause is between two looks at replicas that are behind their leader:
	// they mostly are by less.
	behindPause = 5 * time.Millisecond
	// behindTimeout bounds them.
	behindTimeout = 2 * time.Second
)

var (
	// errBehind: the replica that answers has not what its leader has.
	errBehind = errors.New("the replica is behind")
	// errOldLeader: who answers is the leader for itself alone.
	errOldLeader = errors.New("the leader that answers was cut off, there is a newer one")
)

// readWhole reads until nothing is missing up to upTo. Any replica answers a read,
// with what it has, and "no more" of one that is behind proves nothing: so what is not
// seen up to there is asked of the leader. One look is of one replica and has no hole.
func (l Log) readWhole(ctx context.Context, request get, upTo uint64) (events []Event, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	late := time.Now().Add(behindTimeout)
	for {
		err = again(ctx, func(ctx context.Context) error {
			events, more, err = l.look(ctx, request)
			return err
		})
		seen := max(request.Sequence, 1) - 1
		if len(events) > 0 {
			seen = events[len(events)-1].Sequence
		}
		if err != nil || more || seen >= upTo {
			return events, more, err
		}
		last, ok, err := l.broker.lastOfLeader(ctx, l.lane, l.stored())
		if err == nil && last.Sequence <= seen && upTo != math.MaxUint64 {
			last, ok, err = l.lastReaching(ctx, upTo)
		}
		switch {
		case err != nil, !ok, last.Sequence <= seen, request.Start != nil && last.Time < request.Start.UnixNano():
			return events, false, err
		case len(events) == request.Batch:
			return events, true, nil
		case time.Now().After(late):
			return nil, false, unanswered(errBehind)
		}
		if err := pause(ctx, behindPause); err != nil {
			return nil, false, unanswered(errBehind)
		}
	}
}

// replicaSkew is how far apart replicas may be in removing what has its age: their
// clocks differ, and each looks now and then.
const replicaSkew = 5 * time.Second

// safe is the time since when what was stored has not been removed for its age by any
// replica.
func (l Log) safe() time.Time {
	age := l.lane.retention.MaxAge
	return time.Now().Add(min(replicaSkew, age/4) + l.Skew() - age)
}

// doubt makes s that of the replica which has removed most, if what was stored before
// safe may be gone there.
func (s *State) doubt(safe time.Time) {
	if !s.FirstTime.IsZero() && s.FirstTime.Before(safe) {
		s.First, s.FirstTime = s.Last+1, safe
	}
}

// spanOfLeader is Span as the leader has it.
func (l Log) spanOfLeader(ctx context.Context) (first Event, retained int, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	first, ok, err := l.broker.oneOfLeader(ctx, l.lane, map[string]any{"start_time": l.safe(), "next_by_subj": l.stored()})
	if err == nil && ok {
		var info streamInfo
		info, err = l.broker.streamInfoOf(ctx, l.lane, l.stored())
		retained = info.Subjects[l.stored()]
	}
	if err != nil {
		return Event{}, 0, fmt.Errorf("count the events of channel %q: %w", l.ref.Channel, err)
	}
	if retained == 0 {
		return Event{}, 0, nil
	}
	return first, retained, nil
}

// pause waits, or returns the error of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
