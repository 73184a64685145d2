package session

import (
	"slices"
	"time"

	"reecho/replay"
)

// askTime is how long the client of a session's owner has to answer when a newer
// connection claims the session: a page that lives answers within it, on a slow
// link too, and a page that lost its connection does not wait longer to go on.
const askTime = 3 * time.Second

// claim makes h the owner, or lets it wait until the one there is gone or has
// answered. It returns who is to be asked.
func (s *session) claim(h *Hold) (ask []*Hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner == nil {
		s.adoptLocked(h)
		return nil
	}
	// Those that wait too: one of them is the owner if that is gone.
	ask = append(slices.Clone(s.claimants), s.owner)
	s.claimants = append(s.claimants, h)
	return ask
}

// adoptLocked makes h the owner.
func (s *session) adoptLocked(h *Hold) {
	if !s.dropped.IsZero() && time.Since(s.dropped) > h.store.cfg.Time {
		s.voidLocked(replay.SessionExpired)
	}
	if s.doubled {
		s.mistrustLocked()
	}
	if h.store.others != nil && !s.stored && len(s.marks) == 0 && s.loading.Done() {
		// There is nothing by which it would be noticed that another node has had it.
		s.loading.Undo()
	}
	s.owner, s.dropped = h, time.Time{}
	s.crowded, s.main = s.crowded || s.crowding, true
	s.enterLocked(h.socket)
	close(h.decided)
}

// mistrustLocked makes all marks say that they are of another page, perhaps. So are
// the socket ids: what the other page caused is news to this one, and if it was this
// one's it comes again, which is less than to lose it.
func (s *session) mistrustLocked() {
	s.lost = true
	s.sockets = slices.DeleteFunc(s.sockets, func(k socket) bool { return !k.ended.IsZero() })
	s.voidLocked(replay.SessionExpired)
}

// answer notes that the client of h has answered.
func (s *session) answer(h *Hold, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.answered = now
}

// settle decides on those that wait, as far as that can be told now. It returns
// the owners that are taken for gone, and whether something was decided. An owner that has answered since a connection
// came is a page of its own, and stays.
func (s *session) settle(now time.Time) (gone []*Hold, decided bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.claimants) > 0 {
		h := s.claimants[0]
		switch {
		case s.owner == nil:
			s.adoptLocked(h)
		case !s.owner.answered.Before(h.opened):
			h.apart, s.doubled, s.main = true, true, true
			close(h.decided)
		case now.Sub(h.opened) >= askTime:
			s.endLocked(s.owner.socket, now)
			gone = append(gone, s.owner)
			s.owner = nil
			continue
		default:
			return gone, decided
		}
		s.claimants, decided = s.claimants[1:], true
	}
	return gone, decided
}

// part gives h, if it is apart, a session of its own, which says of all that this
// one has that it is lost. It reports whether it did.
func (s *session) part(h *Hold) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !h.apart {
		return false
	}
	own := newSession(s.key, s.app)
	own.private, own.lost, own.owner = true, true, h
	for name, m := range s.marks {
		own.setLocked(name, mark{position: m.position, confirmed: m.confirmed, gap: replay.SessionExpired})
	}
	own.enterLocked(h.socket)
	h.own = own
	return true
}

// isApart reports whether another page has the session.
func (s *session) isApart(h *Hold) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return h.apart
}

// leave leaves the session to a page that is connected to another node. It reports
// whether h was the owner.
func (s *session) leave(h *Hold) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != h {
		return false
	}
	h.apart, s.owner = true, nil
	s.sockets = slices.DeleteFunc(s.sockets, func(k socket) bool { return k.id == h.socket })
	return true
}

// open makes h ready, unless the session has to be loaded first.
func (s *session) open(h *Hold) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner == h && !s.loading.Done() {
		return false
	}
	h.ready.Store(true)
	return true
}

// of is the session that h goes by: this one, or its own.
func (s *session) of(h *Hold) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.own != nil {
		return h.own
	}
	return s
}

// release reports whether by was the owner, which it is no more.
func (s *session) release(by *Hold, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.claimants, by); i >= 0 {
		s.claimants = slices.Delete(s.claimants, i, i+1)
	}
	if s.owner != by {
		return false
	}
	s.endLocked(by.socket, now)
	s.owner, s.dropped, s.main = nil, now, true
	return true
}
