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

// More of them, which are counted and not logged: a client's or a caller's own mistake, or
// what the log has other lines of.
const (
	Memory            Reason = "memory_mark"              // memory of the process: closed with 4100, or 503
	MessageSize       Reason = "max_message_bytes"        // a message of a client: closed with 1009
	AppMessageSize    Reason = "message_bytes"            // the same, by the app's limit
	HeaderSize        Reason = "max_header_bytes"         // the head of a request: 431
	HandshakeTimeout  Reason = "handshake_timeout"        // the first request of a connection: cut
	PongTimeout       Reason = "pong_timeout"             // a client that is silent: closed with 4201
	AuthTimeout       Reason = "authorization_timeout"    // a client that authorised nothing: closed with 4009
	QuerySize         Reason = "max_query_bytes"          // the query of a call: 414
	QueryParameters   Reason = "max_query_parameters"     // its parameters: 400
	RequestSize       Reason = "request_bytes"            // the body of a call: 413
	PublishQueue      Reason = "publish_queue_bytes"      // events that wait for a stream: 503
	PublishTimeout    Reason = "publish_timeout"          // events that were not stored in time: 503
	ChannelName       Reason = "channel_name_length"      // refused, or 400
	EventName         Reason = "event_name_length"        // refused, or 400
	EventData         Reason = "event_data_bytes"         // 413
	PublishChannels   Reason = "channels_per_publish"     // 400
	BatchEvents       Reason = "batch_events"             // 400
	HistoryEvents     Reason = "history_events"           // 400
	ClientEventData   Reason = "client_event_data_bytes"  // refused
	PresenceMembers   Reason = "presence_members"         // users of a presence channel: refused
	UserID            Reason = "user_id_length"           // subscription or sign-in: refused
	UserInfo          Reason = "user_info_bytes"          // subscription or sign-in: refused
	Watchlist         Reason = "watchlist_users"          // the rest is not watched, 4302
	StreamChannels    Reason = "sse_channels"             // channels of an event stream: 400
	ReplayMemory      Reason = "replay_memory"            // memory of events for who comes back: the coldest channels' go
	PublishWindow     Reason = "publish_window"           // events under way to a stream: later ones wait
	SessionSaves      Reason = "session_saves_per_second" // new subscriptions of a session: later ones wait
	WebhookRetryTime  Reason = "webhook_retry_time"       // events for an endpoint that does not take them: dropped
	WebhookQueueBytes Reason = "webhook_queue_bytes"      // events that wait for an endpoint: the oldest are dropped
	WebhookMemory     Reason = "webhook_memory"           // events that wait to be stored: dropped
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

// Count counts one more of a reason, and logs nothing.
func (l *Ledger) Count(r Reason) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entryLocked(r).total++
}

func (l *Ledger) entryLocked(r Reason) *entry {
	e := l.entries[r]
	if e == nil {
		e = &entry{}
		l.entries[r] = e
	}
	return e
}

// count returns how many times are to be logged now; 0: nothing.
func (l *Ledger) count(r Reason, now time.Time) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entryLocked(r).note(now)
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
