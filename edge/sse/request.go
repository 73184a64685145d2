package sse

import (
	"cmp"
	"net/http"
	"slices"
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
	owed    map[string]owed // by channel, where something is
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
// of that, a client would ask without a pause. The place behind a gap goes out
// with the word of it, in one block: who has the one has heard the other.
func (s *request) confirm(channel string, o pusher.Outcome, returning bool) [][]byte {
	owed := s.owed[channel]
	if o.Reason != "" && (returning || owed != owedNothing) {
		gap := pusher.AppendResumed(nil, channel, o.Events, o.Reason)
		return [][]byte{socket.Frame(pusher.AppendPositioned(nil, gap, []byte(o.Position)))}
	}
	frames := [][]byte{place(o.Position).frame()}
	if (returning || owed == owedAgain) && !s.poll {
		frames = append(frames, socket.Frame(pusher.AppendResumed(nil, channel, o.Events, "")))
	}
	return frames
}

// owed is whether what was stored since a time belongs to a client that has no
// position of a channel.
type owed uint8

const (
	owedNothing owed = iota
	owedNow          // since this request: an id may go out before its answer
	owedAgain        // since a request before, which named the channel and was cut before its answer
)

// resume sets what of each channel the client has: what it says, or history.
func (s *request) resume(a *app.App, lastID string, history pusher.Replay) error {
	limit := a.Limits.SSEChannels
	if longest := maxCursor(limit); len(lastID) > longest {
		return refuse(http.StatusBadRequest, "Last-Event-ID is %d bytes, limit %d: it is none that this server gave", len(lastID), longest)
	}
	tags := make([]string, len(s.channels))
	for i, in := range s.channels {
		if tags[i] = replay.ChannelTag(a.ID, in.Channel); slices.Contains(tags[:i], tags[i]) {
			return refuse(http.StatusBadRequest, "Channel %s cannot be read with the others in one stream: its positions look like those of one of them", in.Channel)
		}
	}
	now := time.Now()
	before, lost := before(lastID, tags, limit, now)
	s.resumed, s.cursor, s.owed = lastID != "", newCursor(before.time), make(map[string]owed)
	for i, tag := range tags {
		st, named := before.of(tag)
		if !named {
			st = standing{tag: tag, since: now}
		}
		s.cursor.add(st)
		in := &s.channels[i]
		switch {
		case st.position != "":
			in.Replay = &pusher.Replay{After: st.position, Seen: before.age(now), Except: history.Except}
		case st.since.IsZero():
			in.Replay = &pusher.Replay{After: lost, Seen: -1, Except: history.Except}
		default:
			in.Replay = s.begin(in.Channel, st.since, named, history)
		}
	}
	return nil
}

// damaged is asked for in place of a position that is not known any more.
const damaged = "?"

// before is what the client brings of the channels with these tags. An id that
// cannot be understood whole, or is of none of them, stands for something that is
// not known: a gap is owed on each, for which lost is what to ask for.
func before(lastID string, tags []string, limit int, now time.Time) (c *cursor, lost string) {
	if lastID == "" {
		return newCursor(now), damaged
	}
	c, ok := parseCursor(lastID, limit)
	if lost = damaged; ok {
		if slices.ContainsFunc(tags, func(tag string) bool { _, named := c.of(tag); return named }) {
			return c, damaged
		}
		lost = cmp.Or(c.all[0].position, damaged)
	}
	c = newCursor(now)
	for _, tag := range tags {
		c.add(standing{tag: tag})
	}
	return c, lost
}

// begin is what is asked of a channel of which the client has no position:
// history, and what is owed to it. named says that an id named the channel, so
// that its request may have been told of others what came at the same time.
func (s *request) begin(channel string, since time.Time, named bool, history pusher.Replay) *pusher.Replay {
	switch {
	case named:
		s.owed[channel] = owedAgain
	case history.Last > 0 && len(s.channels) > 1:
		// Other channels may be answered long before this one is.
		s.owed[channel] = owedNow
	default:
		return &history
	}
	if history.Since.IsZero() || history.Since.After(since) {
		history.Since = since
	}
	return &history
}

// inOrder are the channels in the order in which they are joined: first those of
// which nothing is asked, so many of them. Nothing is written before they are
// joined: what is stored from the first id on belongs to the client, and of these
// it is nowhere looked for.
func (s *request) inOrder() (all []pusher.Subscribe, beginning int) {
	asks := func(in pusher.Subscribe) bool {
		return in.Replay.After != "" || in.Replay.Last > 0 || !in.Replay.Since.IsZero()
	}
	for _, in := range s.channels {
		if !asks(in) {
			all = append(all, in)
		}
	}
	beginning = len(all)
	for _, in := range s.channels {
		if asks(in) {
			all = append(all, in)
		}
	}
	return all, beginning
}
