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
	// behindTimeout bounds them: then the leader is read.
	behindTimeout = time.Second
	// leaderBatch is how many events are read of a leader at once, each by a question.
	leaderBatch = 64
)

var (
	// errBehind: the replica that answers has not what its leader has.
	errBehind = errors.New("the replica is behind")
	// errTrimmed: what was read is not there any more, nor may be what came behind it.
	errTrimmed = errors.New("events were removed while they were read")
	// errOldLeader: who answers is the leader for itself alone.
	errOldLeader = errors.New("the leader that answers was cut off, there is a newer one")
)

// readWhole reads until nothing is missing up to upTo. Any replica answers a read,
// with what it has, and "no more" of one that is behind proves nothing: so what is not
// seen up to there is asked of the leader. One look is of one replica and has no hole.
// A replica that stays behind is not waited for: the leader is read.
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
		case err == nil && !ok:
			// It has removed all. What a replica that is behind still has would prove
			// that nothing behind that is gone.
			return nil, false, nil
		case err != nil, last.Sequence <= seen, request.Start != nil && last.Time < request.Start.UnixNano():
			return events, false, err
		case len(events) == request.Batch:
			return events, true, nil
		case time.Now().After(late):
			return l.lookAtLeader(ctx, request, last.Sequence)
		}
		if err := Pause(ctx, behindPause); err != nil {
			return nil, false, unanswered(errBehind)
		}
	}
}

// lookAtLeader is look as the leader of a stream has it, who answers with one event at
// a time; last is its newest of the channel.
func (l Log) lookAtLeader(ctx context.Context, request get, last uint64) (events []Event, more bool, err error) {
	which := map[string]any{"seq": request.Sequence, "next_by_subj": l.stored()}
	if request.Start != nil {
		which = map[string]any{"start_time": request.Start, "next_by_subj": l.stored()}
	}
	for bytes := 0; len(events) < min(request.Batch, leaderBatch) && bytes < request.MaxBytes; {
		ev, ok, err := l.broker.oneOfLeader(ctx, l.lane, which)
		if err != nil {
			return nil, false, err
		}
		if !ok {
			last = 0
			break
		}
		events, bytes = append(events, ev), bytes+len(ev.Frame)
		which = map[string]any{"seq": ev.Sequence + 1, "next_by_subj": l.stored()}
	}
	if len(events) == 0 {
		return nil, false, nil
	}
	// The oldest go first: while the first is there, none is missing behind it.
	_, there, err := l.broker.atLeader(ctx, l.lane, events[0].Sequence)
	if err == nil && !there {
		err = unanswered(errTrimmed)
	}
	if err != nil {
		return nil, false, err
	}
	return events, events[len(events)-1].Sequence < last, nil
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

// Pause waits, or returns the error of ctx.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
