package limit

import (
	"log/slog"
	"sync"
	"time"
)

// Reason is a limit that somebody ran into, named like its setting: the value
// of a metric's label.
type Reason string

// The reasons, each with what is done about whoever is above the limit.
const (
	Connections        Reason = "max_connections"           // connections of the node: not accepted, or closed with 4100
	AppConnections     Reason = "app_max_connections"       // connections of an app: closed with 4004
	Handshakes         Reason = "handshakes_per_second"     // connections of an address: refused with 429
	Messages           Reason = "messages_per_second"       // messages of a connection: answered with 4301, not done
	MessageBytes       Reason = "message_bytes_per_second"  // their bytes: answered with 4301, not done
	MessageWindow      Reason = "messages_per_interval"     // messages of a connection: answered with 4301, not done
	ClientEvents       Reason = "client_events_per_second"  // whispers of a connection: answered with 4301, not done
	Subscriptions      Reason = "channels_per_connection"   // subscriptions of a connection: refused
	ChannelMemory      Reason = "channel_memory"            // memory of all channels with subscribers: subscriptions are refused
	LingerMemory       Reason = "linger_memory"             // memory of channels without subscribers: the oldest are dropped
	Sessions           Reason = "sessions"                  // sessions of an app: the connection has none
	AddressSessions    Reason = "sessions_per_address"      // sessions of an address: the connection has none
	Replays            Reason = "replays_per_address"       // replays under way of an address: later ones wait
	ReplayReads        Reason = "replay_reads_per_second"   // events an app's clients had read from the log: later ones wait, or get a gap
	EventStreams       Reason = "event_streams"             // event streams of the node: 503
	AddressStreams     Reason = "event_streams_per_address" // event streams of an address: 429
	XHRSessions        Reason = "xhr_sessions"              // sessions over HTTP of the node: closed with 4100
	AddressXHRSessions Reason = "xhr_sessions_per_address"  // sessions over HTTP of an address: closed with 4100
	RequestMemory      Reason = "request_memory"            // bodies of HTTP requests under way: 503
	QueueMemory        Reason = "queue_memory"              // all queues of the node: the largest and oldest are closed with 4100
	QueuedBytes        Reason = "max_queued_bytes"          // one client's queue: closed with 4100
	WriteTimeout       Reason = "write_timeout"             // a client that takes nothing: closed with 4100
	RetentionShare     Reason = "retention_share"           // an app's share of the retention: its own oldest events go
	Idempotency        Reason = "idempotency_bytes"         // keys of publishes that are remembered: new ones are answered 503
	MemberTransitions  Reason = "member_transitions"        // a presence member that comes and goes: told gathered
)

// logPeriod is how often one reason is logged at most.
const logPeriod = time.Second

// Ledger counts what ran into limits, and logs it: for each reason at most one
// line a second, with how many there were. It is safe for concurrent use; nil
// does nothing.
type Ledger struct {
	log *slog.Logger

	mu      sync.Mutex
	entries map[Reason]*entry
}

type entry struct {
	total    uint64
	unlogged uint64
	logged   time.Time
}

// NewLedger returns an empty ledger that logs to log.
func NewLedger(log *slog.Logger) *Ledger {
	return &Ledger{log: log, entries: make(map[Reason]*entry)}
}

// Note counts one more of a reason. The attributes, which must hold no secrets
// and are bounded by the caller, are those of the line that is logged, if one
// is.
func (l *Ledger) Note(r Reason, attrs ...slog.Attr) {
	if l == nil {
		return
	}
	if n := l.count(r, time.Now()); n > 0 {
		args := []any{slog.String("limit", string(r)), slog.Uint64("times", n)}
		for _, a := range attrs {
			args = append(args, a)
		}
		l.log.Warn("a limit was reached", args...)
	}
}

// count returns how many times are to be logged now; 0: nothing.
func (l *Ledger) count(r Reason, now time.Time) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[r]
	if e == nil {
		e = &entry{}
		l.entries[r] = e
	}
	return e.note(now)
}

func (e *entry) note(now time.Time) uint64 {
	e.total++
	e.unlogged++
	if now.Sub(e.logged) < logPeriod {
		return 0
	}
	n := e.unlogged
	e.unlogged, e.logged = 0, now
	return n
}

// Total is how often a reason was noted.
func (l *Ledger) Total(r Reason) uint64 {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[r]; e != nil {
		return e.total
	}
	return 0
}

// Totals is Total of every reason that was noted at all.
func (l *Ledger) Totals() map[Reason]uint64 {
	totals := make(map[Reason]uint64)
	if l == nil {
		return totals
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for r, e := range l.entries {
		totals[r] = e.total
	}
	return totals
}
