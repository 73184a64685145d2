package socket

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// replayConn first reads what was already read from the connection.
type replayConn struct {
	net.Conn
	o  *opening // nil when everything was replayed
	at int
}

// Read implements net.Conn. Only one goroutine may read.
func (c *replayConn) Read(p []byte) (int, error) {
	if c.o == nil {
		return c.Conn.Read(p)
	}
	n := copy(p, c.o.buf[c.at:])
	c.at += n
	if c.at == len(c.o.buf) {
		c.o.release()
		c.o = nil
	}
	return n, nil
}

// handoff is the listener that gives connections to net/http.
type handoff struct {
	addr  net.Addr
	conns chan net.Conn // never closed
	done  chan struct{} // closed by Close
	once  sync.Once
}

var _ net.Listener = (*handoff)(nil)

func newHandoff() *handoff {
	return &handoff{addr: &net.TCPAddr{}, conns: make(chan net.Conn), done: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *handoff) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *handoff) Addr() net.Addr { return l.addr }

// give passes c on, or closes it after Close.
func (l *handoff) give(c net.Conn) {
	select {
	case l.conns <- c:
	case <-l.done:
		_ = c.Close()
	}
}

// serveHTTP gives a connection to net/http with the bytes read so far. The
// first size of them are the head of a request, and b is its body; without a
// head net/http waits for the next request.
func (s *Server) serveHTTP(in *incoming, o *opening, size int, b body) {
	s.forget(in.raw)
	_ = in.raw.SetDeadline(time.Time{})
	g := &gate{Conn: in.conn, server: s, in: in, o: o, ready: size, body: b, idle: true}
	if size == 0 {
		g.tidy()
	}
	s.handoff.give(g)
}

// connKey finds the gate in a request's context.
type connKey struct{}

func gateOf(r *http.Request) *gate {
	g, _ := r.Context().Value(connKey{}).(*gate)
	return g
}

func newHTTPServer(cfg *Config, h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: &handler{next: h, bodyTimeout: cfg.HTTPBodyTimeout},
		// No ReadTimeout and WriteTimeout: they would end streamed answers.
		ReadHeaderTimeout: cfg.HandshakeTimeout,
		IdleTimeout:       cfg.HTTPIdleTimeout,
		MaxHeaderBytes:    cfg.MaxHeaderBytes, // never reached: the gate has the same
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnState:         follow,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
}

// handler adds to requests what net/http does not do for a handed-over
// connection.
type handler struct {
	next        http.Handler
	bodyTimeout time.Duration
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	timeout := h.bodyTimeout
	if g := gateOf(r); g != nil {
		if c, ok := g.in.conn.(*tls.Conn); ok {
			state := c.ConnectionState()
			r.TLS = &state
		}
		if g.in.crowded {
			w.Header().Set("Connection", "close")
			timeout = min(timeout, crowdTimeout)
		}
	}
	if r.ContentLength != 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(timeout))
	}
	h.next.ServeHTTP(w, mergedPath(r))
}

// ClientAddr is Request.Client of a request that a Server gave to its HTTP
// handler.
func ClientAddr(r *http.Request) netip.Addr { return clientOf(r).addr }

// Secure is Request.Secure of a request that a Server gave to its HTTP handler.
func Secure(r *http.Request) bool { return clientOf(r).secure }

func clientOf(r *http.Request) origin {
	if g := gateOf(r); g != nil {
		return g.server.cfg.TrustedProxies.client(g.in.peer, r.Header.Values)
	}
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return origin{secure: r.TLS != nil}
	}
	return origin{addr: remote.Addr().Unmap(), secure: r.TLS != nil}
}

// Refusal is Request.Refusal of a request that a Server gave to its HTTP
// handler. A request that takes but a moment may be served all the same: its
// connection is closed behind the answer.
func Refusal(r *http.Request) string {
	if g := gateOf(r); g != nil {
		return g.in.refusal()
	}
	return ""
}

// Overrun counts a request that begins what is as good as a connection, an
// event stream, as a handshake of its client. It returns "", or a sentence for
// the client why it is one too many.
func Overrun(r *http.Request) string {
	if g := gateOf(r); g != nil && !g.server.admit(ClientAddr(r)) {
		return g.server.tooManyHandshakes()
	}
	return ""
}
