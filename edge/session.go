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

// sessionConn is a connection of a session. Its fields but session belong to
// the client's shard.
type sessionConn struct {
	session  *session
	sessions *sessions
	client   *client
	opened   time.Time

	subs     []*subscription
	awaiting []awaited // what a pong will confirm; nil: no ping is out
	pinged   time.Time
	again    bool // ping as soon as the pong is here
	// leaving: the connection is closed when final is confirmed.
	leaving bool
	final   []awaited
}

// awaited is how far a subscription was when the ping was sent.
type awaited struct {
	sub      *subscription
	sequence uint64
}

var pingFrame = textFrame(pusher.AppendPing(nil))

// joined takes in a new subscription, and asks at once whether what was sent
// again has arrived: it should not have to be sent a third time.
func (sc *sessionConn) joined(sub *subscription) {
	if sub.positioned {
		return
	}
	sc.subs = append(sc.subs, sub)
	if sc.awaiting == nil {
		sc.ping(time.Now())
	} else {
		sc.again = true
	}
}

func (sc *sessionConn) left(sub *subscription) {
	if i := slices.Index(sc.subs, sub); i >= 0 {
		sc.subs = slices.Delete(sc.subs, i, i+1)
	}
}

// shardSubs is a copy of the subscriptions that are in an audience.
func (sc *sessionConn) shardSubs() []*subscription { return slices.Clone(sc.subs) }

// reached is how far sub is: what was written to its audience, or what it got
// when it joined.
func (sc *sessionConn) reached(sub *subscription) uint64 {
	return max(sub.joined, sub.ch.audiences[sc.client.shard.index].done)
}

// tick pings when something was delivered since the last pong, or when the last
// one is so long ago that a claim based on it would be in doubt. The client's
// shard calls it.
func (sc *sessionConn) tick(now time.Time) {
	switch {
	case sc.leaving && now.Sub(sc.pinged) >= tickPeriod:
		sc.client.closeWith(shuttingDown())
	// A tick is early or late by a little: not to wait for the next one.
	case sc.leaving, sc.awaiting != nil, now.Sub(sc.pinged)+tickPeriod/2 < sc.sessions.cfg.AckInterval:
	case sc.behind() || now.Sub(sc.pinged) >= sc.sessions.cfg.refresh():
		sc.ping(now)
	}
}

func (sc *sessionConn) behind() bool {
	sc.session.mu.Lock()
	defer sc.session.mu.Unlock()
	for _, sub := range sc.subs {
		if m, known := sc.session.marks[sub.ch.name]; known && m.sequence < sc.reached(sub) {
			return true
		}
	}
	return false
}

func (sc *sessionConn) ping(now time.Time) {
	sc.pinged = now
	if sc.awaiting = sc.final; !sc.leaving {
		sc.awaiting = sc.sent()
	}
	// Linked and not sent: what was linked before in this batch goes out
	// first, and only then does the pong confirm it.
	sc.client.shard.link(sc.client, pingFrame, false)
}

// sent is how far each subscription is now.
func (sc *sessionConn) sent() []awaited {
	sent := make([]awaited, 0, len(sc.subs))
	for _, sub := range sc.subs {
		sent = append(sent, awaited{sub: sub, sequence: sc.reached(sub)})
	}
	return sent
}

// lastPing asks for the pong after which the connection can be closed. False:
// there is nothing to ask for.
func (sc *sessionConn) lastPing() bool {
	if !sc.behind() {
		return false
	}
	sc.leaving, sc.final = true, sc.sent()
	if sc.again = sc.awaiting != nil; !sc.again {
		sc.ping(time.Now())
	}
	return true
}

// ponged confirms what was sent before the ping. The client's shard calls it.
func (sc *sessionConn) ponged() {
	if sc.awaiting == nil {
		return
	}
	if sc.confirm() {
		sc.sessions.saveSoon(sc.session)
	}
	sc.awaiting = nil
	switch {
	case sc.again:
		sc.again = false
		sc.ping(time.Now())
	case sc.leaving:
		sc.client.closeWith(shuttingDown())
	}
}

// confirm moves the marks to what has arrived. It reports whether there is
// something to be stored: places that moved, and what was stored so long ago
// that a claim based on it would soon be in doubt.
func (sc *sessionConn) confirm() (changed bool) {
	s := sc.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != sc {
		return false
	}
	for _, a := range sc.awaiting {
		m, known := s.marks[a.sub.ch.name]
		if !known {
			continue
		}
		moved := a.sequence > m.sequence
		m.prefix = a.sub.ch.positions.Prefix()
		m.sequence, m.confirmed = max(m.sequence, a.sequence), sc.pinged
		if c := s.setLocked(a.sub.ch.name, m); moved {
			c.dirty = true
		}
	}
	for i := range s.chunks {
		c := &s.chunks[i]
		c.dirty = c.dirty || sc.pinged.Sub(c.saved) >= sc.sessions.cfg.refresh()/2
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
