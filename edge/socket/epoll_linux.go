package socket

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// readsPerEvent bounds how long one flooding connection keeps the others of
// its poller waiting.
const readsPerEvent = 4

const (
	// Edge-triggered: waiting for room to write, pausing to read and hanging up
	// need no further system calls, and a connection that cannot be read now
	// does not spin.
	watchInput  = uint32(unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET)
	watchOutput = uint32(unix.EPOLLOUT)
	inputEvents = uint32(unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR)
	endEvents   = uint32(unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR)
)

// epollConn is a plaintext connection on Linux. The reading side is the
// handshake's goroutine until watch, then the poller, and while a wait runs
// the goroutine that runs it; only the reading side closes the descriptor, so
// that it may read without the lock.
type epollConn struct {
	link
	// Static.
	poller     *poller
	fd         int
	slot       int32
	generation int32

	// Guarded by link.mu.
	watched bool // in the epoll set
	output  bool // with watchOutput
	paused  bool // the reading side is not the poller
	missed  bool // events came while paused
}

var (
	_ Conn     = (*epollConn)(nil)
	_ Deflated = (*epollConn)(nil)
	_ wire     = (*epollConn)(nil)
)

// adopt takes over the descriptor of u and serves it. It reports false, with
// nothing changed, if that is impossible.
func (ps *pollers) adopt(u *upgrade) bool {
	fd := duplicate(u.incoming)
	if fd < 0 {
		return false
	}
	_ = u.raw.Close()
	c := &epollConn{fd: fd, paused: true}
	c.init(ps.server, c, u)
	ps.server.tasks.Add(1) // the handshake's goroutine is still counted
	ps.all[ps.next.Add(1)%uint32(len(ps.all))].add(c)
	c.receiver = ps.server.acceptor.Open(c, u.request)
	if len(u.rest) > 0 {
		if wait := c.receive(u.rest); wait != nil {
			c.watch() // who leaves meanwhile has to be noticed
			c.catchUp(wait)
		}
	}
	u.release()
	c.resume()
	return true
}

// duplicate returns a second descriptor of the socket, -1 if there is none.
func duplicate(in *incoming) int {
	var sc syscall.Conn
	switch conn := in.raw.(type) { // not a wrapper, which may count or limit
	case *net.TCPConn:
		sc = conn
	case *net.UnixConn:
		sc = conn
	default:
		return -1
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1
	}
	fd := -1
	err = raw.Control(func(original uintptr) {
		if !in.tuned {
			tune(int(original))
		}
		if dup, err := unix.FcntlInt(original, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			fd = dup
		}
	})
	if err != nil {
		return -1
	}
	return fd
}

// catchUp runs wait, then handles what was kept meanwhile.
func (c *epollConn) catchUp(wait func()) {
	for wait != nil {
		c.await(wait)
		wait = c.receive(nil)
	}
}

// resume gives the reading side to the poller, or ends the connection if it is
// hung up: then the poller must not get it, for it would end it too.
func (c *epollConn) resume() {
	c.mu.Lock()
	c.watchLocked()
	if c.missed && c.state < stateHungUp {
		c.rearmLocked()
	}
	ended := c.state >= stateHungUp
	c.paused, c.missed = ended, false
	c.mu.Unlock()
	if ended {
		c.end()
	}
}

// watch lets the poller hear of the connection before a wait. One that is hung
// up already will not be heard of.
func (c *epollConn) watch() {
	c.mu.Lock()
	c.watchLocked()
	ended := c.state >= stateHungUp
	c.mu.Unlock()
	if ended {
		c.hungUp()
	}
}

func (c *epollConn) watchLocked() {
	if c.state >= stateHungUp || c.watched {
		return
	}
	c.watched = true
	if err := c.poller.control(unix.EPOLL_CTL_ADD, c, c.interest()); err != nil {
		c.hangUpLocked(lostBy(err), true)
	}
}

func (c *epollConn) interest() uint32 {
	if c.output {
		return watchInput | watchOutput
	}
	return watchInput
}

// rearmLocked makes epoll report again what is ready.
func (c *epollConn) rearmLocked() {
	if err := c.poller.control(unix.EPOLL_CTL_MOD, c, c.interest()); err != nil {
		c.hangUpLocked(lostBy(err), true)
	}
}

// handle does what events ask for. The poller calls it.
func (c *epollConn) handle(events uint32, now int64) {
	c.mu.Lock()
	if events&watchOutput != 0 && c.out != nil {
		c.flushLocked()
	}
	paused, state := c.paused, c.state
	c.missed = c.missed || paused && events&inputEvents != 0
	c.mu.Unlock()
	switch {
	case paused && events&endEvents != 0:
		c.hungUp()
	case state == stateClosed || paused:
	case state == stateHungUp:
		c.end()
	case events&inputEvents != 0:
		c.read(events&endEvents != 0, now)
	}
}

// read reads and handles what is there. If ending, the end of the stream is
// known to follow and will not be reported again.
func (c *epollConn) read(ending bool, now int64) {
	buf := c.poller.buf
	for range readsPerEvent {
		n, errno := read(c.fd, buf)
		switch {
		case n > 0:
			c.lastReceived.Store(now)
			if c.current() < stateDeaf {
				if wait := c.receive(buf[:n]); wait != nil {
					// What made this event is not reported again.
					c.pause(wait, ending || n == len(buf))
					if ending {
						c.hungUp()
					}
					return
				}
			}
		case errno == unix.EAGAIN:
			return
		case errno == unix.EINTR:
			continue
		case errno != 0:
			c.lost(lostBy(errno))
		default:
			c.lost(ErrLost)
		}
		if c.current() >= stateHungUp {
			c.end()
			return
		}
		// A short read emptied the socket: later bytes make a new event.
		if n < len(buf) && !ending {
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rearmLocked()
}

// pause lets a goroutine be the reading side while wait blocks. more says that
// there is something to be read already.
func (c *epollConn) pause(wait func(), more bool) {
	c.mu.Lock()
	c.paused, c.missed = true, more
	c.mu.Unlock()
	c.server.tasks.Go(func() { // the connection itself is still counted
		c.catchUp(wait)
		c.resume()
	})
}

// end closes the descriptor, once. Only the reading side calls it.
func (c *epollConn) end() {
	c.mu.Lock()
	c.state = stateClosed
	_ = unix.Close(c.fd)
	why := c.why
	c.mu.Unlock()
	c.poller.remove(c)
	c.server.places.leave()
	c.in = nil
	c.receiver.Closed(why)
	c.server.tasks.Done()
}

// sendLocked implements wire.
func (c *epollConn) sendLocked(frames [][]byte, own bool) error {
	if c.out != nil {
		return c.queueLocked(frames, 0, own)
	}
	n, errno := writeFrames(c.fd, frames)
	switch errno {
	case 0:
		return nil
	case unix.EAGAIN:
		c.awaitOutputLocked()
		return c.queueLocked(frames, n, own)
	default:
		err := lostBy(errno)
		c.hangUpLocked(err, false)
		return err
	}
}

// awaitOutputLocked makes epoll report when the socket can be written again.
func (c *epollConn) awaitOutputLocked() {
	if c.output {
		return
	}
	c.output = true
	if c.watched {
		c.rearmLocked()
	}
}

// flushLocked implements wire.
func (c *epollConn) flushLocked() {
	for c.out != nil {
		n, errno := writeQueue(c.fd, c.out)
		c.advanceLocked(n)
		if errno == unix.EAGAIN {
			c.awaitOutputLocked()
			return
		}
		if errno != 0 {
			c.hangUpLocked(lostBy(errno), false)
			return
		}
	}
	switch c.state {
	case stateDeaf:
		// Closing now, with unread bytes in the kernel, would reset the
		// connection and could take the close frame with it.
		_ = unix.Shutdown(c.fd, unix.SHUT_WR)
	case stateFinishing:
		c.hangUpLocked(nil, false)
	}
}

// takenLocked implements wire.
func (c *epollConn) takenLocked() taken { return lookAt(c.fd) }

// bearLocked implements wire.
func (c *epollConn) bearLocked(patience time.Duration) { outlast(c.fd, patience) }

// shutLocked implements wire. epoll reports it, so the reading side notices.
func (c *epollConn) shutLocked(reset bool) {
	how := unix.SHUT_RDWR
	if reset {
		// No FIN behind what the kernel still holds: closing sends a reset.
		how = unix.SHUT_RD
		_ = unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	_ = unix.Shutdown(c.fd, how)
}
