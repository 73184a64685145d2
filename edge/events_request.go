package edge

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"reecho/edge/pusher"
	"reecho/replay"
)

// headerStreamAuth is the header for authorisation beside the query: pairs of a
// channel and its auth string.
const headerStreamAuth = "X-Reecho-Auth"

// streamRequest is a request for an event stream, checked.
type streamRequest struct {
	tenant   *tenant
	id       pusher.SocketID
	channels []pusher.Subscribe
	cursor   *cursor
	resumed  bool // the client said what it has
	poll     bool
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
		if ask.Since, err = time.Parse(time.RFC3339, since); err != nil {
			return ask, streamErrorf(http.StatusBadRequest, "since is not a time like 2026-01-31T20:00:00Z (RFC 3339)")
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
