package replaytest

import (
	"context"
	"fmt"
	"time"

	"reecho/broker"
)

// channelLog is the log of one channel.
type channelLog struct {
	log   *Log
	ref   broker.Ref
	epoch string
	runs  broker.Runs
}

// Ref implements replay.Log.
func (c channelLog) Ref() broker.Ref { return c.ref }

// Epoch implements replay.Log.
func (c channelLog) Epoch() string { return c.epoch }

// Runs implements replay.Log.
func (c channelLog) Runs() broker.Runs { return c.runs }

// Stream implements replay.Log.
func (c channelLog) Stream() int {
	if c.Retention().Off {
		return -1
	}
	return 0
}

// Retention implements replay.Log.
func (c channelLog) Retention() broker.Retention {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	return c.log.Retention
}

func (c channelLog) find(ctx context.Context, wanted func(*Stored) bool) ([]broker.Event, error) {
	unlock, err := c.log.answer(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if c.log.blind {
		return nil, nil
	}
	return c.log.ofLocked(c.ref, wanted), nil
}

// Read implements replay.Log.
func (c channelLog) Read(ctx context.Context, from uint64, limit int) ([]broker.Event, bool, error) {
	events, err := c.find(ctx, func(e *Stored) bool { return e.Sequence >= from })
	return events[:min(limit, len(events))], len(events) > limit, err
}

// ReadTo implements replay.Log.
func (c channelLog) ReadTo(ctx context.Context, from, _ uint64, limit int) ([]broker.Event, bool, error) {
	return c.Read(ctx, from, limit)
}

// ReadSince implements replay.Log.
func (c channelLog) ReadSince(ctx context.Context, t time.Time, limit int) ([]broker.Event, bool, error) {
	events, err := c.find(ctx, func(e *Stored) bool { return e.Time >= t.UnixNano() })
	return events[:min(limit, len(events))], len(events) > limit, err
}

// Last implements replay.Log.
func (c channelLog) Last(ctx context.Context) (ev broker.Event, ok bool, err error) {
	events, err := c.find(ctx, func(*Stored) bool { return true })
	if err != nil || len(events) == 0 {
		return broker.Event{}, false, err
	}
	return events[len(events)-1], true, nil
}

// LastReaching implements replay.Log.
func (c channelLog) LastReaching(ctx context.Context, sequence uint64) (ev broker.Event, ok bool, err error) {
	if ev, ok, err = c.Last(ctx); err != nil {
		return ev, ok, err
	}
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	if c.log.next <= sequence {
		return broker.Event{}, false, fmt.Errorf("%w: the log ends at %d", broker.ErrUnavailable, c.log.next-1)
	}
	return ev, ok, nil
}

// Known implements replay.Log.
func (c channelLog) Known(asked time.Time) time.Time { return asked }

// Retains implements replay.Log.
func (c channelLog) Retains(ctx context.Context, sequence uint64) (bool, error) {
	events, err := c.find(ctx, func(e *Stored) bool { return e.Sequence == sequence })
	return len(events) > 0, err
}

// Span implements replay.Log.
func (c channelLog) Span(ctx context.Context) (first broker.Event, retained int, err error) {
	events, err := c.find(ctx, func(*Stored) bool { return true })
	if err != nil || len(events) == 0 {
		return broker.Event{}, 0, err
	}
	return events[0], len(events), nil
}

// State implements replay.Log.
func (c channelLog) State(ctx context.Context) (broker.State, error) {
	asked := time.Now()
	unlock, err := c.log.answer(ctx)
	if err != nil {
		return broker.State{}, err
	}
	defer unlock()
	l := c.log
	own, all := l.removed[c.ref.App], l.removed[""]
	s := broker.State{First: l.next, Last: l.next - 1, Known: asked, Bytes: l.bytes, Removed: own.sequence, RemovedTime: own.time, Shrunk: all.at}
	if len(l.events) > 0 {
		s.First, s.FirstTime = l.events[0].Sequence, time.Unix(0, l.events[0].Time)
	}
	return s, nil
}

// Sound implements replay.Log.
func (c channelLog) Sound(context.Context) error {
	l := c.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failing || l.blind {
		return ErrFailing
	}
	return nil
}

// Skew implements replay.Log.
func (channelLog) Skew() time.Duration { return 0 }

// Follow implements replay.Log.
func (c channelLog) Follow(ctx context.Context, r broker.Receiver) (end func(), err error) {
	unlock, err := c.log.answer(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	c.log.receivers[c.ref] = r
	return func() { c.log.unfollow(c.ref, r) }, nil
}
