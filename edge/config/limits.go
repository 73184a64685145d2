package config

import (
	"slices"

	"reecho/edge/limit"
)

// Limit is a setting that bounds something, and how an operator sees that the bound is
// met.
type Limit struct {
	// Key is the setting's, with apps[]. before it if it is one of an app.
	Key string
	// Hits is the label under which is counted how often it is met.
	Hits limit.Reason
	// Shown is the metric that shows it, of a limit that nobody runs into: what is above
	// it goes, or comes to an end, in the ordinary course of things.
	Shown string
}

const (
	shownByReplays  = "reecho_replays_total"
	shownByStreams  = "reecho_stream_limit_bytes"
	shownByMessages = "reecho_stream_messages"
	shownByWebhooks = "reecho_webhook_requests_total"
	shownByCluster  = "reecho_cluster_isolated_seconds"
	shownByClosed   = "reecho_connections_closed_total"
)

// limits is every setting that is one; a test goes through the tables of settings.
var limits = []Limit{
	{Key: "memory_mark", Hits: limit.Memory},
	{Key: "retention_age", Shown: shownByReplays},
	{Key: "retention_events", Shown: shownByReplays},
	{Key: "retention_bytes", Shown: shownByStreams},
	{Key: "replay_memory", Hits: limit.ReplayMemory},
	{Key: "replays_per_address", Hits: limit.Replays},
	{Key: "session_time", Shown: shownByReplays},
	{Key: "session_memory_time", Shown: shownByReplays},
	{Key: "session_bytes", Shown: shownByStreams},
	{Key: "session_ids", Shown: shownByMessages},
	{Key: "session_channels", Shown: shownByReplays},
	{Key: "sessions_per_address", Hits: limit.AddressSessions},
	{Key: "session_saves_per_second", Hits: limit.SessionSaves},
	{Key: "idempotency_bytes", Hits: limit.Idempotency},
	{Key: "cluster_isolation", Shown: shownByCluster},
	{Key: "publish_window", Hits: limit.PublishWindow},
	{Key: "publish_queue_bytes", Hits: limit.PublishQueue},
	{Key: "publish_timeout", Hits: limit.PublishTimeout},
	{Key: "max_message_bytes", Hits: limit.MessageSize},
	{Key: "request_memory", Hits: limit.RequestMemory},
	{Key: "max_query_bytes", Hits: limit.QuerySize},
	{Key: "max_query_parameters", Hits: limit.QueryParameters},
	{Key: "max_queued_bytes", Hits: limit.QueuedBytes},
	{Key: "queue_memory", Hits: limit.QueueMemory},
	{Key: "write_timeout", Hits: limit.WriteTimeout},
	{Key: "handshake_timeout", Hits: limit.HandshakeTimeout},
	{Key: "event_streams", Hits: limit.EventStreams},
	{Key: "event_streams_per_address", Hits: limit.AddressStreams},
	{Key: "xhr_sessions", Hits: limit.XHRSessions},
	{Key: "xhr_sessions_per_address", Hits: limit.AddressXHRSessions},
	{Key: "xhr_disconnect_delay", Shown: shownByClosed},
	{Key: "max_header_bytes", Hits: limit.HeaderSize},
	{Key: "max_connections", Hits: limit.Connections},
	{Key: "descriptor_reserve", Hits: limit.Connections},
	{Key: "handshakes_per_second", Hits: limit.Handshakes},
	{Key: "pong_timeout", Hits: limit.PongTimeout},
	{Key: "linger_memory", Hits: limit.LingerMemory},
	{Key: "channel_memory", Hits: limit.ChannelMemory},
	{Key: "webhook_retry_time", Hits: limit.WebhookRetryTime},
	{Key: "webhook_timeout", Shown: shownByWebhooks},
	{Key: "webhook_queue_age", Shown: shownByMessages},
	{Key: "webhook_queue_bytes", Hits: limit.WebhookQueueBytes},
	{Key: "webhook_memory", Hits: limit.WebhookMemory},
	{Key: "webhook_state_bytes", Shown: shownByStreams},

	{Key: "apps[].client_events_per_second", Hits: limit.ClientEvents},
	{Key: "apps[].max_connections", Hits: limit.AppConnections},
	{Key: "apps[].authorization_timeout", Hits: limit.AuthTimeout},
	{Key: "apps[].stream_authorization_time", Shown: shownByClosed},
	{Key: "apps[].retention_share", Hits: limit.RetentionShare},
	{Key: "apps[].limits.channel_name_length", Hits: limit.ChannelName},
	{Key: "apps[].limits.event_name_length", Hits: limit.EventName},
	{Key: "apps[].limits.event_data_bytes", Hits: limit.EventData},
	{Key: "apps[].limits.channels_per_publish", Hits: limit.PublishChannels},
	{Key: "apps[].limits.batch_events", Hits: limit.BatchEvents},
	{Key: "apps[].limits.presence_members", Hits: limit.PresenceMembers},
	{Key: "apps[].limits.member_transitions", Hits: limit.MemberTransitions},
	{Key: "apps[].limits.user_id_length", Hits: limit.UserID},
	{Key: "apps[].limits.user_info_bytes", Hits: limit.UserInfo},
	{Key: "apps[].limits.watchlist_users", Hits: limit.Watchlist},
	{Key: "apps[].limits.client_event_data_bytes", Hits: limit.ClientEventData},
	{Key: "apps[].limits.channels_per_connection", Hits: limit.Subscriptions},
	{Key: "apps[].limits.messages_per_second", Hits: limit.Messages},
	{Key: "apps[].limits.message_bytes_per_second", Hits: limit.MessageBytes},
	{Key: "apps[].limits.messages_per_interval", Hits: limit.MessageWindow},
	{Key: "apps[].limits.message_bytes", Hits: limit.AppMessageSize},
	{Key: "apps[].limits.request_bytes", Hits: limit.RequestSize},
	{Key: "apps[].limits.replay_events", Shown: shownByReplays},
	{Key: "apps[].limits.replay_bytes", Shown: shownByReplays},
	{Key: "apps[].limits.replay_reads_per_second", Hits: limit.ReplayReads},
	{Key: "apps[].limits.sessions", Hits: limit.Sessions},
	{Key: "apps[].limits.sse_channels", Hits: limit.StreamChannels},
	{Key: "apps[].limits.history_events", Hits: limit.HistoryEvents},
	{Key: "apps[].retention[].age", Shown: shownByReplays},
	{Key: "apps[].retention[].events", Shown: shownByReplays},
	{Key: "apps[].retention[].bytes", Shown: shownByStreams},
}

// Limits returns all settings that are limits.
func Limits() []Limit { return slices.Clone(limits) }
