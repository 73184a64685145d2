package edge

import (
	"context"
	"fmt"
	"time"

	"reecho/broker"
	"reecho/edge/app"
	"reecho/edge/pusher"
	"reecho/replay"
)

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

// Position is where a channel ends: it is of every event that was stored before the call,
// and of none that is stored after it. It is "" if nothing of the channel is retained.
func (h *Hub) Position(ctx context.Context, a *app.App, channel string) (string, error) {
	log := replay.LogsOf(h.node.broker).Log(broker.Ref{App: a.ID, Channel: channel})
	if log.Retention().Off {
		return "", nil
	}
	// In this order: what is stored between them is found by the second.
	line := replay.LineOf(log)
	state, err := log.State(ctx)
	if err != nil {
		return "", fmt.Errorf("find the end of %q: %w", channel, err)
	}
	last, found, err := log.Last(ctx)
	if err != nil {
		return "", err
	}
	if !found {
		// All of it is gone: any place in the stream is behind it.
		return line.At(state.Last).String(), nil
	}
	return line.At(last.Sequence).String(), nil
}

// History returns a page of the events that are retained of a channel, with
// q.Newest the newest first. The error is a *replay.PositionError if After or
// Before is no position of the channel, or if events behind After are not retained
// any more.
func (h *Hub) History(ctx context.Context, a *app.App, channel string, q replay.PageQuery) (HistoryPage, error) {
	found, err := h.node.replay.Page(ctx, broker.Ref{App: a.ID, Channel: channel}, q)
	if err != nil {
		return HistoryPage{}, err
	}
	page := HistoryPage{More: found.More, Events: make([]HistoryEvent, len(found.Events))}
	for i := range found.Events {
		at := i
		if q.Newest {
			at = len(found.Events) - 1 - i
		}
		ev := &found.Events[i]
		m, err := pusher.DecodeMessage(ev.Frame)
		if err != nil {
			return HistoryPage{}, fmt.Errorf("[unexpected] stored event %d of %q: %w", ev.Sequence, channel, err)
		}
		page.Events[at] = HistoryEvent{
			Position: found.Line.At(ev.Sequence).String(), Time: time.Unix(0, ev.Time),
			Name: m.Event, Data: pusher.ClientEventData(m.Data),
		}
	}
	return page, nil
}
