package edge

import (
	"errors"
	"strconv"
	"sync/atomic"

	"reecho/edge/limit"
	"reecho/edge/pusher"
	"reecho/edge/socket"
	"reecho/replay"
)

// Transport is how a client is connected.
type Transport uint8

// The transports.
const (
	WebSocket   Transport = iota
	Fallback              // xhr_streaming and xhr_polling
	EventStream           // EventSource
	transports
)

// String returns the name, the value of a metric's label.
func (t Transport) String() string { return [...]string{"websocket", "xhr", "event_stream"}[t] }

// What of a client's claims to be somebody was wrong.
const (
	failedSubscription = iota
	failedSignin
	failedGrant // the client asks its application then
	claims
)

// claimNames are the values of a metric's label.
var claimNames = [claims]string{"subscription", "signin", "grant"}

// tally counts what happens to the clients of one app on this node.
type tally struct {
	opened      [transports]atomic.Uint64
	open        [transports]atomic.Int64
	failures    [claims]atomic.Uint64
	published   atomic.Uint64 // events of the API, each once for a channel
	whispers    atomic.Uint64
	occupied    [len(channelKinds)]atomic.Int64
	subscribers [len(channelKinds)]atomic.Int64
	members     atomic.Int64
}

// channelKinds are the kinds of channels that are told apart.
var channelKinds = [...]string{"public", "private", "private-encrypted", "presence", "cache", "private-cache", "private-encrypted-cache", "presence-cache", "user"}

// kindIndex finds a kind in channelKinds.
func kindIndex(k pusher.Kind) int {
	at := 0
	switch {
	case k.Has(pusher.ServerToUser):
		return len(channelKinds) - 1
	case k.Has(pusher.Presence):
		at = 3
	case k.Has(pusher.Encrypted):
		at = 2
	case k.Has(pusher.Private):
		at = 1
	}
	if k.Has(pusher.Cache) {
		at += 4
	}
	return at
}

// entered counts a subscriber, and a member if that is its first connection.
func (t *tally) entered(ch *channel, memberID string) {
	kind := kindIndex(ch.kind)
	t.subscribers[kind].Add(1)
	if ch.subs == 1 {
		t.occupied[kind].Add(1)
	}
	if ch.members != nil && ch.members.Present().Sockets(memberID) == 1 {
		t.members.Add(1)
	}
}

// left counts a subscriber that has gone.
func (t *tally) left(ch *channel, memberID string) {
	kind := kindIndex(ch.kind)
	t.subscribers[kind].Add(-1)
	if ch.subs == 0 {
		t.occupied[kind].Add(-1)
	}
	if ch.members != nil && ch.members.Present().Sockets(memberID) == 0 {
		t.members.Add(-1)
	}
}

// Ends of connections beside the codes with which this server closes.
const (
	endedByClient = iota // it sent a close frame
	endedLost            // without one
	endedCut             // by the end of a shutdown
	ends
)

// Codes of closes that are counted, each apart: those of RFC 6455, and Pusher's.
const (
	firstCode, lastCode             = 1000, 1015
	firstPusherCode, lastPusherCode = 4000, 4399
	codes                           = lastCode - firstCode + 1 + lastPusherCode - firstPusherCode + 1
)

// codeCounts counts codes. The zero value is ready.
type codeCounts [codes]atomic.Uint64

func (c *codeCounts) add(code int) {
	switch {
	case code >= firstCode && code <= lastCode:
		c[code-firstCode].Add(1)
	case code >= firstPusherCode && code <= lastPusherCode:
		c[lastCode-firstCode+1+code-firstPusherCode].Add(1)
	}
}

// addTo adds what there is to m, by code.
func (c *codeCounts) addTo(m map[string]uint64) {
	for i := range c {
		code := firstCode + i
		if code > lastCode {
			code += firstPusherCode - lastCode - 1
		}
		if n := c[i].Load(); n > 0 {
			m[strconv.Itoa(code)] = n
		}
	}
}

// traffic counts what happens on this node whatever the app is.
type traffic struct {
	refused codeCounts // what came and was not let in, by what it was told
	closed  codeCounts // by us
	ended   [ends]atomic.Uint64
	replays replays
}

// end counts a connection that is gone, by what Receiver.Closed was told.
func (t *traffic) end(err error) {
	var e *socket.CloseError
	switch {
	case errors.As(err, &e) && e.Peer:
		t.ended[endedByClient].Add(1)
	case e != nil:
		t.closed.add(e.Code)
	case errors.Is(err, socket.ErrSlow):
		t.closed.add(pusher.CodeOverCapacity)
	case errors.Is(err, socket.ErrShutdown):
		t.ended[endedCut].Add(1)
	default:
		t.ended[endedLost].Add(1)
	}
}

// replayReasons are all that a client may be told, "" being that it has everything.
var replayReasons = [...]replay.Reason{
	"", replay.EpochChanged, replay.TrimmedByAge, replay.TrimmedByCount, replay.TrimmedBySize, replay.OverLimit,
	replay.ForeignPosition, replay.UnknownPosition, replay.NotRetained, replay.SessionExpired, replay.Unavailable,
}

// replays counts what became of subscriptions of clients that were there before.
type replays struct {
	outcomes [len(replayReasons)]atomic.Uint64
	events   atomic.Uint64 // that were sent to them, and of the past
}

func (r *replays) note(reason replay.Reason) {
	for i, known := range replayReasons {
		if known == reason {
			r.outcomes[i].Add(1)
		}
	}
}

// Stats is what a Hub has counted since it was made, and has now, on this node.
type Stats struct {
	Apps []AppStats // in the order of the configuration
	// Closed is how many connections ended, by the code with which this server closed
	// them, or "client", "lost" or "cut". Refused is how many were not let in, by the
	// code they were told.
	Closed, Refused map[string]uint64
	// Events and Answers are frames sent to clients (see fanout.Written), SentBytes
	// those of both; Messages and ReceivedBytes is what came from them.
	Events, Answers, SentBytes, Messages, ReceivedBytes uint64
	// Replays is how many subscriptions of clients that were there before got
	// everything ("") or not, by the reason. Replayed are events sent to them.
	Replays  map[replay.Reason]uint64
	Replayed uint64
	// Sessions are those that clients have now.
	Sessions int
	// RingBytes and RingLimit are of the events in memory for clients that come back,
	// ChannelBytes, LingerBytes and their limits of the channels.
	RingBytes, RingLimit, ChannelBytes, ChannelLimit, LingerBytes, LingerLimit int64
	// Over counts limits that are not in the ledger.
	Over map[limit.Reason]uint64
	// ReceiptBytes and ReceiptLimit are of the keys of publishes.
	ReceiptBytes, ReceiptLimit int64
}

// AppStats is that of one app.
type AppStats struct {
	ID string
	// Open and Opened are connections by transport: now, and in all. MaxConnections is
	// the app's limit, 0 for none, and Elsewhere what counts for it on other nodes.
	Open                      [transports]int64
	Opened                    [transports]uint64
	MaxConnections, Elsewhere int64
	// Occupied are channels with subscribers, Subscriptions these, by kind. Members are
	// users on presence channels who have a connection to this node.
	Occupied, Subscriptions map[string]int64
	Members                 int64
	// Published are events of the HTTP API that were stored or delivered, one for each
	// channel of one. ClientEvents came from clients.
	Published, ClientEvents uint64
	// Failures are authorisations that were wrong, by what they were for.
	Failures map[string]uint64
}

// Stats returns it. It asks nobody and takes no lock for long.
func (h *Hub) Stats() Stats {
	n := h.node
	s := Stats{
		Closed: make(map[string]uint64), Refused: make(map[string]uint64), Replays: make(map[replay.Reason]uint64),
		Replayed: n.traffic.replays.events.Load(), Over: make(map[limit.Reason]uint64),
		ChannelBytes: n.memory.used.Load(), ChannelLimit: n.memory.limit,
		LingerBytes: n.lingering.size(), LingerLimit: n.lingering.limit,
	}
	s.RingBytes, s.RingLimit, s.Over[limit.ReplayMemory] = n.replay.Memory()
	s.Sessions, s.Over[limit.SessionSaves] = n.sessions.Stats()
	if n.receipts != nil {
		s.ReceiptBytes, s.ReceiptLimit = n.receipts.Bytes()
	}
	n.traffic.closed.addTo(s.Closed)
	n.traffic.refused.addTo(s.Refused)
	for i, name := range [ends]string{"client", "lost", "cut"} {
		s.Closed[name] = n.traffic.ended[i].Load()
	}
	for i, reason := range replayReasons {
		s.Replays[reason] = n.traffic.replays.outcomes[i].Load()
	}
	written, received := n.pool.Counts()
	s.Events, s.Answers, s.SentBytes = written.Events, written.Answers, written.Bytes
	s.Messages, s.ReceivedBytes = received.Messages, received.Bytes
	for _, a := range h.apps.All() {
		s.Apps = append(s.Apps, h.tenants[a].stats())
	}
	return s
}

func (t *Tenant) stats() AppStats {
	s := AppStats{
		ID: t.ID, MaxConnections: int64(t.Limits.MaxConnections), Elsewhere: t.elsewhere.Load(),
		Occupied: make(map[string]int64), Subscriptions: make(map[string]int64), Failures: make(map[string]uint64),
		Members: t.tally.members.Load(), Published: t.tally.published.Load(), ClientEvents: t.tally.whispers.Load(),
	}
	for i := range transports {
		s.Open[i], s.Opened[i] = t.tally.open[i].Load(), t.tally.opened[i].Load()
	}
	for i, kind := range channelKinds {
		s.Occupied[kind], s.Subscriptions[kind] = t.tally.occupied[i].Load(), t.tally.subscribers[i].Load()
	}
	for i, name := range claimNames {
		s.Failures[name] = t.tally.failures[i].Load()
	}
	return s
}
