package edge

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"reecho/edge/pusher"
)

// ServesEvents reports whether path is that of an event stream:
// [prefix]/app/{key}/events.
func (h *Hub) ServesEvents(path string) bool {
	_, ok := h.eventsKey(path)
	return ok
}

func (h *Hub) eventsKey(path string) (key string, ok bool) {
	path, ok = strings.CutSuffix(path, "/events")
	if !ok {
		return "", false
	}
	key, session, ok := h.keyOf(path)
	return key, ok && session == ""
}
// streamError is an answer with a status other than 200, after which browsers
// do not come back by themselves.
type streamError struct {
	status int
	text   string
}

func (e *streamError) Error() string { return e.text }

func streamErrorf(status int, format string, args ...any) *streamError {
	return &streamError{status: status, text: fmt.Sprintf(format, args...)}
}

// ServeEvents answers GET [prefix]/app/{key}/events with the events of channels
// as text/event-stream (WHATWG HTML, server-sent events). Each has an id from
// which the browser's own reconnection goes on, without a loss or a repeat.
func (h *Hub) ServeEvents(w http.ResponseWriter, r *http.Request) {
	key, _ := h.eventsKey(r.URL.Path)
	a, err := h.streamApp(key, r)
	if err == nil {
		allowOrigin(w, r)
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	var request *streamRequest
	if err == nil {
		request, err = h.parseStream(a, r)
	}
	if err == nil {
		refusal := h.count(a)
		switch {
		case refusal != nil && refusal.Code == pusher.CodeReconnect:
			// A browser that is answered an error never comes back.
			comeBack(w)
			return
		case refusal != nil:
			err = streamErrorf(http.StatusServiceUnavailable, "%s", refusal.Message)
		}
	}
	if err != nil {
		failStream(w, err)
		return
	}
	h.stream(w, r, request)
}

// comeBack answers with a stream that is over at once.
func comeBack(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = fmt.Fprintf(w, "retry: %d\n\n", retryDelay) // the client may be gone
}

func failStream(w http.ResponseWriter, err error) {
	var e *streamError
	if !errors.As(err, &e) {
		e = streamErrorf(http.StatusBadRequest, "%v", err)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if e.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodGet)
	}
	w.WriteHeader(e.status)
	_, _ = w.Write([]byte(e.text + "\n"))
}

func (h *Hub) streamApp(key string, r *http.Request) (*tenant, error) {
	found := h.apps.ByKey(key)
	if found == nil {
		return nil, streamErrorf(http.StatusNotFound, "App key %s does not exist on this server. Check the key and the host", cut(key))
	}
	a := h.tenants[found]
	switch {
	case !a.Enabled:
		return nil, streamErrorf(http.StatusForbidden, "The app is disabled")
	case a.TLSOnly && r.TLS == nil:
		return nil, streamErrorf(http.StatusForbidden, "The app only accepts TLS connections, use https")
	case !originAllowed(a.AllowedOrigins, r.Header.Get("Origin")):
		return nil, streamErrorf(http.StatusForbidden, "Origin not allowed")
	case r.Method != http.MethodGet && r.Method != http.MethodOptions:
		return nil, streamErrorf(http.StatusMethodNotAllowed, "Events are read with GET")
	}
	return a, nil
}

// allowOrigin answers a page of another origin, which was found to be allowed.
func allowOrigin(w http.ResponseWriter, r *http.Request) {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return
	}
	header := w.Header()
	header.Set("Access-Control-Allow-Origin", origin)
	header.Add("Vary", "Origin")
	if r.Method == http.MethodOptions {
		header.Set("Access-Control-Allow-Methods", http.MethodGet)
		header.Set("Access-Control-Allow-Headers", "Cache-Control, Last-Event-ID, "+headerStreamAuth)
		header.Set("Access-Control-Max-Age", "600")
	}
}
// stream serves one accepted request until it or the client ends.
func (h *Hub) stream(w http.ResponseWriter, r *http.Request, s *streamRequest) {
	conn := newStreamConn(h.cfg.MaxQueuedBytes, r)
	c := &client{
		conn: conn, app: s.tenant, id: s.id, protocol: newestProtocol, openedAt: time.Now().Unix(),
		shard: h.shards[h.nextShard.Add(1)%uint32(len(h.shards))], //nolint:gosec // few shards
	}
	c.shard.inbox.push(&op{kind: opAdd, client: c})
	sw := &streamWriter{
		w: w, control: http.NewResponseController(w), timeout: h.cfg.WriteTimeout, request: s, cursor: s.cursor,
	}
	subscribing := make(chan struct{})
	go func() { //nolint:contextcheck // ends with the connection, like what any client waits for
		// Beside the writing: what is replayed is paced by what was read.
		defer close(subscribing)
		for _, in := range s.channels {
			if wait := c.subscribeTo(in); wait != nil {
				wait()
			}
		}
	}()
	err := sw.run(r.Context(), conn, subscribing)
	// The connection may carry other requests.
	_ = sw.control.SetWriteDeadline(time.Time{})
	conn.end(err)
	<-subscribing
	c.Closed(err) //nolint:contextcheck // the request is over, its client has to leave all the same
}
