package session

import (
	"context"
	"time"

	"reecho/replay"
)

// Hold is one connection's hold on a session, made by Store.Claim. What it tells
// counts while no newer connection has claimed the session. It is safe for
// concurrent use.
type Hold struct {
	store    *Store
	session  *session
	opened   time.Time
	takeover func()
}

// Load asks the records for the session, once; who waits for another's attempt
// that failed tries itself. It must have returned nil before Request. The error is
// that the records cannot be read, or are not what was written, or the context's.
func (h *Hold) Load(ctx context.Context) error {
	return h.session.load(ctx, h.store)
}

// Loaded reports whether Load would return nil at once.
func (h *Hold) Loaded() bool { return h.session.loading.Done() }

// AckInterval is the pause between two questions to the client of what has
// arrived.
func (h *Hold) AckInterval() time.Duration { return h.store.cfg.AckInterval }

// Refresh is how old the newest confirmation may become while the client is
// there: a claim based on an older one would be in doubt.
func (h *Hold) Refresh() time.Duration { return h.store.cfg.refresh() }

// Request is what a subscription of the connection asks for: what was missed
// since the client was here, with returning true; or nothing, for a channel that
// is new to the session, whose place is stored before the client joins.
func (h *Hold) Request(channel string, line replay.Line) (r replay.Request, returning bool) {
	m, known := h.session.find(channel, time.Since(h.opened) <= returnWindow)
	// Its own id too: what is stored before it has joined is sent again.
	r.Except = h.session.earlier()
	if !known {
		r.Begin = func(ctx context.Context, at replay.Position) error { return h.begin(ctx, channel, at) }
		return r, false
	}
	r.Lost = m.gap
	if r.Lost == "" {
		r.Claim.Sequence, r.Lost = line.Check(m.position)
	}
	if r.Lost == "" {
		r.Want, r.Claim.Confirmed = replay.WantMissed, m.confirmed
	}
	return r, true
}

// begin stores where the session begins to follow a channel: the client must not
// be told that it joined before, else a crash would lose what came after it.
func (h *Hold) begin(ctx context.Context, channel string, at replay.Position) error {
	if !h.session.start(h, channel, at, "") {
		return nil
	}
	return h.store.saveNow(ctx, h.session)
}

// Joined says that the client has joined a channel after an answer whose reason
// is given, and gets what is stored behind at. It moves the mark where the answer
// was not the events since the mark: behind a gap, or where nothing is retained.
// The client is told of the gap again until it has confirmed something behind it:
// a connection may break within the answer.
func (h *Hold) Joined(channel string, at replay.Position, reason replay.Reason, retained bool) {
	if reason == "" && retained {
		return
	}
	h.session.start(h, channel, at, reason)
	h.store.saveSoon(h.session)
}

// Behind reports whether the client is not known to have everything of a channel
// up to a position that was sent to it. It is not behind on a channel that the
// session does not follow.
func (h *Hold) Behind(channel string, at replay.Position) bool {
	return h.session.behind(channel, at)
}

// Reached is a position that was sent to a client.
type Reached struct {
	Channel  string
	Position replay.Position
}

// Confirm says that all of reached had arrived at a time. What moved is saved,
// and what was saved so long ago that a claim based on it would soon be in doubt.
func (h *Hold) Confirm(reached []Reached, at time.Time) {
	if h.session.confirm(h, reached, at) {
		h.store.saveSoon(h.session)
	}
}

// Forget drops a channel that the client unsubscribed from.
func (h *Hold) Forget(channel string) {
	h.session.forget(h, channel)
	// Else the records have more than is known here, and did not have this.
	if h.Loaded() {
		h.store.saveSoon(h.session)
	}
}

// Release ends the hold: the connection is gone.
func (h *Hold) Release(now time.Time) {
	switch {
	case !h.session.release(h, now):
	case h.Loaded():
		h.store.saveSoon(h.session)
	default:
		// What the records have is still right, and more than is known here.
		h.store.discard(h.session)
	}
}
