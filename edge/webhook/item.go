package webhook

import (
	"encoding/json"
	"errors"

	"reecho/edge/pusher"
)

// told is one event, as it will be in the body of a webhook.
type told struct {
	id   string
	made int64 // Unix milliseconds
	name string
	json []byte
}

// toldCost is about what an event needs in memory beside its JSON.
const toldCost = 128

func (e *told) size() int { return len(e.json) + toldCost }

// replaces reports whether nobody needs to hear of an event that waits if e comes
// behind it.
func (e *told) replaces(before *told) bool {
	return before != nil && e.name == pusher.WebhookSubscriptionCount && before.name == e.name
}

// item is events of one channel, in order, as they are in the queue for an endpoint.
type item struct {
	Channel string      `json:"c"`
	Events  []itemEvent `json:"e"`
}

type itemEvent struct {
	ID   string          `json:"i"`
	Made int64           `json:"t"` // Unix milliseconds
	JSON json.RawMessage `json:"j"`
}

// maxItemBytes is about how much one item has.
const maxItemBytes = 64 << 10

// items are events of one channel, in items of so many at most.
func items(channel string, events []*told, most int) []item {
	var all []item
	size := 0
	for _, e := range events {
		n := len(all)
		if n == 0 || len(all[n-1].Events) >= most || size+len(e.json) > maxItemBytes {
			all, size = append(all, item{Channel: channel}), 0
			n++
		}
		size += len(e.json)
		all[n-1].Events = append(all[n-1].Events, itemEvent{ID: e.id, Made: e.made, JSON: e.json})
	}
	return all
}

func (i *item) encode() []byte {
	text, _ := json.Marshal(i) // strings, numbers, and JSON that was made here
	return text
}

var errItem = errors.New("it has no events")

func decodeItem(text []byte) (item, error) {
	var i item
	if err := json.Unmarshal(text, &i); err != nil {
		return i, err
	}
	for _, e := range i.Events {
		if e.ID == "" || len(e.JSON) == 0 {
			return i, errItem
		}
	}
	if len(i.Events) == 0 {
		return i, errItem
	}
	return i, nil
}
