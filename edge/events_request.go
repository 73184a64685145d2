package edge

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"reecho/edge/pusher"
	"reecho/replay"
)

// streamRequest is a request for an event stream, checked.
type streamRequest struct {
	tenant *tenant
	id     pusher.SocketID
	// expires is when the id ends, and with it the stream; zero if nothing was
	// authorised for it.
	expires  time.Time
	user     *streamUser // nil: nobody signed in
	private  bool        // a channel was authorised
	channels []pusher.Subscribe
	cursor   *cursor
	resumed  bool // the client said what it has
	poll     bool
	// cursors: the client wants to hear of the cursor when no event brings it,
	// so that it can go on after an answer that ends its EventSource.
	cursors bool
}

// streamQuery is what a request says, in its query and its headers.
type streamQuery struct {
	channels []string
	auth     map[string]string // by channel
	except   []string          // socket ids that the client had before
	lastID   string            // Last-Event-ID
	values   map[string]string // parameters that may come once
}

// Parameters that may come once.
const (
	paramSocketID = "socket_id"
	paramLast     = "last"
	paramSince    = "since"
	paramPoll     = "poll"
	paramCursor   = "cursor"
	paramUserAuth = "user_auth"
	paramUserData = "user_data"
)

func (h *Hub) parseStream(a *tenant, r *http.Request) (*streamRequest, error) {
	query, err := readStreamQuery(r)
	if err != nil {
		return nil, err
	}
	s := &streamRequest{tenant: a, poll: query.values[paramPoll] == "1", cursors: query.values[paramCursor] == "1"}
	if err := s.nameChannels(query); err != nil {
		return nil, err
	}
	if err := s.authorize(h.streamIDPath(r), query); err != nil {
		return nil, err
	}
	history, err := streamHistory(query.values)
	if err != nil {
		return nil, err
	}
	history.Except = query.except
	return s, s.resume(query.lastID, history)
}

// readStreamQuery takes the parameters in their order: of several names for the
// last event id, polyfills append the one that counts. Others, which polyfills
// add against caches, mean nothing.
func readStreamQuery(r *http.Request) (*streamQuery, error) {
	q := &streamQuery{auth: make(map[string]string), values: make(map[string]string)}
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		key, value, _ := strings.Cut(pair, "=")
		key, keyErr := url.QueryUnescape(key)
		value, valueErr := url.QueryUnescape(value)
		if keyErr != nil || valueErr != nil || strings.Contains(pair, ";") {
			return nil, streamErrorf(http.StatusBadRequest, "The query string is malformed")
		}
		if err := q.add(key, value); err != nil {
			return nil, err
		}
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		q.lastID = last
	}
	if err := q.addUser(r.Header); err != nil {
		return nil, err
	}
	return q, q.addAuth(r.Header)
}

func (q *streamQuery) add(key, value string) error {
	switch key {
	case "channel":
		q.channels = append(q.channels, value)
		return nil
	case "except":
		return q.addExcept(value)
	case paramSocketID, paramLast, paramSince, paramPoll, paramCursor, paramUserAuth, paramUserData:
		return addOnce(q.values, key, key, value)
	}
	if channel, ok := strings.CutPrefix(key, "auth["); ok && strings.HasSuffix(channel, "]") {
		return addOnce(q.auth, strings.TrimSuffix(channel, "]"), key, value)
	}
	if value != "" && isLastEventID(key) {
		q.lastID = value
	}
	return nil
}

// addExcept adds an id that the client had before: what was not for it then is
// not for it now.
func (q *streamQuery) addExcept(id string) error {
	if len(q.except) == pusher.MaxExcept {
		return streamErrorf(http.StatusBadRequest, "except names more than %d socket ids", pusher.MaxExcept)
	}
	if _, _, err := pusher.ParseSocketID(id); err != nil {
		return streamErrorf(http.StatusBadRequest, "except: %v", err)
	}
	q.except = append(q.except, id)
	return nil
}

func addOnce(values map[string]string, at, key, value string) error {
	if before, twice := values[at]; twice && before != value {
		return streamErrorf(http.StatusBadRequest, "Parameter %s is given twice, with different values", pusher.Cut(key))
	}
	values[at] = value
	return nil
}

// isLastEventID knows the names that polyfills give the parameter:
// lastEventId, lastEventID, last_event_id, Last-Event-ID.
func isLastEventID(key string) bool {
	const longest = len("last-event-id")
	return len(key) <= longest && strings.EqualFold(strings.NewReplacer("-", "", "_", "").Replace(key), "lasteventid")
}

// addAuth adds the pairs of the header.
func (q *streamQuery) addAuth(header http.Header) error {
	fields := strings.Fields(strings.Join(header.Values(headerStreamAuth), " "))
	if len(fields)%2 != 0 {
		return streamErrorf(http.StatusBadRequest, "%s should hold pairs: a channel and its auth string, with blanks between", headerStreamAuth)
	}
	for i := 0; i < len(fields); i += 2 {
		// A proxy may have joined two headers with a comma.
		q.auth[fields[i]] = strings.TrimSuffix(fields[i+1], ",")
	}
	return nil
}

// nameChannels checks the names before anything else is done with them.
func (s *streamRequest) nameChannels(query *streamQuery) error {
	limits := &s.tenant.Limits
	limit := limits.SSEChannels
	if n := limits.ChannelsPerConnection; n > 0 {
		limit = min(limit, n)
	}
	if n := len(query.channels); n == 0 || n > limit {
		return streamErrorf(http.StatusBadRequest, "Name 1 to %d channels: ?channel=a&channel=b", limit)
	}
	seen := make(map[string]bool, len(query.channels))
	for _, name := range query.channels {
		if err := pusher.CheckChannel(name, limits.ChannelNameLength); err != nil {
			return streamErrorf(http.StatusBadRequest, "Invalid channel name: %v", err)
		}
		if pusher.KindOf(name).Has(pusher.Presence) {
			return streamErrorf(http.StatusBadRequest, "Channel %s needs a WebSocket connection: an event stream is no member of a channel", name)
		}
		if seen[name] && !s.tenant.LenientSubscribe {
			return streamErrorf(http.StatusBadRequest, "Channel %s is named twice", name)
		}
		if !seen[name] {
			s.channels = append(s.channels, pusher.Subscribe{Channel: name, Auth: query.auth[name]})
		}
		seen[name] = true
	}
	return nil
}

// resume sets what of each channel the client has: what it says, or history.
func (s *streamRequest) resume(lastID string, history pusher.Replay) error {
	if longest := maxCursor(s.tenant.Limits.SSEChannels); len(lastID) > longest {
		return streamErrorf(http.StatusBadRequest, "Last-Event-ID is %d bytes, limit %d: it is none that this server gave", len(lastID), longest)
	}
	tags := make(map[string]bool, len(s.channels))
	for i := range s.channels {
		tags[replay.ChannelTag(s.tenant.ID, s.channels[i].Channel)] = true
	}
	now := time.Now()
	s.resumed, s.cursor = lastID != "", parseCursor(lastID, tags)
	if len(s.cursor.positions) == 0 {
		s.cursor.time = now
	}
	for i := range s.channels {
		s.channels[i].Replay = s.replayOf(s.channels[i].Channel, history, now)
	}
	return nil
}

func (s *streamRequest) replayOf(name string, history pusher.Replay, now time.Time) *pusher.Replay {
	tag := replay.ChannelTag(s.tenant.ID, name)
	if position, known := s.cursor.positions[tag]; known {
		return &pusher.Replay{After: position, Seen: s.cursor.age(now), Except: history.Except}
	}
	if s.resumed && s.cursor.empty {
		// Damaged, or another server's: what it stood for is not known.
		return &pusher.Replay{After: "?", Seen: -1}
	}
	return &history
}

// streamHistory is what the first request may ask for.
func streamHistory(values map[string]string) (pusher.Replay, error) {
	ask := pusher.Replay{Seen: -1}
	var err error
	if last := values[paramLast]; last != "" {
		if ask.Last, err = strconv.Atoi(last); err != nil || ask.Last < 1 {
			return ask, streamErrorf(http.StatusBadRequest, "last is not a number of events, 1 or more")
		}
	}
	if since := values[paramSince]; since != "" {
		if ask.Since, err = pusher.ParseTime(paramSince, since); err != nil {
			return ask, streamErrorf(http.StatusBadRequest, "%v", err)
		}
		if ask.Last > 0 {
			return ask, streamErrorf(http.StatusBadRequest, "Give one of last and since")
		}
	}
	return ask, nil
}
