package xhr

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"reecho/broker/flight"
	"reecho/edge/socket"
)

// session is the connection of one client over any number of requests: one at a time
// receives what waits for the client, others bring what it sends.
type session struct {
	// Static.
	handler *Handler
	cfg     *Config // with defaults
	id      string  // see Handler.sessions
	address netip.Addr
	remote  netip.AddrPort
	wake    chan struct{} // capacity 1; never closed
	opened  chan struct{} // closed when owner is set
	owner   socket.Receiver
	life    context.Context //nolint:containedctx // the session's: it ends when that is gone
	stop    context.CancelFunc

	// reading is had by the request whose body is read: one at a time, whatever a
	// client sends. What the others bring stays in the kernel.
	reading flight.Lock

	mu       sync.Mutex
	queue    socket.Queue
	receiver *receiver     // nil: none
	greeted  bool          // the client has its o
	beat     bool          // a heartbeat is due
	left     time.Duration // the budget's clock, as below: when the last receiver left
	wrote    time.Duration // when something was written
	heard    time.Duration // when a request came
	owed     int           // bytes of answers on their way
	pressed  chan struct{} // see pressing; nil: nobody asks
	waiting  bool          // something is done for the client, and its messages wait
	closed   error         // why; nil while open
	last     []byte        // what the client is told then
	deadline time.Duration // until when
	gone     bool

	inbox inbox
}

func newSession(h *Handler, id string, r *http.Request) *session {
	remote, _ := netip.ParseAddrPort(r.RemoteAddr)
	s := &session{
		handler: h, cfg: &h.cfg, id: id, address: socket.ClientAddr(r), remote: remote,
		wake: make(chan struct{}, 1), opened: make(chan struct{}),
	}
	s.life, s.stop = context.WithCancel(context.Background())
	s.queue.Init(h.cfg.Budget, s)
	s.left = h.cfg.Budget.Clock()
	s.heard = s.left
	return s
}

// open makes the session a client of the hub, as a WebSocket is made one.
func (s *session) open(r *http.Request, t *target) {
	s.owner = s.handler.hub.Open(s, &socket.Request{
		Path: s.cfg.PathPrefix + t.client, RawQuery: r.URL.RawQuery, Host: r.Host, Origin: r.Header.Get("Origin"), UserAgent: r.UserAgent(),
		Header: r.Header.Get, Remote: s.remote, Client: s.address, TLS: r.TLS != nil, Secure: socket.Secure(r), Fallback: true,
	})
	close(s.opened)
}

// end tells the hub that the session is gone, when its last message is handled.
func (s *session) end() {
	<-s.opened
	if r, ok := s.owner.(socket.HangupReceiver); ok {
		r.HungUp()
	}
	s.inbox.await()
	s.owner.Closed(s.why())
}

func (s *session) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// isOpen reports whether messages of the client are still handled.
func (s *session) isOpen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed == nil
}

// hear notes that something came from the client.
func (s *session) hear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = s.cfg.Budget.Clock()
}

func (s *session) setWaiting(waiting bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting, s.heard = waiting, s.cfg.Budget.Clock()
}

// put takes messages of the client; none are a sign of life. It waits for room, as much
// as one request may bring, and reports false if the session is closed or ctx ended, as
// it does with the session, before there was any: then it has taken none.
func (s *session) put(ctx context.Context, messages [][]byte) bool {
	select {
	case <-s.opened:
	case <-ctx.Done():
		return false
	}
	if len(messages) == 0 {
		messages = signOfLife
	}
	for s.isOpen() {
		full, first := s.inbox.put(messages, s.cfg.maxBody())
		if first {
			s.handler.run(s.work)
		}
		if full == nil {
			return true
		}
		select {
		case <-full:
		case <-ctx.Done():
			return false
		}
	}
	return false
}

// signOfLife is what a request without messages brings: as good as a pong.
var signOfLife = [][]byte{nil}

// work handles what is in the inbox.
func (s *session) work() {
	for m, ok := s.inbox.next(); ok; m, ok = s.inbox.next() {
		for relieved := s.pressing(); relieved != nil; relieved = s.pressing() {
			<-relieved
		}
		if !s.isOpen() {
			continue
		}
		if wait := s.handle(m); wait != nil {
			s.setWaiting(true)
			wait()
			s.setWaiting(false)
		}
	}
}

func (s *session) handle(m []byte) (wait func()) {
	if m != nil {
		return s.owner.Message(m)
	}
	if r, ok := s.owner.(socket.ControlReceiver); ok {
		return r.Control(1)
	}
	return nil
}
