// Package sse is the door for clients that read the events of channels as an
// event stream over HTTP: text/event-stream (WHATWG HTML, server-sent events),
// or polls of it. It stands above package edge, of which each stream is a guest.
package sse

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"reecho/edge"
	"reecho/edge/pusher"
	"reecho/edge/socket"
)

// Handler is an http.Handler for event streams and the socket ids for them. It
// is safe for concurrent use.
type Handler struct {
	cfg    Config
	hub    *edge.Hub
	counts counts
}

// New makes a handler for the apps of hub, which ends the streams when it
// closes. The error is that of Config.Validate.
func New(cfg Config, hub *edge.Hub) (*Handler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Handler{cfg: cfg.withDefaults(), hub: hub}, nil
}

// Serves reports whether path (socket.RoutePath) is that of an event stream,
// [prefix]/app/{key}/events, or of the socket ids for them,
// [prefix]/app/{key}/events/socket_id, a trailing slash allowed.
func (h *Handler) Serves(path string) bool {
	_, _, ok := h.parsePath(path)
	return ok
}

func (h *Handler) parsePath(path string) (key string, ids, ok bool) {
	path, ids = strings.CutSuffix(strings.TrimSuffix(path, "/"), "/socket_id")
	path, ok = strings.CutSuffix(path, "/events")
	if !ok {
		return "", false, false
	}
	p, ok := edge.ParsePath(h.cfg.PathPrefix, path)
	return p.Key, ids, ok && !p.HasSession
}

// ServeHTTP implements http.Handler: GET [prefix]/app/{key}/events is answered
// with the events of channels. Each has an id from which the browser's own
// reconnection goes on, without a loss or a repeat. It returns when the stream is
// over.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key, ids, _ := h.parsePath(socket.RoutePath(r.URL))
	if cors.Allow(w, r, h.hub.Apps().ByKey(key)) && r.Method == http.MethodOptions {
		// Also when the request itself will be refused: else its page could not
		// read why.
		w.WriteHeader(http.StatusNoContent)
		return
	}
	t, err := h.admit(key, r, ids)
	switch {
	case err != nil:
	case ids:
		issueID(w, r, t, key)
	default:
		err = h.serve(w, r, t)
	}
	if err != nil {
		h.fail(w, err)
	}
}

// Streams is how many event streams are open, and how many may be.
func (h *Handler) Streams() (open, limit int) { return int(h.counts.open.Load()), h.cfg.EventStreams }

// admit is Hub.Admit for a request, with statuses for Pusher's codes.
func (h *Handler) admit(key string, r *http.Request, ids bool) (*edge.Tenant, error) {
	t, no := h.hub.Admit(key, socket.Secure(r), r.Header.Get("Origin"))
	if no != nil {
		status := http.StatusForbidden
		if no.Code == pusher.CodeUnknownApp {
			status = http.StatusNotFound
		}
		return nil, refuse(status, "%s", no.Message)
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPost:
		if ids {
			break
		}
		fallthrough
	default:
		return nil, refuse(http.StatusMethodNotAllowed, "Events are read with GET")
	}
	return t, nil
}

// idPath is where the client of a request gets socket ids.
func (h *Handler) idPath(r *http.Request) string {
	key, _, _ := h.parsePath(r.URL.Path)
	return h.cfg.PathPrefix + "/app/" + pusher.Cut(key) + "/events/socket_id"
}

// issueID answers with a socket id for event streams. Anybody may have one: it
// opens nothing until the application has signed channels for it.
func issueID(w http.ResponseWriter, r *http.Request, t *edge.Tenant, key string) {
	secret, _ := t.Secret(key)
	id, expires := t.IssueID(secret)
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return
	}
	answer := id.AppendTo([]byte(`{"socket_id":"`))
	answer = strconv.AppendInt(append(answer, `","expires":`...), expires.Unix(), 10)
	_, _ = w.Write(append(answer, "}\n"...)) //nolint:gosec // numbers; the client may be gone
}

// serve serves a stream until it is over. The error is that it could not begin.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, t *edge.Tenant) error {
	s, err := newRequest(t, r, h.idPath(r))
	if err != nil {
		return err
	}
	if r.Method == http.MethodHead {
		setHeaders(w)
		return nil
	}
	if reason := socket.Overrun(r); reason != "" {
		if s.poll {
			// On a busy channel an honest crowd polls as often, and a browser that is
			// answered an error never comes back.
			comeBack(w, 1000*retryAfter)
			return nil
		}
		return &refusal{status: http.StatusTooManyRequests, text: reason, retry: retryAfter}
	}
	if reason := socket.Refusal(r); reason != "" {
		return &refusal{status: http.StatusServiceUnavailable, text: reason, retry: retryAfter}
	}
	address := socket.ClientAddr(r)
	if err := h.counts.enter(&h.cfg, t.ID, address); err != nil {
		return err
	}
	defer h.counts.leave(address)
	return h.attach(w, r, s)
}

// attach makes the stream a client of the hub, and serves it.
func (h *Handler) attach(w http.ResponseWriter, r *http.Request, s *request) error {
	control := http.NewResponseController(w)
	c := newConn(&h.cfg, r, func() { _ = control.SetWriteDeadline(past) })
	guest, no := h.hub.Attach(s.auth.tenant, edge.Peer{
		Conn: c, ID: s.auth.id, Address: socket.ClientAddr(r), Authorized: s.auth.authorized(),
	})
	switch {
	case no == nil:
		sw := &writer{w: w, control: control, conn: c, request: s, cursor: s.cursor}
		serveGuest(r.Context(), guest, sw)
		return nil
	case no.Code == pusher.CodeReconnect:
		// A browser that is answered an error never comes back.
		comeBack(w, retryDelay)
		return nil
	}
	return &refusal{status: http.StatusServiceUnavailable, text: no.Message, retry: retryAfter}
}

// past is a deadline that ends a write under way.
var past = time.Unix(1, 0)

// serveGuest serves one accepted request until it or the client ends.
func serveGuest(ctx context.Context, guest *edge.Guest, sw *writer) {
	s := sw.request
	if s.auth.signedIn {
		guest.SignIn(s.signin()) //nolint:contextcheck // it waits no longer than a moment
	}
	begun, subscribed := make(chan struct{}), make(chan struct{})
	go func() { //nolint:contextcheck // ends with the connection, like what any client waits for
		// Beside the writing: what is replayed is paced by what was read.
		defer close(subscribed)
		channels, beginning := s.inOrder()
		for _, in := range channels[:beginning] {
			guest.Subscribe(in, s.confirm)
			sw.conn.moved() // what waits meanwhile does not wait for the peer
		}
		close(begun)
		for _, in := range channels[beginning:] {
			guest.Subscribe(in, s.confirm)
		}
	}()
	expired, stop := s.auth.expiry()
	defer stop()
	err := sw.conn.end(sw.run(ctx, begun, subscribed, expired))
	if errors.Is(err, socket.ErrSlow) {
		// Else net/http would wait for it to read the end of the answer.
		_ = sw.control.SetWriteDeadline(past)
	}
	guest.Stop()
	<-subscribed
	guest.Leave(err) //nolint:contextcheck // the request is over, its client has to leave all the same
}

// comeBack answers with a stream that is over at once; the client comes back
// after so many ms.
func comeBack(w http.ResponseWriter, delay int) {
	setHeaders(w)
	_, _ = fmt.Fprintf(w, "retry: %d\n\n", delay) // the client may be gone
}
