package api

import (
	"net/http"
	"strings"

	"reecho/edge/pusher"
)

// empty is the answer to a call that has nothing to tell.
var empty = []byte("{}")

// postEvents is POST /events.
func (c *call) postEvents(string) ([]byte, error) {
	ev, err := c.decodePublish()
	if err != nil {
		return nil, err
	}
	if err := c.checkEvent(&ev); err != nil {
		return nil, err
	}
	attributes, err := parseInfo(ev.Info)
	if err != nil {
		return nil, err
	}
	if err := c.api.hub.Publish(c.r.Context(), c.app, []pusher.Publish{ev}); err != nil {
		return nil, err
	}
	if ev.Info == "" {
		return empty, nil
	}
	return c.channelsInfo(ev.Channels, attributes), nil
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

// postBatch is POST /batch_events: all of it is checked before any is stored.
func (c *call) postBatch(string) ([]byte, error) {
	batch, err := pusher.DecodeBatch(c.body)
	if err != nil {
		return nil, badRequest(err)
	}
	limit := c.app.Limits.BatchEvents
	if len(batch) == 0 {
		return nil, failf(http.StatusBadRequest, "The batch is empty, it should hold 1 to %d events", limit)
	}
	if len(batch) > limit {
		return nil, failf(http.StatusBadRequest, "Batch too large: %d events, limit %d", len(batch), limit)
	}
	attributes := make([]attributeSet, len(batch))
	info := false
	for i := range batch {
		if err := c.checkEvent(&batch[i]); err != nil {
			return nil, within(err, i)
		}
		if attributes[i], err = parseInfo(batch[i].Info); err != nil {
			return nil, within(err, i)
		}
		info = info || batch[i].Info != ""
	}
	if err := c.api.hub.Publish(c.r.Context(), c.app, batch); err != nil {
		return nil, err
	}
	if !info {
		return empty, nil
	}
	return c.batchInfo(batch, attributes), nil
}

// within says which event of a batch a failure is about.
func within(err error, i int) error {
	f, ok := err.(*failure) //nolint:errorlint // made two lines above, never wrapped
	if !ok {
		return err
	}
	return failf(f.status, "Batch event %d: %s", i+1, f.text)
}

// checkEvent applies names and limits (PROTOCOL §3, §5.2).
func (c *call) checkEvent(ev *pusher.Publish) error {
	limits := &c.app.Limits
	if err := pusher.CheckEvent(ev.Name, limits.EventNameLength); err != nil {
		return badRequest(err)
	}
	if err := pusher.CheckPublishable(ev.Name); err != nil {
		return badRequest(err)
	}
	if len(ev.Data) > limits.EventDataBytes {
		return failf(http.StatusRequestEntityTooLarge,
			"The data content of this event exceeds the allowed maximum (%d bytes)", limits.EventDataBytes)
	}
	if n := len(ev.Channels); n == 0 || n > limits.ChannelsPerPublish {
		return failf(http.StatusBadRequest, "An event goes to 1 to %d channels, got %d", limits.ChannelsPerPublish, n)
	}
	encrypted := false
	for _, name := range ev.Channels {
		if err := pusher.CheckChannel(name, limits.ChannelNameLength); err != nil {
			return failf(http.StatusBadRequest, "Invalid channel name: %v", err)
		}
		encrypted = encrypted || pusher.KindOf(name).Has(pusher.Encrypted)
	}
	if encrypted && len(ev.Channels) > 1 {
		return failf(http.StatusBadRequest, "An event for an encrypted channel goes to that channel alone")
	}
	if ev.SocketID != "" {
		if _, _, err := pusher.ParseSocketID(ev.SocketID); err != nil {
			return badRequest(err)
		}
	}
	return nil
}

// postChannelEvent is the deprecated POST /channels/{channel}/events: name and
// socket_id are in the query, the body is the data.
func (c *call) postChannelEvent(channel string) ([]byte, error) {
	query, err := c.parameters()
	if err != nil {
		return nil, err
	}
	ev := pusher.Publish{
		Name: strings.Join(query["name"], ","), SocketID: strings.Join(query["socket_id"], ","),
		Channels: []string{channel}, Data: strings.ToValidUTF8(string(c.body), "\uFFFD"),
	}
	if err := c.checkEvent(&ev); err != nil {
		return nil, err
	}
	return nil, c.api.hub.Publish(c.r.Context(), c.app, []pusher.Publish{ev})
}
