package socket

import (
	"net"
	"net/http"
	"syscall"
	"time"
)

// takenBy is what the peer of a connection took. It is not known of
// connections that have no descriptor.
func takenBy(conn net.Conn) (t taken) {
	control(conn, func(fd int) { t = lookAt(fd) })
	return t
}

// bearWith makes the kernel wait that long for a peer that takes nothing.
func bearWith(conn any, patience time.Duration) {
	control(conn, func(fd int) { outlast(fd, patience) })
}

// control calls f with the descriptor of a connection or a listener that has
// one and is not closed.
func control(conn any, f func(fd int)) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) }) // closed: nothing to do
	}
}

// Watch makes Tick look at what the peer of r, a request that a Server gave to
// its HTTP handler, takes of the answer. nil is nobody: there is no answer.
func (q *Queue) Watch(r *http.Request) {
	q.raw = nil
	if r == nil {
		return
	}
	if g := gateOf(r); g != nil {
		q.raw = g.in.raw
	}
}
