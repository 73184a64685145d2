package session

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"reecho/broker"
	"reecho/replay"
)

// Hold is one connection's hold on a session, made by Store.Claim. What it tells
// counts while it owns the session. A hold that had to leave the session to another
// page has one of its own, which ends with it. It is safe for concurrent use.
type Hold struct {
	store   *Store
	session *session
	conn    Connection
	socket  string
	opened  time.Time
	ready   atomic.Bool   // Load has returned nil
	decided chan struct{} // closed when the hold owns the session, or is apart

	// Guarded by session.mu.
	answered time.Time // when its client answered for the last time
	apart    bool      // another page has the session
	own      *session  // what it has instead
	// seen are the channels that the connection has had, if the session has lost
	// some: those are none of them.
	seen map[string]struct{}
}

// Connection is what a Hold asks of its connection. The methods are called without
// a lock and must not block.
type Connection interface {
	// Ask has the client asked whether it is there: Hold.Answered says that it
	// is.
	Ask()
	// TakenOver says that a newer connection has the session, on this node or another:
	// the client has lost this one without our knowing.
	TakenOver()
}

// Load waits until it is known whose the session is, asks the records for it, once,
// and stores that this connection is there; who waits for another's attempt that
// failed tries itself. It must have returned nil before Request. The error is
// that the records cannot be read, or are not what was written, or the context's.
func (h *Hold) Load(ctx context.Context) error {
	if h.Loaded() {
		return nil
	}
	if err := h.wait(ctx); err != nil {
		return err
	}
	var err error
	for range claimTries {
		if err = h.take(ctx); !errors.Is(err, broker.ErrConflict) {
			break
		}
	}
	return err
}

// take tries to become the owner of the session, or what it is else. It is a
// broker.ErrConflict if another node has written the session meanwhile.
func (h *Hold) take(ctx context.Context) error {
	s, st := h.session, h.store
	if !s.isApart(h) {
		err := s.load(ctx, st)
		if err != nil && !errors.Is(err, errApart) {
			return err
		}
		if err != nil && s.leave(h) {
			st.settle(s)
			st.discard(s)
		}
	}
	if !s.part(h) && s.isKept(st.others != nil) {
		// An event that is not for this connection may come at once, and is not
		// for the client after a crash either. What is known here is right also
		// if it cannot be stored, and the writer tries again.
		err := st.saveNow(ctx, s)
		if errors.Is(err, broker.ErrConflict) || err != nil && ctx.Err() != nil {
			return err
		}
	}
	if !s.open(h) {
		return fmt.Errorf("load a session: %w", broker.ErrConflict)
	}
	st.tellFormer(ctx, s)
	return nil
}

// wait waits until it is known whose the session is.
func (h *Hold) wait(ctx context.Context) error {
	select {
	case <-h.decided:
		return nil
	default:
	}
	select {
	case <-h.decided:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the owner of a session: %w", ctx.Err())
	}
}

// Loaded reports whether Load would return nil at once.
func (h *Hold) Loaded() bool { return h.ready.Load() }

// Answered says that the client has answered what was sent after Connection.Ask.
func (h *Hold) Answered() {
	h.session.answer(h, time.Now())
	h.store.settle(h.session)
}

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
	s := h.mine()
	m, known := s.find(h, channel)
	// Its own id too: what is stored before it has joined is sent again.
	r.Except = s.earlier()
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
	s := h.mine()
	changed, mine := s.start(h, channel, at, "")
	if changed {
		h.store.remember(s)
		if err := h.store.saveNow(ctx, s); err != nil {
			s.unstart(h, channel, at)
			return err
		}
		mine = s.owns(h)
	}
	if !mine {
		// What it stores counts for nothing, so the client must not count on it.
		return errOvertaken
	}
	return nil
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
	s := h.mine()
	if changed, _ := s.start(h, channel, at, reason); changed {
		h.store.remember(s)
		h.store.saveSoon(s)
	}
}

// Behind reports whether the client is not known to have everything of a channel
// up to a position that was sent to it. It is not behind on a channel that the
// session does not follow.
func (h *Hold) Behind(channel string, at replay.Position) bool {
	return h.mine().behind(channel, at)
}

// Reached is a position that was sent to a client.
type Reached struct {
	Channel  string
	Position replay.Position
	// Partial: there was more by then, of which this says nothing.
	Partial bool
}

// Confirm says that all of reached had arrived at a time. What moved is saved,
// and what was saved so long ago that a claim based on it would soon be in doubt.
func (h *Hold) Confirm(reached []Reached, at time.Time) {
	if s := h.mine(); s.confirm(h, reached, at) {
		h.store.saveSoon(s)
	}
}

// Forget drops a channel that the client unsubscribed from.
func (h *Hold) Forget(channel string) {
	// If nothing is loaded the records have more than is known here, and did not
	// have this.
	if s := h.mine(); s.forget(h, channel) && s.loading.Done() {
		h.store.saveSoon(s)
	}
}

// Release ends the hold: the connection is gone.
func (h *Hold) Release(now time.Time) {
	s := h.session
	switch {
	case !s.release(h, now):
	case s.loading.Done() || h.store.ids.knows(s.key):
		h.store.remember(s)
		h.store.saveSoon(s)
	}
	h.store.settle(s)
	// Of an id that nobody knows there is nothing to be stored.
	h.store.discard(s)
}

// mine is the session that the connection goes by.
func (h *Hold) mine() *session { return h.session.of(h) }
