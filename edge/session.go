package edge

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

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
	dirty             bool      // to be saved
	saving            bool
	saved             []chan<- error // told of the next save that begins
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
	s := sc.session
	s.mu.Lock()
	if s.owner == sc {
		for _, a := range sc.awaiting {
			if m, known := s.marks[a.sub.ch.name]; known {
				m.prefix = a.sub.ch.positions.Prefix()
				m.sequence, m.confirmed = max(m.sequence, a.sequence), sc.pinged
				s.marks[a.sub.ch.name] = m
			}
		}
	}
	s.mu.Unlock()
	sc.awaiting = nil
	sc.sessions.save(s, nil)
	switch {
	case sc.again:
		sc.again = false
		sc.ping(time.Now())
	case sc.leaving:
		sc.client.closeWith(shuttingDown())
	}
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
		delete(s.marks, channel)
		return m, false, nil, ""
	}
	return m, true, s.sockets, ""
}

// start sets the mark of a channel that the session begins to follow.
func (sc *sessionConn) start(channel string, m mark) {
	s := sc.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != sc {
		return
	}
	if _, known := s.marks[channel]; !known && len(s.marks) >= sc.sessions.cfg.Channels {
		s.crowding = true
		return
	}
	s.marks[channel] = m
}

// forget drops a channel that the client unsubscribed from.
func (sc *sessionConn) forget(channel string) {
	s := sc.session
	s.mu.Lock()
	if s.owner == sc {
		delete(s.marks, channel)
	}
	s.mu.Unlock()
	sc.sessions.save(s, nil)
}

// close ends the connection's part in the session.
func (sc *sessionConn) close(now time.Time) {
	s := sc.session
	s.mu.Lock()
	own := s.owner == sc
	if own {
		s.owner, s.dropped = nil, now
	}
	s.mu.Unlock()
	switch {
	case !own:
	case s.isLoaded():
		sc.sessions.save(s, nil)
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

// expireLocked makes all marks say that the client came back too late.
func (s *session) expireLocked() {
	for name, m := range s.marks {
		m.lost = true
		s.marks[name] = m
	}
}

// sessionRecord is a session in the store.
type sessionRecord struct {
	Node     string                   `json:"node"`              // the run of the node that wrote it
	Dropped  int64                    `json:"dropped,omitempty"` // Unix milliseconds; 0: was connected
	Crowded  bool                     `json:"crowded,omitempty"`
	Sockets  []string                 `json:"sockets,omitempty"`
	Channels map[string]channelRecord `json:"channels,omitempty"`
}

type channelRecord struct {
	Position  string `json:"p"`
	Confirmed int64  `json:"t"` // Unix milliseconds
	Lost      bool   `json:"x,omitempty"`
}

func (s *session) recordLocked(node string) sessionRecord {
	r := sessionRecord{
		Node: node, Crowded: s.crowded || s.crowding, Sockets: s.sockets,
		Channels: make(map[string]channelRecord, len(s.marks)),
	}
	if s.owner == nil {
		r.Dropped = s.dropped.UnixMilli()
	}
	for name, m := range s.marks {
		r.Channels[name] = channelRecord{Position: m.position(), Confirmed: m.confirmed.UnixMilli(), Lost: m.lost}
	}
	return r
}

// restore takes over what the store had.
func (s *session) restoreLocked(text []byte) (sessionRecord, error) {
	var r sessionRecord
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("read a stored session: %w", err)
	}
	s.crowded = s.crowded || r.Crowded
	s.rememberLocked(r.Sockets, s.sockets)
	for name, c := range r.Channels {
		end := strings.LastIndexByte(c.Position, '-') + 1
		sequence, err := strconv.ParseUint(c.Position[end:], 10, 64)
		if err != nil {
			return r, fmt.Errorf("read a stored session: %w", err)
		}
		s.marks[name] = mark{prefix: c.Position[:end], sequence: sequence, confirmed: time.UnixMilli(c.Confirmed), lost: c.Lost}
	}
	return r, nil
}
