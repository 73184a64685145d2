package socket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"reecho/edge/limit"
)

// Pauses of the accept loop while the process has no file descriptors left.
const (
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

// Server serves WebSocket clients and HTTP on the same listeners. It is safe
// for concurrent use.
type Server struct {
	cfg      Config
	acceptor Acceptor
	log      *slog.Logger
	epoch    time.Time // zero of the server clock and the budget's
	http     *http.Server
	handoff  *handoff
	pollers  *pollers // nil: every connection is a stream
	places   *places
	// handshakes are those of each client address.
	handshakes limit.Rates
	// complaints are those about proxies.
	complaints limit.Rates

	pressed pressed

	// tasks counts every goroutine and connection. It may grow from 0 only
	// under mu while not stopping.
	tasks  sync.WaitGroup
	httpUp sync.WaitGroup

	mu        sync.Mutex
	stopping  bool
	aborted   bool // what connects now is cut at once
	stopped   chan struct{}
	listeners map[net.Listener]struct{}
	pending   map[net.Conn]struct{} // in their handshake
	streams   map[*stream]struct{}
}

// NewServer starts a server for clients that a accepts; h serves all other
// requests. Shutdown must be called in the end. It fails when cfg is invalid
// or the system refuses an epoll descriptor.
func NewServer(cfg Config, a Acceptor, h http.Handler, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("socket configuration: %w", err)
	}
	cfg = cfg.withDefaults()
	descriptors, err := RaiseDescriptors()
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, acceptor: a, log: log, epoch: cfg.Budget.epoch,
		http: newHTTPServer(&cfg, h, log), handoff: newHandoff(), places: newPlaces(&cfg, descriptors),
		stopped:   make(chan struct{}),
		listeners: make(map[net.Listener]struct{}),
		pending:   make(map[net.Conn]struct{}),
		streams:   make(map[*stream]struct{}),
	}
	if !cfg.ForceGoroutines {
		p, err := newPollers(s, cfg.Pollers)
		if err != nil {
			return nil, fmt.Errorf("start pollers: %w", err)
		}
		s.pollers = p
	}
	s.places.announce(log, cfg.MaxConnections, descriptors)
	s.httpUp.Go(func() {
		if err := s.http.Serve(s.handoff); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("[unexpected] HTTP server ended", slog.Any("error", err))
		}
	})
	return s, nil
}

// clock is the time since the server was made, in nanoseconds.
func (s *Server) clock() int64 { return int64(time.Since(s.epoch)) }

// Serve accepts connections from ln until ctx ends or Shutdown is called, and
// closes ln. It may be called for several listeners at once. Use Listen for
// listeners whose connections need no further set-up. It returns nil, or the
// error that made ln unusable.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if !s.addListener(ln) {
		_ = ln.Close()
		return nil
	}
	defer s.removeListener(ln)
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	l, tuned := ln.(*Listener)
	if tuned {
		bearWith(l.Listener, s.cfg.WriteTimeout)
	}
	for s.places.enter(ctx, s.stopped) {
		conn, err := s.accept(ctx, ln)
		if err != nil {
			s.places.leave()
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		}
		s.start(&incoming{server: s, conn: conn, raw: conn, tuned: tuned, crowded: s.places.crowded()})
	}
	return nil
}

// accept waits for a connection. When the system lacks resources for one, it
// pauses and tries again: clients wait in the kernel's backlog meanwhile.
func (s *Server) accept(ctx context.Context, ln net.Listener) (net.Conn, error) {
	pause := minAcceptPause
	for {
		conn, err := ln.Accept()
		if err == nil || !isShortage(err) {
			return conn, err
		}
		if pause == minAcceptPause {
			s.log.Warn("cannot accept connections for now", slog.Any("error", err))
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-s.stopped:
		}
		timer.Stop()
		pause = min(2*pause, maxAcceptPause)
	}
}

func isShortage(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// start begins the handshake of an accepted connection.
func (s *Server) start(in *incoming) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		s.places.leave()
		_ = in.raw.Close()
		return
	}
	if in.crowded {
		s.cfg.Ledger.Note(limit.Connections)
	}
	s.pending[in.raw] = struct{}{}
	s.tasks.Go(func() { s.open(in) })
}

// forget ends the handshake phase of conn: Shutdown no longer closes it.
func (s *Server) forget(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, conn)
}

// drop closes a connection in its handshake.
func (s *Server) drop(conn net.Conn) {
	s.forget(conn)
	_ = conn.Close()
	s.places.leave()
}

func (s *Server) addListener(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping {
		s.listeners[ln] = struct{}{}
	}
	return !s.stopping
}

func (s *Server) removeListener(ln net.Listener) {
	_ = ln.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
}

func (s *Server) addStream(c *stream) {
	s.mu.Lock()
	s.streams[c] = struct{}{}
	aborted := s.aborted
	s.mu.Unlock()
	if aborted {
		c.abort(ErrShutdown)
	}
}

func (s *Server) removeStream(c *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, c)
}

// Connections is how many there are, WebSocket, HTTP and those in their handshake, and
// how many there may be, 0 for any number.
func (s *Server) Connections() (open, limit int) { return s.places.count(), s.places.limit }

// Shutdown stops accepting, cuts handshakes, lets running HTTP requests finish
// and waits until the owner has closed all connections. When ctx ends first,
// it cuts what is left, connections with ErrShutdown, and returns ctx's error.
// All Closed calls have returned when it does. It must be called once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopAccepting()
	err := s.http.Shutdown(ctx)
	if err != nil {
		_ = s.http.Close()
	}
	s.httpUp.Wait()
	idle := make(chan struct{})
	go func() {
		s.tasks.Wait()
		close(idle)
	}()
	select {
	case <-idle:
	case <-ctx.Done():
		err = ctx.Err()
		s.abort()
		<-idle
	}
	if s.pollers != nil {
		s.pollers.close()
	}
	if err != nil {
		return fmt.Errorf("shut down sockets: %w", err)
	}
	return nil
}

func (s *Server) stopAccepting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping {
		s.stopping = true
		close(s.stopped)
	}
	for ln := range s.listeners {
		_ = ln.Close()
	}
	for conn := range s.pending {
		_ = conn.Close()
	}
}

// abort cuts all connections, and those that are just being made.
func (s *Server) abort() {
	s.mu.Lock()
	s.aborted = true
	streams := make([]*stream, 0, len(s.streams))
	for c := range s.streams {
		streams = append(streams, c)
	}
	s.mu.Unlock()
	for _, c := range streams {
		c.abort(ErrShutdown)
	}
	if s.pollers != nil {
		s.pollers.abort()
	}
}
