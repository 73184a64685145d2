package sse

import (
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"reecho/edge/limit"
	"reecho/edge/socket"
)

// batchBytes is how much of its queue an event stream writes at once, at
// least one frame.
const batchBytes = 64 << 10

// conn is the connection of a client that reads an event stream. Frames
// wait here until the request's goroutine has written them, by the rules of
// socket.Conn.
type conn struct {
	// Static.
	cfg    *Config // with defaults
	remote netip.AddrPort
	wake   chan struct{} // capacity 1; never closed

	mu        sync.Mutex
	queue     socket.Queue
	closed    error         // why; nil while open
	deadline  time.Duration // the budget's clock: how long what is left may take
	interrupt func()        // ends a write under way; nil when there is no writer
}

var (
	_ socket.Conn    = (*conn)(nil)
	_ socket.Shedder = (*conn)(nil)
)

// newConn makes the connection of a request. interrupt ends a write to
// it; it must not block.
func newConn(cfg *Config, r *http.Request, interrupt func()) *conn {
	remote, _ := netip.ParseAddrPort(r.RemoteAddr)
	c := &conn{cfg: cfg, remote: remote, wake: make(chan struct{}, 1), interrupt: interrupt}
	c.queue.Init(cfg.Budget, c)
	c.queue.Watch(r)
	return c
}

// Send implements socket.Conn.
func (c *conn) Send(frames [][]byte) error { return c.send(frames, false) }

// Answer implements socket.Conn. What a stream asks for is bounded by its
// request.
func (c *conn) Answer(frames [][]byte) error { return c.send(frames, true) }

// Owe implements socket.Conn: nothing is read from a stream's client.
func (c *conn) Owe(int, int) {}

func (c *conn) send(frames [][]byte, own bool) error {
	err := c.push(frames, own)
	if errors.Is(err, socket.ErrSlow) {
		c.note(limit.QueuedBytes)
	}
	c.cfg.Budget.Relieve()
	return err
}

func (c *conn) push(frames [][]byte, own bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != nil {
		return socket.ErrClosed
	}
	fresh, now := c.queue.Empty(), c.cfg.Budget.Clock()
	for _, f := range frames {
		c.queue.Push(now, f, 0, own)
	}
	if !fresh && !own && c.queue.Alone() > c.cfg.MaxQueuedBytes {
		c.slowLocked()
		return socket.ErrSlow
	}
	c.signal()
	return nil
}

func (c *conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// take returns the next frames to be written; done must be called when
// they are. When there are none, it tells why the connection is closed, if it
// is.
func (c *conn) take() ([][]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.queue.Empty() {
		return nil, c.closed
	}
	return c.queue.Front(nil, batchBytes), nil
}

// done takes what was written off the queue, and wakes the writer for what is
// left.
func (c *conn) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue.Done()
	if !c.queue.Empty() || c.closed != nil {
		c.signal()
	}
}

// moved says that a part of what was taken is written.
func (c *conn) moved() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue.Moved()
}

// Close implements socket.Conn.
func (c *conn) Close(code int, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked(&socket.CloseError{Code: code, Reason: reason})
}

// finish ends the connection when what waits is written, for which the client
// has as long as after Close.
func (c *conn) finish(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked(why)
}

// slowLocked gives up on a client that does not read. It comes back and goes on
// where it was.
func (c *conn) slowLocked() {
	c.queue.Drop()
	c.closeLocked(socket.ErrSlow)
}

// Shed implements socket.Shedder.
func (c *conn) Shed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != nil {
		return false
	}
	c.slowLocked()
	return true
}

// over reports whether the connection is closed.
func (c *conn) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed != nil
}

// end lets nothing in any more, drops what waits and returns why the connection
// is closed: why, if nothing was before. The writer is gone then.
func (c *conn) end(why error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked(why)
	c.queue.Clear()
	c.interrupt = nil
	return c.closed
}

func (c *conn) closeLocked(why error) {
	if c.closed == nil {
		c.closed = why
		c.deadline = c.cfg.Budget.Clock() + c.cfg.WriteTimeout
		c.queue.Seal()
		c.signal()
	}
}

// Ping implements socket.Conn: heartbeats go out by themselves.
func (c *conn) Ping() {}

// Tick implements socket.Conn. Who reads a stream says nothing.
func (c *conn) Tick(time.Time) time.Duration {
	c.note(c.tick())
	c.cfg.Budget.Relieve()
	return 0
}

// tick returns the limit for which it gave up on the client, if it did.
func (c *conn) tick() (reason limit.Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.cfg.Budget.Clock()
	stalled := c.queue.Tick(now, c.cfg.WriteTimeout)
	switch {
	case c.closed == nil && stalled:
		reason = limit.WriteTimeout
		c.slowLocked()
	case c.closed == nil && c.queue.Alone() > c.cfg.MaxQueuedBytes:
		c.slowLocked()
		return limit.QueuedBytes
	case c.closed == nil || now <= c.deadline:
		return ""
	}
	if c.interrupt != nil {
		c.interrupt()
	}
	return reason
}

// note counts a limit that the client ran into, "" for none.
func (c *conn) note(reason limit.Reason) {
	if reason != "" {
		c.cfg.Ledger.Note(reason, slog.String("remote", c.remote.String()))
	}
}

// Queued implements socket.Conn.
func (c *conn) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queue.Cost()
}

// Drained implements socket.Conn.
func (c *conn) Drained() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queue.Drained()
}

// Remote implements socket.Conn.
func (c *conn) Remote() netip.AddrPort { return c.remote }
