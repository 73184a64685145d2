package app

import "time"

// Defaults of Limits and of the timeouts of an App (PROTOCOL §3). The limits
// table of edge/config/SETTINGS.md is made from these.
const (
	DefaultActivityTimeout      = 120 * time.Second
	DefaultAuthorizationTimeout = 30 * time.Second
	// DefaultStreamAuthorizationTime is long enough that renewing is rare, and
	// bounds how long a signature that leaked opens streams.
	DefaultStreamAuthorizationTime = time.Hour

	// DefaultCompressionMinBytes is where compressing makes an event about a third
	// smaller; below it takes as much of the CPU as a delivery and saves little.
	DefaultCompressionMinBytes = 256

	DefaultChannelNameLength     = 200   // characters
	DefaultEventNameLength       = 200   // characters
	DefaultEventDataBytes        = 10240 // bytes of the data string
	DefaultChannelsPerPublish    = 100   // channels
	DefaultBatchEvents           = 10    // events
	DefaultPresenceMembers       = 100   // unique users a channel
	DefaultMemberTransitions     = 5     // times that others are told at once that one member comes or goes
	DefaultUserIDLength          = 128   // characters
	DefaultUserInfoBytes         = 1024  // bytes of JSON
	DefaultWatchlistUsers        = 100   // users
	DefaultClientEventsPerSecond = 10    // events a connection
	DefaultClientEventDataBytes  = 10240 // bytes
	// DefaultChannelsPerConnection is more than a page shows, and keeps one
	// client from filling the memory with channels.
	DefaultChannelsPerConnection = 200 // subscriptions; 0: no limit
	// DefaultMessagesPerSecond and DefaultMessageBytesPerSecond are far above
	// what any client library sends by itself; of each a connection may save up
	// four seconds.
	DefaultMessagesPerSecond     = 500     // messages of a connection
	DefaultMessageBytesPerSecond = 1 << 20 // bytes of them
	DefaultMessagesPerInterval   = 0       // messages of a connection in DefaultMessageInterval; 0: no limit
	DefaultMessageInterval       = time.Minute
	DefaultMessageBytes          = 0 // bytes of one message; 0: what the server takes
	DefaultMaxConnections        = 0 // 0: no limit
	DefaultCacheTTL              = 30 * time.Minute
	DefaultRequestBytes          = 1 << 20 // bytes of an HTTP body
	DefaultReplayEvents          = 1000    // events of one replay
	DefaultReplayBytes           = 1 << 20 // bytes of one replay
	DefaultReplayReadsPerSecond  = 100_000 // events read for clients that want the past, in a second
	DefaultSessions              = 100_000 // sessions of connected clients of the app, on one node
	DefaultSSEChannels           = 20      // channels of one event stream
	DefaultHistoryEvents         = 1000    // events of one answer of the history API
)

// Limits bound what one app may do. A zero in a field for which zero is not
// documented as "no limit" is not valid; start from DefaultLimits.
type Limits struct {
	ChannelNameLength     int           // characters, PROTOCOL §3
	EventNameLength       int           // characters
	EventDataBytes        int           // bytes of one event's data string
	ChannelsPerPublish    int           // channels of one POST /events
	BatchEvents           int           // events of one POST /batch_events
	PresenceMembers       int           // unique users of a presence channel
	MemberTransitions     int           // times at once that others are told of one member who comes and goes
	UserIDLength          int           // characters
	UserInfoBytes         int           // bytes of JSON
	WatchlistUsers        int           // users one connection may watch
	ClientEventsPerSecond int           // per connection; 0: no limit
	ClientEventDataBytes  int           // bytes of one client event's data
	ChannelsPerConnection int           // subscriptions; 0: no limit
	MessagesPerSecond     int           // of a connection, of any kind; 0: no limit
	MessageBytesPerSecond int           // bytes of them; 0: no limit
	MessagesPerInterval   int           // of a connection in each MessageInterval, without pongs and pings of WebSocket; 0: no limit
	MessageInterval       time.Duration // begins with a message
	MessageBytes          int           // bytes of one message of a client; 0: what the server takes
	MaxConnections        int           // connections of the app, on all nodes; 0: no limit
	CacheTTL              time.Duration // how long a cache channel remembers
	RequestBytes          int           // bytes of an HTTP API body
	ReplayEvents          int           // missed events one subscription may get
	ReplayBytes           int           // bytes of them
	ReplayReadsPerSecond  int           // events its clients may have read of the past, 0: no limit
	Sessions              int           // of its connected clients on a node, 0: no limit
	SSEChannels           int           // channels of one event stream
	HistoryEvents         int           // events of one answer of the history API
}

// DefaultLimits returns the documented defaults.
func DefaultLimits() Limits {
	return Limits{
		ChannelNameLength:     DefaultChannelNameLength,
		EventNameLength:       DefaultEventNameLength,
		EventDataBytes:        DefaultEventDataBytes,
		ChannelsPerPublish:    DefaultChannelsPerPublish,
		BatchEvents:           DefaultBatchEvents,
		PresenceMembers:       DefaultPresenceMembers,
		MemberTransitions:     DefaultMemberTransitions,
		UserIDLength:          DefaultUserIDLength,
		UserInfoBytes:         DefaultUserInfoBytes,
		WatchlistUsers:        DefaultWatchlistUsers,
		ClientEventsPerSecond: DefaultClientEventsPerSecond,
		ClientEventDataBytes:  DefaultClientEventDataBytes,
		ChannelsPerConnection: DefaultChannelsPerConnection,
		MessagesPerSecond:     DefaultMessagesPerSecond,
		MessageBytesPerSecond: DefaultMessageBytesPerSecond,
		MessagesPerInterval:   DefaultMessagesPerInterval,
		MessageInterval:       DefaultMessageInterval,
		MessageBytes:          DefaultMessageBytes,
		MaxConnections:        DefaultMaxConnections,
		CacheTTL:              DefaultCacheTTL,
		RequestBytes:          DefaultRequestBytes,
		ReplayEvents:          DefaultReplayEvents,
		ReplayBytes:           DefaultReplayBytes,
		ReplayReadsPerSecond:  DefaultReplayReadsPerSecond,
		Sessions:              DefaultSessions,
		SSEChannels:           DefaultSSEChannels,
		HistoryEvents:         DefaultHistoryEvents,
	}
}
