package socket

import (
	"net"
	"net/http"
	"syscall"
)

// takenBy is what the peer of a connection took. It is not known of
// connections that have no descriptor.
func takenBy(conn net.Conn) (t taken) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return taken{}
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return taken{}
	}
	_ = raw.Control(func(fd uintptr) { t = lookAt(int(fd)) }) // closed: not known
	return t
}

// Watch makes Tick look at what the peer of r, a request that a Server gave to
// its HTTP handler, takes of the answer.
func (q *Queue) Watch(r *http.Request) {
	if g := gateOf(r); g != nil {
		q.raw = g.in.raw
	}
}
