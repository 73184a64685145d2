package edge

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"reecho/broker"
	"reecho/edge/app"
	"reecho/edge/pusher"
	"reecho/replay"
)

// HistoryQuery asks for a page of a channel's retained events.
type HistoryQuery struct {
	// After and Before are positions that bound the page, "" for none.
	After, Before string
	// Since bounds the page in time; zero for none.
	Since time.Time
	// Limit is how many events the page may hold.
	Limit int
	// Newest: the newest events first, counted from the end of the range.
	Newest bool
}

// HistoryEvent is a retained event.
type HistoryEvent struct {
	Position string
	Time     time.Time
	Name     string
	Data     string
}

// HistoryPage is a page of events in the order asked for; More says that the
// range goes on.
type HistoryPage struct {
	Events []HistoryEvent
	More   bool
}

// PositionError says why a position cannot be gone on from.
type PositionError struct {
	Position string
	Reason   replay.Reason
}

// Error implements error.
func (e *PositionError) Error() string {
	return fmt.Sprintf("position %q: %s", e.Position, e.Reason)
}

// History returns a page of the events that are retained of a channel. The
// error is a *PositionError if After or Before is no position of the channel, or
// if events behind After are not retained any more.
func (h *Hub) History(ctx context.Context, a *app.App, channel string, q HistoryQuery) (HistoryPage, error) {
	ch := h.tenants[a].channels.acquire(channel)
	defer h.tenants[a].channels.release(ch)
	if !ch.retained {
		return HistoryPage{}, nil
	}
	after, low, high, err := ch.historyRange(ctx, q)
	if err != nil {
		return HistoryPage{}, err
	}
	events, more, err := ch.readPage(ctx, low, high, q)
	if err != nil {
		return HistoryPage{}, fmt.Errorf("read the history of %q: %w", channel, err)
	}
	if err := ch.checkAfter(ctx, q.After, after); err != nil {
		return HistoryPage{}, err
	}
	page := HistoryPage{More: more, Events: make([]HistoryEvent, len(events))}
	for i := range events {
		at := i
		if q.Newest {
			at = len(events) - 1 - i
		}
		if page.Events[at], err = ch.historyEvent(&events[i]); err != nil {
			return HistoryPage{}, err
		}
	}
	return page, nil
}

// historyRange is the sequences between which, both left out, a page lies, and
// the one that After says.
func (ch *channel) historyRange(ctx context.Context, q HistoryQuery) (after, low, high uint64, err error) {
	last, _, err := ch.hub.broker.Last(ctx, ch.app.ID, ch.name)
	if err != nil {
		return 0, 0, 0, err
	}
	high = last.Sequence + 1
	if q.Before != "" {
		before, reason := ch.positions.Parse(q.Before)
		if reason != "" {
			return 0, 0, 0, &PositionError{Position: q.Before, Reason: reason}
		}
		high = min(high, before)
	}
	if q.After != "" {
		var reason replay.Reason
		if after, reason = ch.positions.Parse(q.After); reason != "" {
			return 0, 0, 0, &PositionError{Position: q.After, Reason: reason}
		}
		low = after
	}
	if !q.Since.IsZero() {
		first, _, err := ch.hub.broker.ReadSince(ctx, ch.app.ID, ch.name, q.Since, 1)
		if err != nil {
			return 0, 0, 0, err
		}
		since := last.Sequence
		if len(first) > 0 {
			since = first[0].Sequence - 1
		}
		low = max(low, since)
	}
	return after, low, high, nil
}

// readPage reads what fits into a page, and tells whether there are more.
func (ch *channel) readPage(ctx context.Context, low, high uint64, q HistoryQuery) (events []broker.Event, more bool, err error) {
	if high <= low {
		return nil, false, nil
	}
	keep := replay.KeepOldest
	if q.Newest {
		keep = replay.KeepNewest
	}
	return ch.hub.history.Read(ctx, replay.Range{
		App: ch.app.ID, Channel: ch.name, After: low, UpTo: high - 1,
		Events: q.Limit, Bytes: historyBytes, Keep: keep, Past: true,
	})
}

// historyBytes bounds what is held in memory for one page.
const historyBytes = 32 << 20

// checkAfter makes sure that nothing behind a position is gone.
func (ch *channel) checkAfter(ctx context.Context, position string, after uint64) error {
	if position == "" {
		return nil
	}
	retained, count, last, err := ch.retention(ctx)
	if err != nil {
		return err
	}
	if after > last {
		return &PositionError{Position: position, Reason: replay.UnknownPosition}
	}
	limits := ch.limits()
	if retained.First > after {
		retained.Newer = count
	}
	limits.Events, limits.Bytes = math.MaxInt, math.MaxInt
	// Whoever asks for history does not say when it was whole.
	if reason := replay.Decide(replay.Claim{Sequence: after}, retained, limits, time.Now()); reason != "" {
		return &PositionError{Position: position, Reason: reason}
	}
	return nil
}

func (ch *channel) historyEvent(ev *broker.Event) (HistoryEvent, error) {
	m, err := pusher.DecodeMessage(ev.Frame)
	if err != nil {
		return HistoryEvent{}, fmt.Errorf("[unexpected] stored event %d of %q: %w", ev.Sequence, ch.name, err)
	}
	return HistoryEvent{
		Position: string(ch.positions.Append(nil, ev.Sequence)), Time: time.Unix(0, ev.Time),
		Name: m.Event, Data: pusher.ClientEventData(m.Data),
	}, nil
}

// IsPositionError returns the PositionError in err, or nil.
func IsPositionError(err error) *PositionError {
	var e *PositionError
	if errors.As(err, &e) {
		return e
	}
	return nil
}
