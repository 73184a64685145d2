package edge

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"reecho/edge/limit"
	"reecho/edge/pusher"
	"reecho/edge/socket"
)

// Defaults of the bounds on event streams of a node, polls included.
const (
	DefaultEventStreams           = 10_000
	DefaultEventStreamsPerAddress = 1000
)

// streamRetry is when a client that found no room should try again, in seconds.
const streamRetry = 5

// ServesEvents reports whether path is that of an event stream,
// [prefix]/app/{key}/events, or of the socket ids for them,
// [prefix]/app/{key}/events/socket_id, a trailing slash allowed.
func (h *Hub) ServesEvents(path string) bool {
	_, _, ok := h.eventsKey(path)
	return ok
}

func (h *Hub) eventsKey(path string) (key string, ids, ok bool) {
	path, ids = strings.CutSuffix(strings.TrimSuffix(path, "/"), "/socket_id")
	path, ok = strings.CutSuffix(path, "/events")
	if !ok {
		return "", false, false
	}
	p, ok := ParsePath(h.cfg.PathPrefix, path)
	return p.Key, ids, ok && !p.HasSession
}

// streamError is an answer with a status other than 200, after which browsers
// do not come back by themselves.
type streamError struct {
	status int
	text   string
	retry  int // seconds until it is worth to come back; 0: never as it is
}

func (e *streamError) Error() string { return e.text }

func streamErrorf(status int, format string, args ...any) *streamError {
	return &streamError{status: status, text: fmt.Sprintf(format, args...)}
}

// ServeEvents answers GET [prefix]/app/{key}/events with the events of channels
// as text/event-stream (WHATWG HTML, server-sent events). Each has an id from
// which the browser's own reconnection goes on, without a loss or a repeat.
func (h *Hub) ServeEvents(w http.ResponseWriter, r *http.Request) {
	key, ids, _ := h.eventsKey(socket.RoutePath(r.URL))
	if h.allowOrigin(w, r, key) && r.Method == http.MethodOptions {
		// Also when the request itself will be refused: else its page could not
		// read why.
		w.WriteHeader(http.StatusNoContent)
		return
	}
	a, err := h.admitStream(key, r, ids)
	switch {
	case err != nil:
	case ids:
		h.issueStreamID(w, r, a, key)
	default:
		err = h.serveStream(w, r, a)
	}
	if err != nil {
		failStream(w, err)
	}
}

// admitStream is admit for a request, with statuses for Pusher's codes.
func (h *Hub) admitStream(key string, r *http.Request, ids bool) (*tenant, error) {
	a, refusal := h.admit(key, socket.Secure(r), r.Header.Get("Origin"))
	if refusal != nil {
		status := http.StatusForbidden
		if refusal.Code == pusher.CodeUnknownApp {
			status = http.StatusNotFound
		}
		return nil, streamErrorf(status, "%s", refusal.Message)
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPost:
		if ids {
			break
		}
		fallthrough
	default:
		return nil, streamErrorf(http.StatusMethodNotAllowed, "Events are read with GET")
	}
	return a, nil
}

// serveStream serves a stream until it is over. The error is that it could not
// begin.
func (h *Hub) serveStream(w http.ResponseWriter, r *http.Request, a *tenant) error {
	request, err := h.parseStream(a, r)
	if err != nil {
		return err
	}
	if r.Method == http.MethodHead {
		streamHeaders(w)
		return nil
	}
	if reason := socket.Overrun(r); reason != "" {
		if request.poll {
			// On a busy channel an honest crowd polls as often, and a browser that is
			// answered an error never comes back.
			comeBack(w, 1000*streamRetry)
			return nil
		}
		return &streamError{status: http.StatusTooManyRequests, text: reason, retry: streamRetry}
	}
	if reason := socket.Refusal(r); reason != "" {
		return &streamError{status: http.StatusServiceUnavailable, text: reason, retry: streamRetry}
	}
	address := socket.ClientAddr(r)
	if err := h.streams.enter(h.cfg, a, address); err != nil {
		return err
	}
	defer h.streams.leave(address)
	if refusal := h.count(a); refusal != nil {
		if refusal.Code == pusher.CodeReconnect {
			// A browser that is answered an error never comes back.
			comeBack(w, retryDelay)
			return nil
		}
		return &streamError{status: http.StatusServiceUnavailable, text: refusal.Message, retry: streamRetry}
	}
	h.stream(w, r, request)
	return nil
}

// comeBack answers with a stream that is over at once; the client comes back
// after so many ms.
func comeBack(w http.ResponseWriter, delay int) {
	streamHeaders(w)
	_, _ = fmt.Fprintf(w, "retry: %d\n\n", delay) // the client may be gone
}

func failStream(w http.ResponseWriter, err error) {
	var e *streamError
	if !errors.As(err, &e) {
		e = streamErrorf(http.StatusBadRequest, "%v", err)
	}
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff") // the text repeats what was asked
	if e.status == http.StatusMethodNotAllowed {
		header.Set("Allow", "GET, HEAD, OPTIONS")
	}
	if e.retry > 0 {
		header.Set("Retry-After", strconv.Itoa(e.retry))
	}
	w.WriteHeader(e.status)
	_, _ = w.Write([]byte(e.text + "\n")) // the client may be gone
}

// streamCounts are the event streams of a node that are open.
type streamCounts struct {
	open      atomic.Int64
	addresses limit.Counts
}

// enter counts one more, if there is room. A browser that is refused does not
// come back by itself; to let it in for a moment and send it away would keep it
// coming every second, with all the work that it costs, while there is no room.
func (s *streamCounts) enter(cfg Config, a *tenant, address netip.Addr) error {
	if s.open.Add(1) > int64(cfg.EventStreams) {
		s.open.Add(-1)
		cfg.Ledger.Note(limit.EventStreams, slog.String("app", a.ID))
		return &streamError{status: http.StatusServiceUnavailable, retry: streamRetry, text: fmt.Sprintf(
			"The server has as many event streams as it takes: event_streams is %d. Come back later", cfg.EventStreams)}
	}
	if !s.addresses.Enter(address, cfg.EventStreamsPerAddress) {
		s.open.Add(-1)
		cfg.Ledger.Note(limit.AddressStreams, slog.String("app", a.ID), slog.String("address", limit.Address(address).String()))
		return &streamError{status: http.StatusTooManyRequests, retry: streamRetry, text: fmt.Sprintf(
			"Your address has as many event streams as it may: event_streams_per_address is %d. Come back later", cfg.EventStreamsPerAddress)}
	}
	return nil
}

func (s *streamCounts) leave(address netip.Addr) {
	s.addresses.Leave(address)
	s.open.Add(-1)
}

// stream serves one accepted request until it or the client ends.
func (h *Hub) stream(w http.ResponseWriter, r *http.Request, s *streamRequest) {
	control := http.NewResponseController(w)
	past := time.Unix(1, 0)
	conn := newStreamConn(&h.cfg, r, func() { _ = control.SetWriteDeadline(past) })
	c := &client{
		conn: conn, app: s.tenant, id: s.id, protocol: newestProtocol, openedAt: time.Now().Unix(), address: socket.ClientAddr(r),
		shard: h.shards[h.nextShard.Add(1)%uint32(len(h.shards))], //nolint:gosec // few shards
	}
	c.authorized.Store(s.authorized())
	c.shard.inbox.push(&op{kind: opAdd, client: c})
	s.signIn(c)
	sw := &streamWriter{
		w: w, control: control, conn: conn, request: s, cursor: s.cursor,
	}
	subscribing := make(chan struct{})
	go func() { //nolint:contextcheck // ends with the connection, like what any client waits for
		// Beside the writing: what is replayed is paced by what was read.
		defer close(subscribing)
		for _, in := range s.channels {
			if c.work.stopped() {
				return
			}
			if wait := c.subscribeTo(in); wait != nil {
				wait()
			}
		}
	}()
	expired, stop := s.expiry()
	defer stop()
	err := conn.end(sw.run(r.Context(), subscribing, expired))
	if errors.Is(err, socket.ErrSlow) {
		// Else net/http would wait for it to read the end of the answer.
		_ = control.SetWriteDeadline(past)
	}
	c.work.stop()
	<-subscribing
	c.Closed(err) //nolint:contextcheck // the request is over, its client has to leave all the same
}
