package session

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"reecho/broker/flight"
	"reecho/replay"
)

// session is what is known of one id.
type session struct {
	key, app string     // key is that in the records
	address  netip.Addr // guarded by Store.mu
	loading  flight.Once

	private bool // of a hold that is apart: it is not kept; never changes

	mu        sync.Mutex
	owner     *Hold   // nil while the client is away
	claimants []*Hold // newer connections that wait until the owner is gone; oldest first
	marks     map[string]mark
	// crowded: there were more channels than are kept, on an earlier
	// connection; crowding: on this one. lost: there were channels of which
	// nothing is known. doubled: two pages had it at once, and which of them
	// comes back is not known.
	crowded, crowding, lost, doubled bool

	sockets []socket  // oldest first
	dropped time.Time // zero while there is an owner

	// chunks are where the marks are stored; there is one at least. main: the
	// main record has to be written though its chunk has not.
	chunks []chunk
	main   bool

	// fence: another node that had the session may still write the chunks. They have to
	// be written once, behind the main record.
	fence bool
	// from is the run of a node that had the session, and is to be told; "" is nobody.
	from string
	life int // counts how often all was forgotten to be read again

	stored     bool   // there is a record, or will be
	remembered uint64 // where Store.ids has it, 0 for nowhere

	changed bool // there is something to be saved
	queued  bool // and a writer will do it
	delayed bool // and a timer runs
	saving  bool
	written time.Time      // when the newest save began
	turns   *rate.Limiter  // of saves that are waited for; nil until one is
	waiting []chan<- error // told of the next save that begins
}

// mark is how far a session has got on a channel.
type mark struct {
	position replay.Position
	// confirmed is when the client was last known to have everything up to it.
	confirmed time.Time
	// gap, if not "", is what the client has to be told: that it came back too
	// late, or of what it missed before position and is not known to have heard.
	gap replay.Reason
	// chunk is where it is stored.
	chunk int
}

// isBehind reports whether at is further than the mark. A position of another
// line is: the sequences of two lines say nothing of each other, and the line that
// the client is on is the newer one.
func (m *mark) isBehind(at replay.Position) bool {
	return m.position.Line != at.Line || m.position.Sequence < at.Sequence
}

func newSession(key, app string) *session {
	return &session{key: key, app: app, marks: make(map[string]mark), chunks: make([]chunk, 1)}
}

// find is the mark behind which a subscription goes on; if there is none, it
// begins now. A channel that is not known may be one of those that were lost,
// unless by has had it.
func (s *session) find(by *Hold, channel string) (m mark, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, known = s.marks[channel]
	if _, seen := by.seen[channel]; known || seen {
		return m, known
	}
	switch {
	case s.lost:
		return mark{gap: replay.SessionExpired}, true
	case s.crowded:
		return mark{gap: replay.OverLimit}, true
	}
	return m, false
}

// start sets the mark of a channel that the session begins to follow, behind a
// gap if there is one, if by is the owner. It reports whether there is something to be
// stored.
func (s *session) start(by *Hold, channel string, at replay.Position, gap replay.Reason) (changed, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != by {
		return false, false
	}
	if s.lost || s.crowded {
		by.see(channel)
	}
	if _, known := s.marks[channel]; !known && len(s.marks) >= by.store.cfg.Channels {
		changed = !s.crowding
		s.crowding, s.main = true, true
		return changed, true
	}
	s.setLocked(channel, mark{position: at, confirmed: time.Now(), gap: gap}).dirty = true
	return true, true
}

// unstart takes back what by has started, because it is not known to be stored: the
// client, which is not told that it joined, would be when it tries again, and another
// node would not know of it.
func (s *session) unstart(by *Hold, channel string, at replay.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, known := s.marks[channel]; known && s.owner == by && m.position == at {
		s.dropLocked(channel)
	}
}

// behind reports whether a channel that is followed is not known to have got as
// far as at.
func (s *session) behind(channel string, at replay.Position) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, known := s.marks[channel]
	return known && m.isBehind(at)
}

// confirm moves the marks to what has arrived. It reports whether there is
// something to be stored.
func (s *session) confirm(by *Hold, reached []Reached, at time.Time) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != by {
		return false
	}
	for _, r := range reached {
		m, known := s.marks[r.Channel]
		if !known {
			continue
		}
		moved := m.isBehind(r.Position)
		if moved {
			m.position = r.Position
		}
		if !r.Partial {
			moved = moved || m.gap != ""
			m.confirmed, m.gap = at, ""
		}
		if c := s.setLocked(r.Channel, m); moved {
			c.dirty = true
		}
	}
	for i := range s.chunks {
		c := &s.chunks[i]
		c.dirty = c.dirty || at.Sub(c.saved) >= by.store.cfg.refresh()/2
		changed = changed || c.dirty
	}
	return changed || s.main
}

// forget drops a channel, unless another hold has the session; it reports whether
// it did.
func (s *session) forget(by *Hold, channel string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner == by {
		s.dropLocked(channel)
	}
	return s.owner == by
}

// isKept reports whether there is a channel whose place is kept; or, shared, a record
// that others may write.
func (s *session) isKept(shared bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.marks) > 0 || shared && s.stored
}

// see notes that the connection has had a channel.
func (h *Hold) see(channel string) {
	if h.seen == nil {
		h.seen = make(map[string]struct{})
	}
	h.seen[channel] = struct{}{}
}

// load asks the records for the session, once.
func (s *session) load(ctx context.Context, st *Store) error {
	mine := false
	err := s.loading.Do(ctx, func(ctx context.Context) error {
		mine = true
		return st.read(ctx, s)
	})
	if err != nil && !mine {
		return fmt.Errorf("wait for a session: %w", err)
	}
	return err
}
