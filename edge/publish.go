package edge

import (
	"context"

	"reecho/broker"
	"reecho/edge/app"
	"reecho/edge/pusher"
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
	total := 0
	for i := range events {
		if refusal := h.checkPublish(a, &events[i]); refusal != nil {
			refusal.Event = i
			return refusal
		}
		total += len(events[i].Channels)
	}
	records := make([]broker.Record, 0, total)
	for i := range events {
		records = appendRecords(records, a.ID, &events[i])
	}
	return h.node.broker.Publish(context.WithoutCancel(ctx), records)
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
		if limit := h.node.broker.Log(broker.Ref{App: a.ID, Channel: name}).MaxFrame(); size+len(name) > limit {
			return pusher.TooLarge("The data content of this event exceeds the allowed maximum: with its JSON escapes it is %d bytes, and channel %s stores events of at most %d bytes",
				size+len(name), pusher.Cut(name), limit)
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
