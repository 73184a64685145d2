package socket

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// pollerReadBytes is the buffer that all connections of a poller read into.
	pollerReadBytes = 64 << 10
	// pollerEvents is how many events are fetched at once.
	pollerEvents = 128
	// pollerTurn is after how many connections others get a turn. A poller that
	// is busy would go on for a whole time slice (10 ms), while what clients
	// wait for is handed from goroutine to goroutine several times.
	pollerTurn = 16
)

// pollers are the epoll sets of a server, one goroutine each.
type pollers struct {
	server *Server
	all    []*poller
	next   atomic.Uint32
}

// poller reads its connections with one goroutine and one buffer. Its epoll
// descriptor is itself watched by the runtime's netpoller, so waiting costs no
// thread.
type poller struct {
	server *Server
	file   *os.File // the epoll descriptor
	fd     int
	done   sync.WaitGroup

	// Owned by run.
	events [pollerEvents]unix.EpollEvent
	ready  [pollerEvents]*epollConn
	buf    []byte

	mu         sync.Mutex
	conns      []*epollConn // by slot; nil when free
	free       []int32
	generation int32
	aborted    bool
}

func newPollers(s *Server, n int) (*pollers, error) {
	p := &pollers{server: s}
	for range n {
		one, err := newPoller(s)
		if err != nil {
			p.close()
			return nil, err
		}
		p.all = append(p.all, one)
	}
	return p, nil
}

func newPoller(s *Server) (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll descriptor: %w", err)
	}
	// os.NewFile registers only non-blocking descriptors with the netpoller.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("set epoll descriptor non-blocking: %w", err)
	}
	p := &poller{server: s, fd: fd, file: os.NewFile(uintptr(fd), "epoll"), buf: make([]byte, pollerReadBytes)}
	raw, err := p.file.SyscallConn()
	if err != nil {
		_ = p.file.Close()
		return nil, fmt.Errorf("watch epoll descriptor: %w", err)
	}
	p.done.Go(func() { p.run(raw) })
	return p, nil
}

// run handles events until the descriptor is closed.
func (p *poller) run(raw syscall.RawConn) {
	// The callback returns false for good: each return waits for the next
	// readiness. A new call of Read would forget one that came meanwhile.
	err := raw.Read(func(uintptr) bool {
		for {
			n, errno := epollWait(p.fd, p.events[:])
			switch {
			case n > 0:
				p.handle(p.events[:n])
			case errno != unix.EINTR:
				return false
			}
		}
	})
	p.server.log.Debug("poller ended", slog.Any("reason", err))
}

func (p *poller) handle(events []unix.EpollEvent) {
	p.mu.Lock()
	for i := range events {
		p.ready[i] = nil
		// A slot may have been freed and reused since the event was fetched.
		if c := p.conns[events[i].Fd]; c != nil && c.generation == events[i].Pad {
			p.ready[i] = c
		}
	}
	p.mu.Unlock()
	now := p.server.clock()
	for i := range events {
		if c := p.ready[i]; c != nil {
			p.ready[i] = nil
			c.handle(events[i].Events, now)
		}
		if i%pollerTurn == pollerTurn-1 {
			runtime.Gosched()
		}
	}
}

// add gives c a slot. The poller hears of its events only from watch on.
func (p *poller) add(c *epollConn) {
	p.mu.Lock()
	p.generation++
	c.poller, c.generation = p, p.generation
	if n := len(p.free); n > 0 {
		c.slot = p.free[n-1]
		p.free = p.free[:n-1]
		p.conns[c.slot] = c
	} else {
		c.slot = int32(len(p.conns))
		p.conns = append(p.conns, c)
	}
	aborted := p.aborted
	p.mu.Unlock()
	if aborted {
		c.abort(ErrShutdown)
	}
}

func (p *poller) remove(c *epollConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c.slot] = nil
	p.free = append(p.free, c.slot)
}

// control adds or changes what is watched of c.
func (p *poller) control(op int, c *epollConn, events uint32) error {
	event := unix.EpollEvent{Events: events, Fd: c.slot, Pad: c.generation}
	return unix.EpollCtl(p.fd, op, c.fd, &event)
}

// abort cuts all connections, now and in future.
func (ps *pollers) abort() {
	for _, p := range ps.all {
		p.abort()
	}
}

func (p *poller) abort() {
	p.mu.Lock()
	p.aborted = true
	conns := make([]*epollConn, 0, len(p.conns)-len(p.free))
	for _, c := range p.conns {
		if c != nil {
			conns = append(conns, c)
		}
	}
	p.mu.Unlock()
	for _, c := range conns {
		c.abort(ErrShutdown)
	}
}

// close ends the pollers. They must have no connections left.
func (ps *pollers) close() {
	for _, p := range ps.all {
		_ = p.file.Close()
	}
	for _, p := range ps.all {
		p.done.Wait()
	}
}
