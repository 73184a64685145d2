package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"reecho/edge/pusher"
	"reecho/edge/socket"
)

const (
	// heartbeatPeriod is how often an idle event stream says something: proxies
	// close what is silent for a minute. It also renews the cursor's time.
	heartbeatPeriod = 15 * time.Second
	// streamPadding opens the buffers of proxies and old browsers that pass
	// nothing on before they have 2 KiB.
	streamPadding = 2 << 10
	// streamBuffer is how many bytes a stream keeps for what it writes next.
	streamBuffer = 4 << 10
	// retryDelay and pollDelay are what the client waits for, in ms, before it
	// comes back.
	retryDelay = 1000
	pollDelay  = 50
)

// streamWriter turns a connection's frames into an event stream.
type streamWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	request *streamRequest
	cursor  *cursor
	buf     []byte
	settled bool // at the last beat
	sent    bool // an event, or at first a whole cursor: a poll has its answer
}

var errPolled = errors.New("a poll has its answer")

func (sw *streamWriter) run(ctx context.Context, conn *streamConn, subscribed <-chan struct{}) error {
	sw.open()
	heartbeat := time.NewTicker(heartbeatPeriod)
	defer heartbeat.Stop()
	if err := sw.flush(); err != nil {
		return err
	}
	for {
		select {
		case <-conn.wake:
		case <-subscribed:
			subscribed = nil
		case now := <-heartbeat.C:
			sw.beat(now, subscribed == nil && conn.Queued() == 0)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", socket.ErrLost, ctx.Err())
		}
		frames, closed := conn.take()
		for _, frame := range frames {
			sw.append(frame)
		}
		if err := sw.flush(); err != nil {
			return err
		}
		switch {
		case closed != nil:
			return closed
		case sw.request.poll && sw.sent && subscribed == nil && conn.Queued() == 0:
			return errPolled
		}
	}
}

// beat keeps the stream from being silent. settled says that nothing waits for
// the client now; if that was so at the beat before too, all it missed has been
// written, and the cursor may say that it was whole then.
func (sw *streamWriter) beat(now time.Time, settled bool) {
	if settled && sw.settled {
		sw.cursor.time = now
	}
	sw.settled, sw.sent = settled, true
	sw.buf = append(sw.buf, ":\n"...)
	sw.appendCursor()
}

func (sw *streamWriter) open() {
	header := sw.w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-cache, no-store, no-transform")
	header.Set("X-Accel-Buffering", "no") // nginx
	sw.w.WriteHeader(http.StatusOK)
	delay := retryDelay
	if sw.request.poll {
		delay = pollDelay
	} else {
		sw.buf = append(sw.buf, ':')
		sw.buf = append(sw.buf, bytes.Repeat([]byte{' '}, streamPadding)...)
		sw.buf = append(sw.buf, '\n')
	}
	sw.buf = append(sw.buf, "retry: "...)
	sw.buf = strconv.AppendInt(sw.buf, int64(delay), 10)
	sw.buf = append(sw.buf, "\n\n"...)
}

func (sw *streamWriter) flush() error {
	if len(sw.buf) == 0 {
		return nil
	}
	_ = sw.control.SetWriteDeadline(time.Now().Add(sw.timeout))
	_, err := sw.w.Write(sw.buf)
	if err == nil {
		err = sw.control.Flush()
	}
	if sw.buf = sw.buf[:0]; cap(sw.buf) > streamBuffer {
		sw.buf = nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", socket.ErrLost, err)
	}
	return nil
}

// append adds what a frame says to the stream and to the cursor.
func (sw *streamWriter) append(frame []byte) {
	text := socket.Payload(frame)
	if position, ok := succeededPosition(text); ok {
		// The client needs no confirmation, only where it stands.
		sw.cursor.advance(position)
		sw.appendCursor()
		sw.sent = sw.sent || !sw.request.resumed && len(sw.cursor.positions) == len(sw.request.channels)
		return
	}
	if sw.request.poll && pusher.IsResumed(text) {
		// Each poll is one. Told of it, a client would ask without a pause.
		return
	}
	text, position := pusher.CutPosition(text)
	sw.sent = true
	sw.buf = append(sw.buf, "data: "...)
	sw.buf = append(sw.buf, text...)
	if position != nil {
		sw.cursor.advance(string(position))
		sw.buf = append(sw.buf, '}')
	}
	sw.buf = append(sw.buf, '\n')
	sw.appendCursor()
}

// appendCursor ends a block of the stream with its id. A block without data is
// no event, but sets what the browser sends as Last-Event-ID.
func (sw *streamWriter) appendCursor() {
	sw.buf = append(sw.buf, "id: "...)
	sw.buf = sw.cursor.append(sw.buf)
	sw.buf = append(sw.buf, "\n\n"...)
}

// succeededPosition is the position in a confirmation of a subscription.
func succeededPosition(text []byte) (string, bool) {
	if !bytes.HasPrefix(text, []byte(`{"event":"pusher_internal:subscription_succeeded"`)) {
		return "", false
	}
	_, rest, _ := bytes.Cut(text, []byte(`\"position\":\"`))
	position, _, ok := bytes.Cut(rest, []byte(`\"`))
	return string(position), ok
}
