package socket

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// gate is a connection as net/http sees it. It passes on one request at a time
// and looks at the head of each first: what is not for net/http, a client's
// upgrade or a request that must be refused, makes the gate look closed, and
// goes back to the server with all that follows.
//
// Its Read is called by one goroutine at a time: that which serves requests, or
// between the body of one and its answer another, which waits for the client to
// go away.
type gate struct {
	net.Conn
	server *Server
	in     *incoming

	// Owned by whoever reads.
	o     *opening // what was read and not passed on; nil: nothing
	at    int      // up to where it was passed on
	ready int      // how much of it, from at, may be passed on
	body  body     // what may be passed on behind that

	// idle says that no request is under way. The serving goroutine sets it, and
	// no other reads meanwhile.
	idle  bool
	taken atomic.Bool // Read found what is not for net/http
	ended atomic.Bool // Close was called
}

// Read implements net.Conn.
func (g *gate) Read(p []byte) (int, error) {
	for {
		switch {
		case g.ready > 0:
			n := copy(p, g.o.buf[g.at:g.at+g.ready])
			g.at += n
			g.ready -= n
			g.tidy()
			return n, nil
		case g.body.state == bodyNone:
			if err := g.next(); err != nil {
				return 0, err
			}
		case g.o != nil:
			n, err := g.body.scan(g.o.buf[g.at:])
			if err != nil {
				return 0, err
			}
			g.ready = n
		default:
			return g.readBody(p)
		}
	}
}

// readBody reads from the connection, up to the end of the body.
func (g *gate) readBody(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if n == 0 {
		return 0, err //nolint:wrapcheck // a net.Conn's own errors
	}
	in, malformed := g.body.scan(p[:n])
	if malformed != nil {
		return 0, malformed
	}
	if in < n {
		g.o = newOpening()
		g.o.buf = append(g.o.buf, p[in:n]...)
		g.at = 0
	}
	return in, nil
}

// tidy gives the buffer back when all was passed on.
func (g *gate) tidy() {
	if g.at == len(g.o.buf) {
		g.o.release()
		g.o, g.at = nil, 0
	}
}

// next reads the head of the next request and makes it ready. An error is for
// net/http; it never sees a head that the server refuses.
func (g *gate) next() error {
	if g.o == nil {
		g.o = newOpening()
	}
	g.o.discard(g.at)
	g.at = 0
	size, h, err := g.head()
	if err != nil && !isRejection(err) {
		if len(g.o.buf) == 0 {
			g.o.release()
			g.o = nil
		}
		return err
	}
	upgrade := false
	if err == nil {
		upgrade, g.body, err = g.server.judge(&h)
	}
	if err == nil && !upgrade {
		g.ready = size
		return nil
	}
	g.body = body{}
	return g.hold()
}

func isRejection(err error) bool {
	var r *rejection
	return errors.As(err, &r)
}

// head reads until there is a complete head. The client has HandshakeTimeout
// for it once it began; before that it may be idle.
func (g *gate) head() (int, head, error) {
	conn := g.in.conn
	if len(g.o.buf) == 0 {
		if err := g.o.fill(conn, g.server.cfg.MaxHeaderBytes); err != nil {
			return 0, head{}, err
		}
	}
	if g.idle && headEnd(g.o.buf, 0) == 0 {
		timeout := min(g.server.cfg.HandshakeTimeout, g.server.cfg.HTTPIdleTimeout)
		_ = conn.SetReadDeadline(time.Now().Add(timeout))
	}
	size, err := readHead(conn, g.o, g.server.cfg.MaxHeaderBytes)
	if err != nil {
		return 0, head{}, err
	}
	h, err := parseHead(g.o.buf[:size], g.o.fields)
	return size, h, err
}

// hold keeps what is not for net/http until the request before it is answered,
// watching whether the client goes away. Then it takes the connection.
func (g *gate) hold() error {
	for !g.idle {
		if err := g.o.fill(g.in.conn, 2*g.server.cfg.MaxHeaderBytes); err != nil {
			return err
		}
	}
	g.taken.Store(true)
	return io.EOF
}

// Close implements net.Conn. net/http is done with the connection; if it was
// taken, it begins anew.
func (g *gate) Close() error {
	if g.ended.Swap(true) {
		return net.ErrClosed
	}
	if g.taken.Load() {
		g.server.takeBack(g)
		return nil
	}
	g.server.places.leave()
	return g.Conn.Close() //nolint:wrapcheck // a net.Conn's own errors
}

// CloseWrite lets net/http say that nothing more will come, and read on, so
// that an answer before the end of a body is seen.
func (g *gate) CloseWrite() error {
	if half, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite() //nolint:wrapcheck // a net.Conn's own errors
	}
	return nil
}

// follow is the hook of net/http for the states of its connections.
func follow(c net.Conn, state http.ConnState) {
	if g, ok := c.(*gate); ok {
		g.idle = state == http.StateNew || state == http.StateIdle
	}
}

// takeBack goes on with a connection that net/http is done with.
func (s *Server) takeBack(g *gate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		s.places.leave()
		_ = g.in.raw.Close()
		return
	}
	if s.renewDeadline(g.in) != nil {
		s.places.leave()
		_ = g.in.raw.Close()
		return
	}
	s.pending[g.in.raw] = struct{}{}
	s.tasks.Go(func() { s.route(g.in, g.o) })
}
