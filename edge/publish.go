package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"reecho/broker"
	"reecho/edge/app"
	"reecho/edge/limit"
	"reecho/edge/pusher"
	"reecho/replay"
	"reecho/replay/receipt"
)

// Publish stores events, each once per channel named in it, and returns when
// all are stored; subscribers get them from there. It checks all of them before
// it stores any (pusher.Publish.Check, which changes them), so no way to publish
// can do without; the error is a *pusher.PublishError then.
//
// An event's SocketID, if it is one of ours, does not get the event. What was
// begun is finished whatever becomes of ctx, because an answer has to say what
// became of the event. Other errors are the broker's: ErrOverloaded,
// ErrUnavailable, ErrClosed; then some of the events may be stored.
func (h *Hub) Publish(ctx context.Context, a *app.App, events []pusher.Publish) error {
	_, err := h.store(ctx, a, events)
	return err
}

// Once is a publish that is answered, and that may be tried again.
type Once struct {
	// Key is what tries of the same publish have in common, "" if it is tried once: then
	// it is Publish. It belongs to the app, and to Content.
	Key string
	// Content stands for what is published, and asked to know of it.
	Content receipt.Content
	// Answer makes the answer when all is stored.
	Answer func(Stored) []byte
}

// PublishOnce is Publish that returns an answer. With a key it stores the events once
// in receipt.Config.Window on all nodes together, and answers each try the same. Errors
// are those of Publish, which leave the key to be tried again, and those of package
// receipt.
func (h *Hub) PublishOnce(ctx context.Context, a *app.App, events []pusher.Publish, once Once) ([]byte, error) {
	if once.Key == "" {
		stored, err := h.store(ctx, a, events)
		if err != nil {
			return nil, err
		}
		return once.Answer(stored), nil
	}
	records, err := h.records(a, events)
	if err != nil {
		return nil, err
	}
	answer, err := h.node.receipts.Publish(ctx, &receipt.Publish{
		App: a.ID, Key: once.Key, Content: once.Content, Records: records,
		Answer: func() []byte {
			// It is called by the try that stored them.
			h.tenants[a].tally.published.Add(uint64(len(records)))
			return once.Answer(Stored{h.node.broker, records})
		},
	})
	if errors.Is(err, receipt.ErrFull) {
		h.cfg.Ledger.Note(limit.Idempotency, slog.String("app", a.ID))
	}
	h.countRefused(err)
	if err != nil {
		return nil, fmt.Errorf("publish with a key: %w", err)
	}
	return answer, nil
}

// Stored are events that have been stored, one after the other and each for its channels
// in their order.
type Stored struct {
	broker  *broker.Broker
	records []broker.Record
}

// Position is that of the n-th of them, "" if nothing of its channel is retained.
func (s Stored) Position(n int) string {
	r := &s.records[n]
	if r.Sequence == 0 {
		return ""
	}
	return replay.LineOf(replay.LogsOf(s.broker).Log(r.Ref())).At(r.Sequence).String()
}

func (h *Hub) store(ctx context.Context, a *app.App, events []pusher.Publish) (Stored, error) {
	records, err := h.records(a, events)
	if err != nil {
		return Stored{}, err
	}
	if err := h.node.broker.Publish(context.WithoutCancel(ctx), records); err != nil {
		h.countRefused(err)
		return Stored{}, err
	}
	h.tenants[a].tally.published.Add(uint64(len(records)))
	return Stored{h.node.broker, records}, nil
}

// countRefused counts which limit of the log an error of it is about, if any.
func (h *Hub) countRefused(err error) {
	switch {
	case errors.Is(err, broker.ErrOverloaded):
		h.cfg.Ledger.Count(limit.PublishQueue)
	case errors.Is(err, broker.ErrLate):
		h.cfg.Ledger.Count(limit.PublishTimeout)
	}
}

// records checks events and makes what is stored of them.
func (h *Hub) records(a *app.App, events []pusher.Publish) ([]broker.Record, error) {
	total := 0
	for i := range events {
		if refusal := h.checkPublish(a, &events[i]); refusal != nil {
			refusal.Event = i
			if refusal.Limit != "" {
				h.cfg.Ledger.Count(limit.Reason(refusal.Limit))
			}
			return nil, refusal
		}
		total += len(events[i].Channels)
	}
	records := make([]broker.Record, 0, total)
	for i := range events {
		records = appendRecords(records, a.ID, &events[i])
	}
	return records, nil
}

const (
	// smallFrame is what any stream stores, in bytes: none is smaller than 1 MiB.
	smallFrame = 512 << 10
	// maxEscape is how many bytes JSON makes of one.
	maxEscape = 6
)

// checkPublish applies the app's limits, and those of the store, which count
// other bytes: of the frame, in which JSON escapes make up to six of one.
func (h *Hub) checkPublish(a *app.App, ev *pusher.Publish) *pusher.PublishError {
	refusal := ev.Check(pusher.PublishLimits{
		EventNameLength: a.Limits.EventNameLength, ChannelNameLength: a.Limits.ChannelNameLength,
		EventDataBytes: a.Limits.EventDataBytes, Channels: a.Limits.ChannelsPerPublish,
	})
	if refusal != nil {
		return refusal
	}
	if maxEscape*(len(ev.Name)+len(ev.Data)) < smallFrame {
		return nil
	}
	size := pusher.FrameSize("", ev.Name, ev.Data)
	for _, name := range ev.Channels {
		if most := h.node.broker.Log(broker.Ref{App: a.ID, Channel: name}).MaxFrame(); size+len(name) > most {
			return pusher.TooLarge("The data content of this event exceeds the allowed maximum: with its JSON escapes it is %d bytes, and channel %s stores events of at most %d bytes",
				size+len(name), pusher.Cut(name), most)
		}
	}
	return nil
}

// appendRecords makes one record per channel of a checked event.
func appendRecords(records []broker.Record, appID string, ev *pusher.Publish) []broker.Record {
	for _, name := range ev.Channels {
		const syntax = len(`{"event":"","channel":"","data":""}`)
		size := syntax + len(ev.Name) + len(name) + len(ev.Data) + len(ev.Data)/8
		records = append(records, broker.Record{
			App: appID, Channel: name, Exclude: ev.SocketID,
			Frame: pusher.AppendEvent(make([]byte, 0, size), name, ev.Name, ev.Data, ""),
		})
	}
	return records
}
