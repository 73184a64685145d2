package session

import (
	"slices"
	"time"

	"reecho/replay"
)

const (
	// fewSockets is how many of a client's socket ids are remembered in any case.
	fewSockets = 8
	// maxSockets is how many are remembered at most.
	maxSockets = 128
	// lateEvents is how long after a connection ended events may still be stored
	// that are not for it: they were on their way.
	lateEvents = time.Minute
)

// socket is a socket id that the client had.
type socket struct {
	id    string
	ended time.Time // zero: it is not known to have ended
}

// enterLocked adds the socket id of a connection, and forgets those that are not
// needed any more: what was not for them is before every mark.
func (s *session) enterLocked(id string) {
	s.sockets = append(s.sockets, socket{id: id})
	var since time.Time // the oldest confirmation
	for _, m := range s.marks {
		if m.gap == "" && (since.IsZero() || m.confirmed.Before(since)) {
			since = m.confirmed
		}
	}
	older := len(s.sockets) - fewSockets
	for i := 0; i < older; {
		if k := s.sockets[i]; k.ended.IsZero() || !since.IsZero() && !since.After(k.ended.Add(lateEvents)) {
			i++
			continue
		}
		s.sockets = slices.Delete(s.sockets, i, i+1)
		older--
	}
	if excess := len(s.sockets) - maxSockets; excess > 0 {
		s.forgetSocketsLocked(excess)
	}
}

// forgetSocketsLocked forgets the oldest socket ids though there are places before
// what was not for them: what is behind those places cannot be sent any more.
func (s *session) forgetSocketsLocked(n int) {
	last := s.sockets[n-1].ended
	s.sockets = slices.Delete(s.sockets, 0, n)
	for name, m := range s.marks {
		if m.gap == "" && !m.confirmed.After(last.Add(lateEvents)) {
			m.gap = replay.OverLimit
			s.setLocked(name, m).dirty = true
		}
	}
}

// endLocked notes that the connection with a socket id is gone.
func (s *session) endLocked(id string, now time.Time) {
	for i := range s.sockets {
		if s.sockets[i].id == id && s.sockets[i].ended.IsZero() {
			s.sockets[i].ended = now
		}
	}
}

// earlier are the socket ids the client had, that of its connection included.
func (s *session) earlier() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, len(s.sockets))
	for i, k := range s.sockets {
		ids[i] = k.id
	}
	return ids
}
