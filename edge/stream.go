package edge

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"reecho/edge/socket"
)

// streamConn is the connection of a client that reads an event stream. Frames
// wait here until the request's goroutine has written them.
type streamConn struct {
	limit  int
	remote netip.AddrPort
	wake   chan struct{} // capacity 1; never closed

	mu     sync.Mutex
	frames [][]byte
	bytes  int
	closed error // why; nil while open
}

var _ socket.Conn = (*streamConn)(nil)

func newStreamConn(limit int, r *http.Request) *streamConn {
	remote, _ := netip.ParseAddrPort(r.RemoteAddr)
	return &streamConn{limit: limit, remote: remote, wake: make(chan struct{}, 1)}
}

// Send implements socket.Conn.
func (c *streamConn) Send(frames [][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != nil {
		return socket.ErrClosed
	}
	bytes := 0
	for _, f := range frames {
		bytes += len(f)
	}
	if c.bytes > 0 && c.bytes+bytes > c.limit {
		// It comes back and goes on where it was.
		c.closeLocked(socket.ErrSlow)
		c.frames, c.bytes = nil, 0
		return socket.ErrSlow
	}
	c.frames = append(c.frames, frames...)
	c.bytes += bytes
	c.signal()
	return nil
}

func (c *streamConn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// take returns what is to be written, and why the connection is closed if it is.
func (c *streamConn) take() ([][]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	frames := c.frames
	c.frames, c.bytes = nil, 0
	return frames, c.closed
}

// Close implements socket.Conn.
func (c *streamConn) Close(code int, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked(&socket.CloseError{Code: code, Reason: reason})
}

// end lets nothing in any more, and drops what waits.
func (c *streamConn) end(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked(why)
	c.frames, c.bytes = nil, 0
}

func (c *streamConn) closeLocked(why error) {
	if c.closed == nil {
		c.closed = why
		c.signal()
	}
}

// Ping implements socket.Conn: heartbeats go out by themselves.
func (c *streamConn) Ping() {}

// Tick implements socket.Conn. Who reads a stream says nothing, and its writes
// have deadlines of their own.
func (c *streamConn) Tick(time.Time) time.Duration { return 0 }

// Queued implements socket.Conn.
func (c *streamConn) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// Remote implements socket.Conn.
func (c *streamConn) Remote() netip.AddrPort { return c.remote }
