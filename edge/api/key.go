package api

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"net/http"

	"reecho/edge"
	"reecho/edge/pusher"
	"reecho/replay/receipt"
)

// headerKey is the header of a key. Libraries that send none can put it into the
// body, which is signed.
const headerKey = "X-Idempotency-Key"

// key is that of the header or of the body, "" if there is none.
func (c *call) key(inBody string) (string, error) {
	values := c.r.Header[headerKey]
	if len(values) == 0 {
		return inBody, nil
	}
	if len(values) > 1 {
		return "", failf(http.StatusBadRequest, "%s stands %d times in the header", headerKey, len(values))
	}
	if err := pusher.CheckIdempotencyKey(values[0], headerKey); err != nil {
		return "", badRequest(err)
	}
	if inBody != "" && inBody != values[0] {
		return "", failf(http.StatusBadRequest, "%s is %s and idempotency_key is %s: they should be the same, or one is enough",
			headerKey, pusher.Quote(values[0]), pusher.Quote(inBody))
	}
	return values[0], nil
}

// publish stores events once, if there is a key.
func (c *call) publish(kind string, events []pusher.Publish, keyInBody string, answer func(edge.Stored) []byte) ([]byte, error) {
	once := edge.Once{Answer: answer}
	var err error
	if once.Key, err = c.key(keyInBody); err != nil {
		return nil, err
	}
	if once.Key != "" {
		// As they were sent: publishing changes them.
		once.Content = contentOf(kind, events)
	}
	return c.api.hub.PublishOnce(c.r.Context(), c.app, events, once)
}

// contentOf is the same for calls that publish the same, and ask the same of it, however
// they are written.
func contentOf(kind string, events []pusher.Publish) (content receipt.Content) {
	h := sha256.New()
	addText(h, kind)
	for i := range events {
		ev := &events[i]
		for _, text := range []string{ev.Name, ev.Data, ev.SocketID, ev.Info} {
			addText(h, text)
		}
		addNumber(h, len(ev.Channels))
		for _, name := range ev.Channels {
			addText(h, name)
		}
	}
	h.Sum(content[:0])
	return content
}

// addText adds a text that cannot run into the next one.
func addText(h hash.Hash, text string) {
	addNumber(h, len(text))
	_, _ = h.Write([]byte(text)) // never fails
}

func addNumber(h hash.Hash, n int) {
	var bytes [8]byte
	binary.BigEndian.PutUint64(bytes[:], uint64(n))
	_, _ = h.Write(bytes[:])
}
