package sse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"reecho/edge/pusher"
	"reecho/edge/socket"
)

const (
	// heartbeatPeriod is how often an idle event stream says something: proxies
	// close what is silent for a minute. It also renews the cursor's time.
	heartbeatPeriod = 15 * time.Second
	// padding opens the buffers of proxies and old browsers that pass
	// nothing on before they have 2 KiB.
	padding = 2 << 10
	// keptBuffer is how many bytes a stream keeps for what it writes next.
	keptBuffer = 4 << 10
	// flushBytes is how many bytes are gathered before they are written: what
	// waits for a slow client must not grow with what it asked for.
	flushBytes = 64 << 10
	// partBytes is how much is written until that counts as progress of the
	// client.
	partBytes = 16 << 10
	// retryDelay and pollDelay are what the client waits for, in ms, before it
	// comes back.
	retryDelay = 1000
	pollDelay  = 50
)

// writer turns a connection's frames into an event stream.
type writer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	conn    *conn
	request *request
	cursor  *cursor
	buf     []byte // up to flushBytes
	opened  bool   // the answer has begun
	settled bool   // at the last beat
	sent    bool   // an event, or at first a whole cursor: a poll has its answer
}

// Reasons why a stream is over that are neither the client's nor the
// connection's.
var (
	errPolled  = errors.New("a poll has its answer")
	errExpired = errors.New("the socket id of an event stream expired")
)

// run writes until the stream is over, and says why it is. Before begun is closed
// nothing is that came for the client, unless the connection is; nor does the answer
// begin, unless that takes so long that a proxy might give it up: a page takes
// EventSource's open event for its subscription. expired, which may be nil, ends the
// stream too; what waits then is still written.
func (sw *writer) run(ctx context.Context, begun, subscribed <-chan struct{}, expired <-chan time.Time) error {
	heartbeat := time.NewTicker(heartbeatPeriod)
	defer heartbeat.Stop()
	var err error
	for err == nil {
		select {
		case <-sw.conn.wake:
		case <-begun:
			begun = nil
		case <-subscribed:
			subscribed = nil
		case now := <-heartbeat.C:
			if begun != nil {
				err = sw.comment()
				break
			}
			err = sw.beat(now, subscribed == nil && sw.conn.Queued() == 0)
		case <-expired:
			sw.conn.finish(errExpired)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", socket.ErrLost, ctx.Err())
		}
		if begun != nil && !sw.conn.over() {
			continue // held
		}
		frames, closed := sw.conn.take()
		if err == nil {
			err = sw.open()
		}
		if err == nil {
			err = sw.appendAll(frames)
		}
		sw.conn.done()
		switch {
		case err != nil:
		case closed != nil:
			return closed
		case sw.request.poll && sw.sent && subscribed == nil && sw.conn.Queued() == 0:
			return errPolled
		}
	}
	return err
}

// open begins the answer, once.
func (sw *writer) open() error {
	if sw.opened {
		return nil
	}
	sw.opened = true
	setHeaders(sw.w)
	sw.w.WriteHeader(http.StatusOK)
	delay := retryDelay
	if sw.request.poll {
		delay = pollDelay
	} else {
		sw.buf = append(sw.buf, ':')
		sw.buf = append(sw.buf, bytes.Repeat([]byte{' '}, padding)...)
		sw.buf = append(sw.buf, '\n')
	}
	sw.buf = append(sw.buf, "retry: "...)
	sw.buf = strconv.AppendInt(sw.buf, int64(delay), 10)
	sw.buf = append(sw.buf, "\n\n"...)
	return sw.flush()
}

// setHeaders are those of a stream that goes on.
func setHeaders(w http.ResponseWriter) {
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-cache, no-store, no-transform")
	header.Set("X-Accel-Buffering", "no") // nginx
}

// comment keeps the stream from being silent, and says nothing.
func (sw *writer) comment() error {
	if err := sw.open(); err != nil {
		return err
	}
	sw.buf = append(sw.buf, ":\n\n"...)
	return sw.flush()
}

// beat keeps the stream from being silent. settled says that nothing waits for
// the client now; if that was so at the beat before too, all it missed has been
// written, and the cursor may say that it was whole then.
func (sw *writer) beat(now time.Time, settled bool) error {
	if settled && sw.settled {
		sw.cursor.time = now
	}
	sw.settled, sw.sent = settled, true
	sw.buf = append(sw.buf, ":\n"...)
	return sw.appendPlace()
}

// appendAll writes the messages of frames, each of which may be several joined.
func (sw *writer) appendAll(frames [][]byte) error {
	for _, frame := range frames {
		for text := range socket.Messages(frame) {
			if err := sw.append(text); err != nil {
				return err
			}
		}
	}
	if len(sw.buf) == 0 {
		return nil
	}
	err := sw.flush()
	if cap(sw.buf) > keptBuffer {
		sw.buf = nil
	}
	return err
}

// append adds a message to the stream and to the cursor.
func (sw *writer) append(text []byte) error {
	if p, ok := placeOf(text); ok {
		return sw.reached(p)
	}
	switch event := eventOf(text); {
	case string(event) == "pusher:signin_success":
		// That the stream goes on says it.
		return nil
	case string(event) == "pusher_internal:subscription_count":
		// The protocol's own, for clients that keep the count: no event of the
		// channel. And each poll changes it.
		return nil
	default:
		sw.sent = true
	}
	return sw.appendEvent(text)
}

func (sw *writer) appendEvent(text []byte) error {
	text, position := pusher.CutPosition(text)
	sw.buf = append(sw.buf, "data: "...)
	if err := sw.write(text); err != nil {
		return err
	}
	if position != nil {
		sw.cursor.advance(string(position))
		sw.buf = append(sw.buf, '}')
	}
	sw.buf = append(sw.buf, '\n')
	return sw.appendCursor()
}

// reached takes a confirmation: the client needs none, only where it stands.
func (sw *writer) reached(p place) error {
	sw.cursor.advance(string(p))
	sw.sent = sw.sent || !sw.request.resumed && sw.cursor.whole()
	return sw.appendPlace()
}

// appendPlace tells where the client stands when there is no event. A block
// without data is none, but sets what the browser sends as Last-Event-ID.
// EventSource does not show that to its page, so it may ask for an event of a
// type of its own.
func (sw *writer) appendPlace() error {
	if sw.request.cursors {
		sw.buf = append(sw.buf, "event: cursor\ndata: {}\n"...)
	}
	return sw.appendCursor()
}

// appendCursor ends a block of the stream with its id.
func (sw *writer) appendCursor() error {
	sw.buf = append(sw.buf, "id: "...)
	sw.buf = sw.cursor.append(sw.buf)
	return sw.write([]byte("\n\n"))
}

// write adds text to what is gathered, and lets that grow to flushBytes.
func (sw *writer) write(text []byte) error {
	for len(sw.buf)+len(text) > flushBytes {
		n := max(0, flushBytes-len(sw.buf))
		sw.buf = append(sw.buf, text[:n]...)
		if text = text[n:]; len(sw.buf) >= flushBytes {
			if err := sw.flush(); err != nil {
				return err
			}
		}
	}
	sw.buf = append(sw.buf, text...)
	return nil
}

func (sw *writer) flush() error {
	// No deadline: the connection's ticks see whether the client reads.
	var err error
	for part := range slices.Chunk(sw.buf, partBytes) {
		if _, err = sw.w.Write(part); err != nil {
			break
		}
		sw.conn.moved()
	}
	if err == nil {
		err = sw.control.Flush()
	}
	sw.buf = sw.buf[:0]
	if err != nil {
		return fmt.Errorf("%w: %w", socket.ErrLost, err)
	}
	return nil
}

// eventOf is the name in a message that the server made; names with escapes
// are none of those that are looked for.
func eventOf(text []byte) []byte {
	rest, ok := bytes.CutPrefix(text, []byte(`{"event":"`))
	if !ok {
		return nil
	}
	name, _, _ := bytes.Cut(rest, []byte{'"'})
	return name
}
