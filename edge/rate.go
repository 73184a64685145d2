package edge

import (
	"log/slog"
	"net/http"
	"time"

	"reecho/edge/limit"
	"reecho/edge/pusher"
)

const (
	// rateBurst is how many seconds of its rate a connection may save up: a
	// page subscribes to all its channels at once.
	rateBurst = 4
	// Reading a message above the rate, and answering it with an error, costs
	// nearly as much as doing what was asked. So the clients of one address get
	// refusalsPerSecond of these errors, refusalBurst at once (about a second of
	// one core); above it nothing is read from a connection for refusalPause
	// after each. One of a message of more than refusalBytes counts as several: it
	// takes as long, and may have been a thousandth of that on its way.
	refusalsPerSecond = 2000
	refusalBurst      = 100_000
	refusalPause      = 10 * time.Millisecond
	refusalBytes      = 4 << 10
)

// overRate takes a message of so many bytes from the connection's rates. If
// there is no room it returns what the client is told.
func (c *client) overRate(bytes int) *pusher.Error {
	limits, now := &c.app.Limits, time.Now()
	if n := limits.MessagesPerSecond; n > 0 && !c.messages.Take(1, n, rateBurst*n, now) {
		return c.overLimit(pusher.CodeClientEventRejected, limit.Messages, "Message rejected: the limit of %d messages a second is reached (%s)", n)
	}
	if n := limits.MessageBytesPerSecond; n > 0 && !c.bytes.Take(bytes, n, rateBurst*n, now) {
		return c.overLimit(pusher.CodeClientEventRejected, limit.MessageBytes, "Message rejected: the limit of %d bytes a second is reached (%s)", n)
	}
	return nil
}

// overWindow counts a message that was not asked for. If there are too many in the
// interval it returns what the client is told.
func (c *client) overWindow() *pusher.Error {
	n, interval := c.app.Limits.MessagesPerInterval, c.app.Limits.MessageInterval
	if n == 0 {
		return nil
	}
	if c.window == nil {
		c.window = &limit.Window{}
	}
	if c.window.Take(n, interval, time.Now()) {
		return nil
	}
	c.noteLimit(limit.MessageWindow)
	return pusher.Errorf(pusher.CodeClientEventRejected, "Message rejected: the limit of %d messages in %s is reached (%s)", n, interval, limit.MessageWindow)
}

// tooLarge closes the connection for a message of so many bytes, if the app allows
// none of them. The server's own limit is kept where messages are read, with the same
// code (RFC 6455 §7.4.1).
func (c *client) tooLarge(bytes int) bool {
	n := c.app.Limits.MessageBytes
	if n == 0 || bytes <= n {
		return false
	}
	c.app.node.cfg.Ledger.Count(limit.AppMessageSize)
	c.closeWith(pusher.Errorf(codeTooBig, "message is too big: %d bytes, limit %d (message_bytes)", bytes, n))
	return true
}

// MessageLimit implements socket.LimitedReceiver.
func (c *client) MessageLimit() int { return c.app.Limits.MessageBytes }

// codeTooBig is that of RFC 6455, for a message above a limit.
const codeTooBig = 1009

// overLimit notes that the client is above a limit and makes the error that
// says so; format gets the limit and the name of its setting.
func (c *client) overLimit(code int, reason limit.Reason, format string, n int) *pusher.Error {
	c.noteLimit(reason)
	return pusher.Errorf(code, format, n, reason)
}

func (c *client) noteLimit(reason limit.Reason) {
	c.app.node.cfg.Ledger.Note(reason, slog.String("app", c.app.ID), slog.String("socket_id", c.ID().String()))
}

// Control implements socket.ControlReceiver. Pings and pongs count as messages;
// above the rate there is no error to answer them with, so nothing is read from
// the connection until they are within it.
func (c *client) Control(frames int) (wait func()) {
	n := c.app.Limits.MessagesPerSecond
	if n == 0 || c.messages.Take(frames, n, rateBurst*n, time.Now()) {
		return nil
	}
	c.noteLimit(limit.Messages)
	return func() { c.pause(time.Duration(frames) * time.Second / time.Duration(n)) }
}

// limitRate is Message for a message above the rate: it is answered and not
// done, and if there are many the connection is read from no further for a
// moment. A pong is never refused, nor is an unsubscription, which the client
// believes in without an answer; they just take longer.
func (c *client) limitRate(payload []byte, over *pusher.Error) (wait func()) {
	if c.app.CloseAboveRate {
		return c.closeAboveRate(over)
	}
	m, err := pusher.DecodeMessage(payload)
	switch {
	case err == nil && (m.Event == commandPong || m.Event == commandUnsubscribe):
		c.handle(m)
	case err == nil && m.Event == commandSubscribe:
		// pusher-js waits for an answer to each for ever (PROTOCOL §2.3).
		if in, err := pusher.DecodeSubscribe(m.Data); err == nil {
			c.refuse(in.Channel, over, http.StatusTooManyRequests)
			break
		}
		c.fail(over)
	default:
		c.fail(over)
	}
	return c.afterRefusal(len(payload))
}

// closeAboveRate closes the connection with a code that lets the client come back
// after a pause (PROTOCOL §2.1); 4301 would keep it away for ever.
func (c *client) closeAboveRate(over *pusher.Error) (wait func()) {
	c.closeWith(pusher.Errorf(pusher.CodeOverCapacity, "%s", over.Message))
	return nil
}

// afterRefusal is what to wait for before the next message is read, after one of so
// many bytes.
func (c *client) afterRefusal(bytes int) (wait func()) {
	if c.app.node.errors.Take(c.address, 1+bytes/refusalBytes, refusalsPerSecond, refusalBurst, time.Now()) {
		return nil
	}
	return func() { c.pause(refusalPause) }
}

// pause holds the connection's reading up.
func (c *client) pause(d time.Duration) {
	ctx, end := c.work.begin(c.app.node.ctx)
	defer end()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
