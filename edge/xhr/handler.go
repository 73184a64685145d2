// Package xhr is the door for clients that cannot have a WebSocket: the fallback
// transports of pusher-js, xhr_streaming and xhr_polling (PROTOCOL §7). A client has a
// transport session with an id that it chose; one request at a time receives what
// waits for it, and others bring what it sends. It stands above package edge, to which
// each session is a connection like a WebSocket.
package xhr

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"net/http"
	"sync"

	"reecho/broker/cluster"
	"reecho/edge"
	"reecho/edge/pusher"
	"reecho/edge/socket"
)

// cors: nothing but a type of content is sent.
var cors = edge.CORS{Methods: "GET, POST", Headers: "Content-Type, X-Requested-With"}

// Handler is an http.Handler for transport sessions. It is safe for concurrent use.
type Handler struct {
	cfg       Config // with defaults
	hub       *edge.Hub
	relay     *relay // nil: the node is alone
	counts    counts
	encodings encodings

	mu sync.Mutex
	// sessions are those that are not gone, by the app's key and their id.
	sessions map[string]*session
	closing  bool
	tasks    sync.WaitGroup // grows under mu
}

// New makes a handler for the apps of hub, a node of nodes, which are started after it.
// Close ends it. The error is that of Config.Validate.
func New(cfg Config, hub *edge.Hub, nodes *cluster.Nodes, log *slog.Logger) (*Handler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	h := &Handler{
		cfg: cfg.withDefaults(), hub: hub, sessions: make(map[string]*session), encodings: encodings{seed: maphash.MakeSeed()},
	}
	if !nodes.Single() {
		h.relay = newRelay(h, nodes, log)
	}
	return h, nil
}

// Close ends what is left when the hub and the server are closed, and returns when
// nothing of it is left.
func (h *Handler) Close() {
	h.mu.Lock()
	h.closing = true
	left := make([]*session, 0, len(h.sessions))
	for _, s := range h.sessions {
		left = append(left, s)
	}
	h.mu.Unlock()
	for _, s := range left {
		s.lose(socket.ErrShutdown)
	}
	h.tasks.Wait()
}

// Leave ends the answers that come from other nodes. It is called when the hub begins
// to close, which ends all others, and the server waits for them.
func (h *Handler) Leave() {
	if h.relay != nil {
		h.relay.leave()
	}
}

// run calls f on a goroutine that Close waits for.
func (h *Handler) run(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tasks.Go(f)
}

// Sessions is how many transport sessions there are, and how many may be.
func (h *Handler) Sessions() (open, limit int) { return int(h.counts.open.Load()), h.cfg.Sessions }

// Serves reports whether path (socket.RoutePath) is one of the fallback transports',
// see parsePath.
func (h *Handler) Serves(path string) bool {
	_, ok := parsePath(h.cfg.PathPrefix, path)
	return ok
}

// ServeHTTP implements http.Handler. It returns when the request has its answer, that
// of a stream with its session.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t, _ := parsePath(h.cfg.PathPrefix, socket.RoutePath(r.URL))
	allowed := cors.Allow(w, r, h.hub.Apps().ByKey(t.key))
	w.Header().Set("Cache-Control", "no-store, no-transform")
	switch {
	case r.Method == http.MethodOptions && allowed:
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodOptions:
		fail(w, http.StatusForbidden, "Origin not allowed")
	case t.op == opInfo:
		info(w, r)
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", "POST, OPTIONS")
		fail(w, http.StatusMethodNotAllowed, "The fallback transports of pusher-js are used with POST")
	case t.op == opSend:
		h.send(w, r, &t)
	default:
		h.receive(w, r, &t)
	}
}

// info is what SockJS asks for first.
func info(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD, OPTIONS")
		fail(w, http.StatusMethodNotAllowed, "The info is read with GET")
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	var entropy [4]byte
	_, _ = rand.Read(entropy[:]) // never fails
	_, _ = fmt.Fprintf(w, `{"websocket":false,"origins":["*:*"],"cookie_needed":false,"entropy":%d}`+"\n", binary.BigEndian.Uint32(entropy[:]))
}

// fail answers with a status and a text for whoever looks: the clients do not.
func fail(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") //nolint:gosec // text/plain, nosniff; the client may be gone
}

// maxIgnored is how much may come with a request that needs no body, in bytes.
const maxIgnored = 4 << 10

// receive answers a request that receives. The first one of a session begins it.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request, t *target) {
	// Unread, it would keep us from seeing that the client goes away.
	if _, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxIgnored)); err != nil {
		fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("A request that receives has no body, and this one is longer than %d bytes or broke off", maxIgnored))
		return
	}
	header := w.Header()
	header.Set("Content-Type", "application/javascript; charset=UTF-8") // SockJS'
	header.Set("X-Content-Type-Options", "nosniff")                     // without, browsers wait for more
	header.Set("X-Accel-Buffering", "no")                               // nginx
	if _, no := h.hub.Admit(t.key, socket.Secure(r), r.Header.Get("Origin")); no != nil {
		refuse(w, no)
		return
	}
	s, no := h.sessionOf(w, r, t)
	switch {
	case no != nil:
		refuse(w, no)
	case s != nil:
		o := newResponse(w, t.op == opStream)
		// The client is told by the end of the answer, and the session waits for it.
		_ = s.serve(r.Context(), newReceiver(o, !o.stream, r))
	}
}

// refuse answers a client that gets no session, so that it knows whether to come back:
// the error first, as it would be behind an upgrade (PROTOCOL §2.1).
func refuse(w http.ResponseWriter, no *pusher.Error) {
	if no.Code == pusher.CodeOverCapacity {
		// For whoever is between: the clients look at the code.
		w.Header().Set("Retry-After", "1")
	}
	text := pusher.AppendMessage([]byte("o{}\na["), pusher.AppendError(nil, no, ""))
	text = pusher.AppendClose(append(text, "]\n"...), no.Code, no.Message)
	_, _ = w.Write(append(text, '\n')) //nolint:gosec // JSON, of a type that no browser shows; the client may be gone
}

// sessionOf finds the session of a request that receives, or begins it. If another
// node has it, it relays its answer and returns neither.
func (h *Handler) sessionOf(w http.ResponseWriter, r *http.Request, t *target) (*session, *pusher.Error) {
	id := sessionKey(t)
	if s := h.find(id); s != nil {
		return s, nil
	}
	if h.relay != nil && h.relay.receive(w, r, id, t.op == opPoll) {
		return nil, nil
	}
	if reason := socket.Overrun(r); reason != "" {
		return nil, overCapacity(reason)
	}
	if reason := socket.Refusal(r); reason != "" {
		return nil, pusher.Errorf(pusher.CodeOverCapacity, "%s", reason)
	}
	return h.begin(r, t, id)
}

// sessionKey is what a session is known by on all nodes.
func sessionKey(t *target) string { return t.key + "/" + t.id }

func (h *Handler) find(id string) *session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[id]
}

// begin begins a session, or returns one that came in between.
func (h *Handler) begin(r *http.Request, t *target, id string) (*session, *pusher.Error) {
	s := newSession(h, id, r)
	if no := h.counts.enter(&h.cfg, t.key, s.address); no != nil {
		return nil, no
	}
	other, no := h.add(s)
	if other != nil || no != nil {
		h.counts.leave(s.address)
		return other, no
	}
	s.open(r, t)
	return s, nil
}

// add makes a session known, unless there is one of its id.
func (h *Handler) add(s *session) (other *session, no *pusher.Error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing {
		return nil, pusher.Errorf(pusher.CodeReconnect, "The server is shutting down, reconnect")
	}
	if other = h.sessions[s.id]; other == nil {
		h.sessions[s.id] = s
	}
	return other, nil
}

// remove forgets a session, and tells the hub that it is gone.
func (h *Handler) remove(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sessions, s.id)
	h.counts.leave(s.address)
	h.tasks.Go(s.end)
}

// send answers a request that brings messages.
func (h *Handler) send(w http.ResponseWriter, r *http.Request, t *target) {
	if _, no := h.hub.Admit(t.key, socket.Secure(r), r.Header.Get("Origin")); no != nil {
		status := http.StatusForbidden
		if no.Code == pusher.CodeUnknownApp {
			status = http.StatusNotFound
		}
		fail(w, status, no.Message)
		return
	}
	id := sessionKey(t)
	s := h.find(id)
	if s == nil && h.relay != nil && h.relay.send(w, r, id) {
		return
	}
	if s == nil {
		fail(w, http.StatusNotFound, "There is no such session, it may be over")
		return
	}
	answerSend(w, s.receiveBody(w, r), &h.cfg)
}

// answerSend answers a request that brought messages, of which err is what was wrong.
func answerSend(w http.ResponseWriter, err error, cfg *Config) {
	switch {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, errTooLarge):
		fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("A message may have %d bytes (max_message_bytes). The session is closed", cfg.MaxMessageBytes))
	case errors.Is(err, socket.ErrClosed):
		fail(w, http.StatusNotFound, "The session is over")
	default:
		fail(w, http.StatusBadRequest, "Invalid body: "+err.Error())
	}
}
