package edge

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"reecho/edge/limit"
	"reecho/edge/pusher"
	"reecho/replay"
)

// Bounds of one session.
const (
	// maxSessionSockets is how many earlier socket ids are remembered.
	maxSessionSockets = pusher.MaxExcept
	minSessionID      = 16
	maxSessionID      = 128
)

// returnWindow is how long after a client came back it may take until it has
// subscribed to all its channels again: a subscription after that is a new one.
const returnWindow = 2 * time.Minute

// checkSessionID: long enough that nobody guesses it, and safe in a path.
func checkSessionID(id string) bool {
	return len(id) >= minSessionID && len(id) <= maxSessionID && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_'
	})
}

// mark is how far a session has got on a channel.
type mark struct {
	// prefix and sequence are the position.
	prefix   string
	sequence uint64
	// confirmed is when the client was last known to have everything.
	confirmed time.Time
	// lost: the client came back too late; the mark only tells that it has to
	// be told.
	lost bool
	// chunk is where it is stored.
	chunk int
}

func (m mark) position() string { return m.prefix + strconv.FormatUint(m.sequence, 10) }

// session is what the server knows of a stock client that gave itself an id
// (DESIGN §6, way 2): the channels and how far it has got on each. It outlives
// connections, and the node, in the store of sessions; it grants nothing.
type session struct {
	key string // in the store

	mu     sync.Mutex
	owner  *sessionConn  // nil while the client is away
	loaded chan struct{} // closed when the store was asked
	failed error         // why it could not be; read after loaded
	marks  map[string]mark
	// crowded: there were more channels than are kept, on an earlier
	// connection; crowding: on this one.
	crowded, crowding bool
	sockets           []string
	dropped           time.Time // zero while there is an owner

	// chunks are where the marks are stored; there is one at least. main: the
	// main record has to be written though its chunk has not.
	chunks []chunk
	main   bool

	// What becomes of it belongs to sessions.
	app     string
	address netip.Addr
	changed bool // there is something to be saved
	queued  bool // and a writer will do it
	delayed bool // and a timer runs
	saving  bool
	written time.Time      // when the newest save began
	rate    limit.Bucket   // of those that are waited for
	saved   []chan<- error // told of the next save that begins
}

func newSession(key, app string) *session {
	return &session{key: key, app: app, marks: make(map[string]mark), chunks: make([]chunk, 1)}
}

// sessionConn is a connection of a session. Its fields never change; the acks
// belong to the client's shard.
type sessionConn struct {
	session  *session
	sessions *sessions
	client   *client
	opened   time.Time
	acks     acks
}

// behind reports whether a subscription got something that its mark does not have.
func (sc *sessionConn) behind() bool {
	sc.session.mu.Lock()
	defer sc.session.mu.Unlock()
	for _, sub := range sc.acks.subs {
		if m, known := sc.session.marks[sub.ch.name]; known && m.sequence < sc.acks.reached(sub) {
			return true
		}
	}
	return false
}

// confirm moves the marks to what has arrived: all that was written before a ping
// was sent, at the time given. It reports whether there is something to be stored:
// places that moved, and what was stored so long ago that a claim based on it would
// soon be in doubt.
func (sc *sessionConn) confirm(all []awaited, pinged time.Time) (changed bool) {
	s := sc.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != sc {
		return false
	}
	for _, a := range all {
		m, known := s.marks[a.sub.ch.name]
		if !known {
			continue
		}
		moved := a.sequence > m.sequence
		m.prefix = a.sub.ch.positions.Prefix()
		m.sequence, m.confirmed = max(m.sequence, a.sequence), pinged
		if c := s.setLocked(a.sub.ch.name, m); moved {
			c.dirty = true
		}
	}
	for i := range s.chunks {
		c := &s.chunks[i]
		c.dirty = c.dirty || pinged.Sub(c.saved) >= sc.sessions.cfg.refresh()/2
		changed = changed || c.dirty
	}
	return changed || s.main
}

// claim says where a subscription of this connection has to go on: after mark,
// or, if known is false, from now on. reason is why it cannot.
func (sc *sessionConn) claim(channel string) (m mark, known bool, except []string, reason replay.Reason) {
	s := sc.session
	s.mu.Lock()
	defer s.mu.Unlock()
	m, known = s.marks[channel]
	returning := time.Since(sc.opened) <= returnWindow
	switch {
	case !known && s.crowded && returning:
		return m, true, nil, replay.OverLimit
	case !known:
		return m, false, nil, ""
	case m.lost:
		return m, true, nil, replay.SessionExpired
	case !returning:
		// Not part of coming back: the application subscribed anew.
		s.dropLocked(channel)
		return m, false, nil, ""
	}
	return m, true, s.sockets, ""
}

// start sets the mark of a channel that the session begins to follow. It reports
// whether there is something to be stored.
func (sc *sessionConn) start(channel string, m mark) (changed bool) {
	s := sc.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != sc {
		return false
	}
	if _, known := s.marks[channel]; !known && len(s.marks) >= sc.sessions.cfg.Channels {
		changed = !s.crowding
		s.crowding, s.main = true, true
		return changed
	}
	s.setLocked(channel, m).dirty = true
	return true
}

// forget drops a channel that the client unsubscribed from.
func (sc *sessionConn) forget(channel string) {
	s := sc.session
	s.mu.Lock()
	if s.owner == sc {
		s.dropLocked(channel)
	}
	s.mu.Unlock()
	// Else the store has more than is known here, and did not have this.
	if s.isLoaded() {
		sc.sessions.saveSoon(s)
	}
}

// close ends the connection's part in the session.
func (sc *sessionConn) close(now time.Time) {
	s := sc.session
	s.mu.Lock()
	own := s.owner == sc
	if own {
		s.owner, s.dropped, s.main = nil, now, true
	}
	s.mu.Unlock()
	switch {
	case !own:
	case s.isLoaded():
		sc.sessions.saveSoon(s)
	default:
		// What the store has is still right, and more than is known here.
		sc.sessions.discard(s)
	}
}

// rememberLocked keeps the newest of the socket ids the client had.
func (s *session) rememberLocked(earlier, later []string) {
	all := slices.Concat(earlier, later)
	s.sockets = all[max(0, len(all)-maxSessionSockets):]
}
