package socket

import (
	"net"
	"sync"
	"time"
)

// streamReadBytes is how much is read at once.
const streamReadBytes = 2 << 10

// writeBuffers lends streamWriteBytes to writers; idle connections have none.
var writeBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, streamWriteBytes)
	return &b
}}

// stream is the transport for TLS and for systems without epoll: the goroutine
// of the handshake reads, a second one writes.
type stream struct {
	link
	conn net.Conn
	// raw is the TCP connection below conn.
	raw net.Conn
	// wake has capacity 1 and is never closed: there is something to write, or
	// the state changed.
	wake chan struct{}
}

var (
	_ Conn     = (*stream)(nil)
	_ Deflated = (*stream)(nil)
	_ wire     = (*stream)(nil)
)

// serveStream serves u until the connection is gone.
func (s *Server) serveStream(u *upgrade) {
	c := &stream{conn: u.conn, raw: u.raw, wake: make(chan struct{}, 1)}
	c.init(s, c, u)
	s.addStream(c)
	defer s.removeStream(c)
	_ = c.conn.SetDeadline(time.Time{})
	var writer sync.WaitGroup
	writer.Go(c.write)
	c.receiver = s.acceptor.Open(c, u.request)
	c.handle(u.rest)
	u.release()
	c.read()
	why := c.end()
	_ = c.raw.Close()
	s.places.leave()
	c.signal()
	writer.Wait()
	c.receiver.Closed(why)
}

// end makes it the end for the writer too, and returns why it is.
func (c *stream) end() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = stateClosed
	c.clearLocked()
	return c.why
}

// read handles input until the connection ends.
func (c *stream) read() {
	buf := make([]byte, streamReadBytes)
	for c.current() < stateHungUp {
		n, err := c.conn.Read(buf)
		if n > 0 {
			c.lastReceived.Store(c.server.clock())
			c.handle(buf[:n])
		}
		if err != nil {
			c.lost(lostBy(err))
			return
		}
	}
}

// handle receives data and runs what the receiver wants to wait for.
func (c *stream) handle(data []byte) {
	if len(data) == 0 || c.current() >= stateDeaf {
		return
	}
	for wait := c.receive(data); wait != nil; wait = c.receive(nil) {
		c.await(wait)
	}
}

// Tick implements Conn. While nobody reads it looks for the end.
func (c *stream) Tick(now time.Time) time.Duration {
	if c.isWaiting() && (c.current() >= stateHungUp || peerLeft(c.raw)) {
		c.hungUp()
	}
	return c.link.Tick(now)
}

// sendLocked implements wire.
func (c *stream) sendLocked(frames [][]byte, own bool) error {
	if len(frames) == 0 {
		return nil
	}
	if err := c.queueLocked(frames, 0, own); err != nil {
		return err
	}
	c.signal()
	return nil
}

func (c *stream) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// flushLocked implements wire. The writer does all of it.
func (c *stream) flushLocked() { c.signal() }

// shutLocked implements wire.
func (c *stream) shutLocked(reset bool) {
	if tcp, ok := c.raw.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = c.raw.Close()
	c.signal()
}

// write writes what is queued until the connection is hung up.
func (c *stream) write() {
	finished := false
	for {
		c.mu.Lock()
		state := c.state
		if state >= stateHungUp {
			c.mu.Unlock()
			return
		}
		if c.out != nil {
			c.writeSome()
			continue
		}
		c.mu.Unlock()
		if state >= stateDeaf && !finished {
			finished = true
			c.closeWrite()
			if state == stateFinishing {
				c.lost(nil)
				return
			}
			continue
		}
		<-c.wake
	}
}

// writeSome writes the front of the queue. It is called with mu held and
// releases it. There is no deadline: TLS cannot go on after one that passed in
// the middle of a record, and a peer may be slow as long as it takes something.
// Tick sees when it does not, and ends the write by hanging up.
func (c *stream) writeSome() {
	buf, _ := writeBuffers.Get().(*[]byte)
	*buf = c.out.appendBytes((*buf)[:0], streamWriteBytes)
	c.mu.Unlock()
	n, err := c.conn.Write(*buf)
	writeBuffers.Put(buf)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out != nil {
		c.out.busy = 0
		c.advanceLocked(n)
	}
	if err != nil {
		c.hangUpLocked(lostBy(err), false)
	}
}

// takenLocked implements wire.
func (c *stream) takenLocked() taken { return takenBy(c.raw) }

// bearLocked implements wire.
func (c *stream) bearLocked(patience time.Duration) { bearWith(c.raw, patience) }

// closeWrite says that nothing more will come: close_notify on TLS, FIN on TCP.
func (c *stream) closeWrite() {
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok {
		_ = c.conn.SetWriteDeadline(time.Now().Add(c.server.cfg.WriteTimeout))
		_ = half.CloseWrite()
	}
}
