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

// maxHTTPHeaderBytes bounds the head of a request that net/http serves.
const maxHTTPHeaderBytes = 64 << 10

// replayConn first reads what was already read from the connection.
type replayConn struct {
	net.Conn
	o   *opening // nil when everything was replayed
	at  int
	tls *tls.Conn // the same connection, when it is TLS
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

// serveHTTP gives a connection to net/http with the bytes read so far.
func (s *Server) serveHTTP(in *incoming, o *opening) {
	s.forget(in.raw)
	_ = in.raw.SetDeadline(time.Time{})
	c := &replayConn{Conn: in.conn, o: o}
	c.tls, _ = in.conn.(*tls.Conn)
	if len(o.buf) == 0 {
		o.release()
		c.o = nil
	}
	s.handoff.give(c)
}

// connKey finds the connection in a request's context.
type connKey struct{}

func newHTTPServer(cfg *Config, h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: &handler{next: h, bodyTimeout: cfg.HTTPBodyTimeout},
		// No ReadTimeout and WriteTimeout: they would end streamed answers.
		ReadHeaderTimeout: cfg.HandshakeTimeout,
		IdleTimeout:       cfg.HTTPIdleTimeout,
		MaxHeaderBytes:    maxHTTPHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			r, ok := c.(*replayConn)
			switch {
			case !ok:
				return ctx
			case r.tls == nil:
				return context.WithValue(ctx, rawKey{}, r.Conn)
			}
			ctx = context.WithValue(ctx, rawKey{}, r.tls.NetConn())
			return context.WithValue(ctx, connKey{}, r.tls)
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
	if c, ok := r.Context().Value(connKey{}).(*tls.Conn); ok {
		state := c.ConnectionState()
		r.TLS = &state
	}
	if r.ContentLength != 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.bodyTimeout))
	}
	h.next.ServeHTTP(w, r)
}

// ClientAddr is Request.Client of a request that a Server gave to its HTTP
// handler.
func ClientAddr(r *http.Request) netip.Addr {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return remote.Addr().Unmap()
}
