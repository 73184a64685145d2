package exchange

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"sync"

	"reecho/broker"
	"reecho/broker/presence"
)

// maxOutbox bounds what waits to be told. What there is no room for is found missing
// by those whom it would have been told.
const maxOutbox = 16 << 10

// outbox is what is to be told: channels have it told below their locks, where nothing
// is published.
type outbox struct {
	publish func(ref broker.Ref, text []byte) error
	log     *slog.Logger
	news    chan struct{} // capacity 1

	publishing sync.Mutex // one at a time, so that all is told in order

	mu      sync.Mutex
	waiting []told
}

type told struct {
	ref   broker.Ref
	delta presence.Delta
}

func (o *outbox) add(ref broker.Ref, d presence.Delta) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting) >= maxOutbox {
		return
	}
	o.waiting = append(o.waiting, told{ref, d})
	select {
	case o.news <- struct{}{}:
	default:
	}
}

func (o *outbox) take() []told {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := o.waiting
	o.waiting = nil
	return all
}

func (o *outbox) flush() {
	o.publishing.Lock()
	defer o.publishing.Unlock()
	for _, t := range o.take() {
		text, err := encode(&t.delta)
		if err == nil {
			err = o.publish(t.ref, text)
		}
		if err != nil {
			o.log.Debug("other nodes were not told of a channel", slog.String("channel", t.ref.Channel), slog.Any("error", err))
		}
	}
}

// encode makes JSON that does not escape what other JSON in it did not.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}
