package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"reecho/edge/pusher"
	"reecho/edge/socket"
	"reecho/replay"
)

const (
	// heartbeatPeriod is how often an idle event stream says something: proxies
	// close what is silent for a minute. It also renews the cursor's time.
	heartbeatPeriod = 15 * time.Second
	// streamPadding opens the buffers of proxies and old browsers that pass
	// nothing on before they have 2 KiB.
	streamPadding = 2 << 10
	// streamBuffer is how many bytes a stream keeps for what it writes next.
	streamBuffer = 4 << 10
	// retryDelay and pollDelay are what the client waits for, in ms, before it
	// comes back.
	retryDelay = 1000
	pollDelay  = 50
)

// headerStreamAuth is the header for authorisation beside the query: pairs of a
// channel and its auth string.
const headerStreamAuth = "X-Reecho-Auth"

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

// streamRequest is a request for an event stream, checked.
type streamRequest struct {
	tenant   *tenant
	id       pusher.SocketID
	channels []pusher.Subscribe
	cursor   *cursor
	resumed  bool // the client said what it has
	poll     bool
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

func (h *Hub) parseStream(a *tenant, r *http.Request) (*streamRequest, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, streamErrorf(http.StatusBadRequest, "The query string is malformed")
	}
	s := &streamRequest{tenant: a, id: pusher.NewSocketID(), poll: query.Get("poll") == "1"}
	if id := query.Get("socket_id"); id != "" {
		var ok bool
		if s.id, ok, err = pusher.ParseSocketID(id); err != nil || !ok {
			return nil, streamErrorf(http.StatusBadRequest, "Invalid socket_id: two numbers of up to 10 digits, like 1234.5678")
		}
	}
	last := r.Header.Get("Last-Event-ID")
	if last == "" {
		last = query.Get("last_event_id")
	}
	s.resumed = last != ""
	if s.cursor = parseCursor(last); len(s.cursor.positions) == 0 {
		s.cursor.time = time.Now()
	}
	history, err := streamHistory(query)
	if err != nil {
		return nil, err
	}
	auth, err := streamAuth(query, r.Header)
	if err != nil {
		return nil, err
	}
	names := query["channel"]
	if limit := a.Limits.SSEChannels; len(names) == 0 || len(names) > limit {
		return nil, streamErrorf(http.StatusBadRequest, "Name 1 to %d channels: ?channel=a&channel=b", limit)
	}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return nil, streamErrorf(http.StatusBadRequest, "Channel %s is named twice", cut(name))
		}
		in := pusher.Subscribe{Channel: name, Auth: auth[name]}
		if err := s.check(in); err != nil {
			return nil, err
		}
		in.Replay = s.replayOf(name, history)
		s.channels = append(s.channels, in)
	}
	return s, nil
}

// check tells whether the request may read a channel. It does so before the
// stream begins: a browser does not come back after a refusal.
func (s *streamRequest) check(in pusher.Subscribe) error {
	if err := pusher.CheckChannel(in.Channel, s.tenant.Limits.ChannelNameLength); err != nil {
		return streamErrorf(http.StatusBadRequest, "Invalid channel name: %v", err)
	}
	kind := pusher.KindOf(in.Channel)
	switch {
	case kind.Has(pusher.Presence), kind.Has(pusher.ServerToUser):
		return streamErrorf(http.StatusBadRequest, "Channel %s needs a WebSocket connection: an event stream is nobody in particular", in.Channel)
	case !kind.Has(pusher.Private):
		return nil
	}
	if refusal := pusher.CheckChannelAuth(s.tenant, s.id, in); refusal != nil {
		return streamErrorf(http.StatusUnauthorized, "%s", refusal.Message)
	}
	return nil
}

func (s *streamRequest) replayOf(name string, history pusher.Replay) *pusher.Replay {
	tag := replay.ChannelTag(s.tenant.ID, name)
	if position, known := s.cursor.positions[tag]; known {
		return &pusher.Replay{After: position, Seen: s.cursor.age(time.Now())}
	}
	if s.resumed && len(s.cursor.positions) == 0 {
		// Damaged, or another server's: what it stood for is not known.
		return &pusher.Replay{After: "?", Seen: -1}
	}
	return &history
}

// streamHistory is what the first request may ask for.
func streamHistory(query url.Values) (pusher.Replay, error) {
	ask := pusher.Replay{Seen: -1}
	var err error
	if last := query.Get("last"); last != "" {
		if ask.Last, err = strconv.Atoi(last); err != nil || ask.Last < 1 {
			return ask, streamErrorf(http.StatusBadRequest, "last is not a number of events, 1 or more")
		}
	}
	if since := query.Get("since"); since != "" {
		if ask.Since, err = pusher.ParseTime("since", since); err != nil {
			return ask, streamErrorf(http.StatusBadRequest, "%v", err)
		}
		if ask.Last > 0 {
			return ask, streamErrorf(http.StatusBadRequest, "Give one of last and since")
		}
	}
	return ask, nil
}

// streamAuth collects auth[channel]=… of the query and the pairs of the header.
func streamAuth(query url.Values, header http.Header) (map[string]string, error) {
	auth := make(map[string]string)
	for key, values := range query {
		if name, ok := strings.CutPrefix(key, "auth["); ok && strings.HasSuffix(name, "]") {
			auth[strings.TrimSuffix(name, "]")] = values[0]
		}
	}
	fields := strings.Fields(strings.Join(header.Values(headerStreamAuth), " "))
	if len(fields)%2 != 0 {
		return nil, streamErrorf(http.StatusBadRequest, "%s should hold pairs: a channel and its auth string, with blanks between", headerStreamAuth)
	}
	for i := 0; i < len(fields); i += 2 {
		// A proxy may have joined two headers with a comma.
		auth[fields[i]] = strings.TrimSuffix(fields[i+1], ",")
	}
	return auth, nil
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

// streamWriter turns a connection's frames into an event stream.
type streamWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	request *streamRequest
	cursor  *cursor
	buf     []byte
	settled bool // at the last beat
	sent    bool // an event, or at first a whole cursor: a poll has its answer
}

var errPolled = errors.New("a poll has its answer")

func (sw *streamWriter) run(ctx context.Context, conn *streamConn, subscribed <-chan struct{}) error {
	sw.open()
	heartbeat := time.NewTicker(heartbeatPeriod)
	defer heartbeat.Stop()
	if err := sw.flush(); err != nil {
		return err
	}
	for {
		select {
		case <-conn.wake:
		case <-subscribed:
			subscribed = nil
		case now := <-heartbeat.C:
			sw.beat(now, subscribed == nil && conn.Queued() == 0)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", socket.ErrLost, ctx.Err())
		}
		frames, closed := conn.take()
		for _, frame := range frames {
			sw.append(frame)
		}
		if err := sw.flush(); err != nil {
			return err
		}
		switch {
		case closed != nil:
			return closed
		case sw.request.poll && sw.sent && subscribed == nil && conn.Queued() == 0:
			return errPolled
		}
	}
}

// beat keeps the stream from being silent. settled says that nothing waits for
// the client now; if that was so at the beat before too, all it missed has been
// written, and the cursor may say that it was whole then.
func (sw *streamWriter) beat(now time.Time, settled bool) {
	if settled && sw.settled {
		sw.cursor.time = now
	}
	sw.settled, sw.sent = settled, true
	sw.buf = append(sw.buf, ":\n"...)
	sw.appendCursor()
}

func (sw *streamWriter) open() {
	header := sw.w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-cache, no-store, no-transform")
	header.Set("X-Accel-Buffering", "no") // nginx
	sw.w.WriteHeader(http.StatusOK)
	delay := retryDelay
	if sw.request.poll {
		delay = pollDelay
	} else {
		sw.buf = append(sw.buf, ':')
		sw.buf = append(sw.buf, bytes.Repeat([]byte{' '}, streamPadding)...)
		sw.buf = append(sw.buf, '\n')
	}
	sw.buf = append(sw.buf, "retry: "...)
	sw.buf = strconv.AppendInt(sw.buf, int64(delay), 10)
	sw.buf = append(sw.buf, "\n\n"...)
}

func (sw *streamWriter) flush() error {
	if len(sw.buf) == 0 {
		return nil
	}
	_ = sw.control.SetWriteDeadline(time.Now().Add(sw.timeout))
	_, err := sw.w.Write(sw.buf)
	if err == nil {
		err = sw.control.Flush()
	}
	if sw.buf = sw.buf[:0]; cap(sw.buf) > streamBuffer {
		sw.buf = nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", socket.ErrLost, err)
	}
	return nil
}

// append adds what a frame says to the stream and to the cursor.
func (sw *streamWriter) append(frame []byte) {
	text := socket.Payload(frame)
	if position, ok := succeededPosition(text); ok {
		// The client needs no confirmation, only where it stands.
		sw.cursor.advance(position)
		sw.appendCursor()
		sw.sent = sw.sent || !sw.request.resumed && len(sw.cursor.positions) == len(sw.request.channels)
		return
	}
	if sw.request.poll && pusher.IsResumed(text) {
		// Each poll is one. Told of it, a client would ask without a pause.
		return
	}
	text, position := pusher.CutPosition(text)
	sw.sent = true
	sw.buf = append(sw.buf, "data: "...)
	sw.buf = append(sw.buf, text...)
	if position != nil {
		sw.cursor.advance(string(position))
		sw.buf = append(sw.buf, '}')
	}
	sw.buf = append(sw.buf, '\n')
	sw.appendCursor()
}

// appendCursor ends a block of the stream with its id. A block without data is
// no event, but sets what the browser sends as Last-Event-ID.
func (sw *streamWriter) appendCursor() {
	sw.buf = append(sw.buf, "id: "...)
	sw.buf = sw.cursor.append(sw.buf)
	sw.buf = append(sw.buf, "\n\n"...)
}

// succeededPosition is the position in a confirmation of a subscription.
func succeededPosition(text []byte) (string, bool) {
	if !bytes.HasPrefix(text, []byte(`{"event":"pusher_internal:subscription_succeeded"`)) {
		return "", false
	}
	_, rest, _ := bytes.Cut(text, []byte(`\"position\":\"`))
	position, _, ok := bytes.Cut(rest, []byte(`\"`))
	return string(position), ok
}

// cursor is a place in several channels: the id of an event in a stream. On the
// wire it is 1~<time>~<position>~<position>…, the time in seconds, base 36.
type cursor struct {
	// time is when the client was last known to miss nothing.
	time      time.Time
	order     []string          // tags, as they came
	positions map[string]string // by the tag of the channel
}

const cursorVersion = "1"

// parseCursor reads a cursor; one that is ill-formed is empty.
func parseCursor(text string) *cursor {
	c := &cursor{positions: make(map[string]string)}
	parts := strings.Split(text, "~")
	if len(parts) < 2 || parts[0] != cursorVersion {
		return c
	}
	seconds, err := strconv.ParseInt(parts[1], 36, 64)
	if err != nil {
		return c
	}
	c.time = time.Unix(seconds, 0)
	for _, position := range parts[2:] {
		// It goes out again, in every id.
		if !strings.ContainsFunc(position, notOfPosition) {
			c.advance(position)
		}
	}
	return c
}

func notOfPosition(r rune) bool {
	return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-'
}

// advance sets the position of a channel.
func (c *cursor) advance(position string) {
	key := replay.PositionTag(position)
	if _, known := c.positions[key]; !known {
		c.order = append(c.order, key)
	}
	c.positions[key] = position
}

// age is how long ago the cursor was made, negative if that cannot be.
func (c *cursor) age(now time.Time) time.Duration {
	return now.Sub(c.time)
}

func (c *cursor) append(dst []byte) []byte {
	dst = append(dst, cursorVersion+"~"...)
	dst = strconv.AppendInt(dst, c.time.Unix(), 36)
	for _, key := range c.order {
		dst = append(append(dst, '~'), c.positions[key]...)
	}
	return dst
}
