package api

import (
	"errors"
	"net/http"

	"reecho/edge"
	"reecho/edge/limit"
	"reecho/edge/pusher"
)

// empty is the answer to a call that has nothing to tell: an object, because
// libraries decode it into one (PROTOCOL §5.3).
var empty = []byte("{}")

// postEvents is POST /events. A slip in info is found before anything is stored:
// the caller would publish again after a 400.
func (c *call) postEvents(string) ([]byte, error) {
	ev, err := c.decodePublish()
	if err != nil {
		return nil, err
	}
	attributes, err := parseInfo(ev.Info)
	if err != nil {
		return nil, err
	}
	events := []pusher.Publish{ev}
	return c.publish("events", events, ev.IdempotencyKey, func(stored edge.Stored) []byte {
		// Nothing fails from here on: it is stored.
		if ev.Info == "" {
			return empty
		}
		return c.channelsInfo(events[0].Channels, attributes, stored)
	})
}

// decodePublish reads the parameters from the body, or, where it lacks them,
// from the query (PROTOCOL §5.3).
func (c *call) decodePublish() (pusher.Publish, error) {
	ev, err := pusher.DecodePublish(c.body)
	if err == nil {
		return ev, nil
	}
	query, queryErr := c.parameters()
	if queryErr != nil {
		return ev, queryErr
	}
	if len(query["name"]) == 0 && len(query["channels"]) == 0 && len(query["channel"]) == 0 {
		return ev, badRequest(err)
	}
	if ev, err = pusher.DecodePublishQuery(c.body, query); err != nil {
		return ev, badRequest(err)
	}
	return ev, nil
}

// postBatch is POST /batch_events: all of it is checked before any is stored,
// for a caller could not tell which events to send again.
func (c *call) postBatch(string) ([]byte, error) {
	batch, key, err := pusher.DecodeBatch(c.body)
	if err != nil {
		return nil, badRequest(err)
	}
	most := c.app.Limits.BatchEvents
	if len(batch) == 0 {
		return nil, failf(http.StatusBadRequest, "The batch is empty, it should hold 1 to %d events", most)
	}
	if len(batch) > most {
		return nil, failf(http.StatusBadRequest, "Batch too large: %d events, limit %d", len(batch), most).of(limit.BatchEvents)
	}
	attributes := make([]attributeSet, len(batch))
	info := false
	for i := range batch {
		if attributes[i], err = parseInfo(batch[i].Info); err != nil {
			return nil, within(err, i)
		}
		info = info || batch[i].Info != ""
	}
	answer, err := c.publish("batch_events", batch, key, func(stored edge.Stored) []byte {
		if !info {
			return empty
		}
		return c.batchInfo(batch, attributes, stored)
	})
	return answer, withinBatch(err)
}

// within says which event of a batch a failure is about.
func within(err error, i int) error {
	f, ok := err.(*failure) //nolint:errorlint // made by the caller, never wrapped
	if !ok {
		return err
	}
	return failf(f.status, "Batch event %d: %s", i+1, f.text).of(f.limit)
}

// withinBatch does so for the event that the hub refused.
func withinBatch(err error) error {
	var refusal *pusher.PublishError
	if errors.As(err, &refusal) {
		return within(refused(refusal), refusal.Event)
	}
	return err
}

// postChannelEvent is the deprecated POST /channels/{channel}/events: name,
// socket_id and info are in the query, the body is the data.
func (c *call) postChannelEvent(channel string) ([]byte, error) {
	ev := pusher.Publish{Channels: []string{channel}, Data: string(c.body)}
	var err error
	if ev.Name, err = c.one("name"); err != nil {
		return nil, err
	}
	if ev.SocketID, err = c.one("socket_id"); err != nil {
		return nil, err
	}
	key, err := c.one("idempotency_key")
	if err == nil && key != "" {
		err = pusher.CheckIdempotencyKey(key, "idempotency_key")
	}
	if err != nil {
		return nil, badRequest(err)
	}
	// It has no answer to be told in, but is as wrong here as elsewhere.
	if _, err := c.info(); err != nil {
		return nil, err
	}
	_, err = c.publish("event", []pusher.Publish{ev}, key, func(edge.Stored) []byte { return nil })
	return nil, err
}
