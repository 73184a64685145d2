package sse

import (
	"net/http"
	"time"

	"reecho/edge"
	"reecho/edge/app"
	"reecho/edge/pusher"
	"reecho/edge/socket"
	"reecho/replay"
)

// request is a request for an event stream, checked.
type request struct {
	auth     *auth
	channels []pusher.Subscribe
	cursor   *cursor
	resumed  bool // the client said what it has
	poll     bool
	// cursors: the client wants to hear of the cursor when no event brings it,
	// so that it can go on after an answer that ends its EventSource.
	cursors bool
}

// newRequest reads a request. idPath is where its client gets socket ids. The
// error is a *refusal.
func newRequest(t *edge.Tenant, r *http.Request, idPath string) (*request, error) {
	q, err := readQuery(r)
	if err != nil {
		return nil, err
	}
	s := &request{poll: q.values[paramPoll] == "1", cursors: q.values[paramCursor] == "1"}
	if s.channels, err = q.subscriptions(t.App); err != nil {
		return nil, err
	}
	if s.auth, err = authorize(t, idPath, s.channels, q); err != nil {
		return nil, err
	}
	history, err := q.history()
	if err != nil {
		return nil, err
	}
	return s, s.resume(t.App, q.lastID, history)
}

// signin is who signed in, and the user_data that says so.
func (s *request) signin() (who pusher.User, userData string) {
	who = s.auth.user
	if s.poll {
		// Told how others are, each poll would have its answer at once.
		who.Watchlist = nil
	}
	return who, s.auth.userData
}

// confirm makes what a stream is told of its subscriptions (edge.Confirm): where
// it stands, for the writer, and what came of a reconnect. Each poll is one: told
// of that, a client would ask without a pause.
func (s *request) confirm(channel string, o pusher.Outcome, returning bool) [][]byte {
	frames := [][]byte{place(o.Position).frame()}
	if returning && (!s.poll || o.Reason != "") {
		frames = append(frames, socket.Frame(pusher.AppendResumed(nil, channel, o.Events, o.Reason)))
	}
	return frames
}

// resume sets what of each channel the client has: what it says, or history.
func (s *request) resume(a *app.App, lastID string, history pusher.Replay) error {
	if longest := maxCursor(a.Limits.SSEChannels); len(lastID) > longest {
		return refuse(http.StatusBadRequest, "Last-Event-ID is %d bytes, limit %d: it is none that this server gave", len(lastID), longest)
	}
	tags := make(map[string]bool, len(s.channels))
	for i := range s.channels {
		tags[replay.ChannelTag(a.ID, s.channels[i].Channel)] = true
	}
	now := time.Now()
	s.resumed, s.cursor = lastID != "", parseCursor(lastID, tags)
	if len(s.cursor.positions) == 0 {
		s.cursor.time = now
	}
	for i := range s.channels {
		s.channels[i].Replay = s.replayOf(replay.ChannelTag(a.ID, s.channels[i].Channel), history, now)
	}
	return nil
}

// replayOf is what is asked of the channel with a tag.
func (s *request) replayOf(tag string, history pusher.Replay, now time.Time) *pusher.Replay {
	if position, known := s.cursor.positions[tag]; known {
		return &pusher.Replay{After: position, Seen: s.cursor.age(now), Except: history.Except}
	}
	if s.resumed && s.cursor.empty {
		// Damaged, or another server's: what it stood for is not known.
		return &pusher.Replay{After: "?", Seen: -1}
	}
	return &history
}
