package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"reecho/broker"
	"reecho/broker/natsd"
	"reecho/edge"
	"reecho/edge/acme"
	"reecho/edge/api"
	"reecho/edge/app"
	"reecho/edge/pressure"
	"reecho/edge/socket"
	"reecho/edge/sse"
	"reecho/edge/webhook"
	"reecho/edge/xhr"
	"reecho/replay"
	"reecho/replay/receipt"
	"reecho/replay/session"
)

// Defaults that belong to no other package.
const (
	DefaultListen  = "0.0.0.0:6001"
	DefaultDataDir = "./reecho-data"
	// DefaultClusterListen is NATS' own port for routes.
	DefaultClusterListen = "0.0.0.0:6222"
	// DefaultIsolation is longer than an election, and than most cuts of a network.
	DefaultIsolation = 15 * time.Second
	// DefaultUnixSocketMode lets the group in: that of the proxy in front.
	DefaultUnixSocketMode = "0660"
	// DefaultDrainTime is over which time clients are told to reconnect.
	DefaultDrainTime = 5 * time.Second
	// DefaultShutdownTimeout bounds a clean stop. Clients can take half of it,
	// which is below the 10 s after which Docker kills what it stops.
	DefaultShutdownTimeout = 16 * time.Second
)

// setting is a row of a table: a key of the file, its default and what it is.
// bind returns a pointer to where it is enforced, of a type that assign knows.
type setting[T any] struct {
	key      string
	def      string
	help     string
	positive bool // 0 is not allowed
	bind     func(*T) any
}

// Flag is the name of the setting's command line flag.
func (s setting[T]) flag() string { return strings.ReplaceAll(s.key, "_", "-") }

func (s setting[T]) env() string { return "REECHO_" + strings.ToUpper(s.key) }

// settings are those of the node: each is a flag, an environment variable and
// a key of the file.
var settings = []setting[Config]{
	{key: "listen", def: DefaultListen, help: "`HOST:PORT` of the one port for WebSocket and HTTP, with and without TLS, or unix:PATH of a socket", bind: func(c *Config) any { return &c.Listen }},
	{key: "unix_socket_mode", def: DefaultUnixSocketMode, help: "permissions of the file of listen: unix:PATH", bind: func(c *Config) any { return &c.UnixSocketMode }},
	{key: "data_dir", def: DefaultDataDir, help: "`DIR` that keeps all data", bind: func(c *Config) any { return &c.Store.Dir }},
	{key: "path_prefix", help: "`PATH` before /app and /apps, for a server below a path", bind: func(c *Config) any { return &c.Edge.PathPrefix }},
	{key: "tls_cert", help: "`FILE` with the certificate chain (PEM); reloaded when it changes", bind: func(c *Config) any { return &c.TLSCert }},
	{key: "tls_key", help: "`FILE` with the private key (PEM)", bind: func(c *Config) any { return &c.TLSKey }},
	{key: "acme_domains", help: "`NAMES` of hosts to get a certificate for from an ACME authority, in the place of tls_cert; who sets them accepts its terms of service. Commas between, no wildcards, 100 at most", bind: func(c *Config) any { return &c.ACME.Domains }},
	{key: "acme_email", help: "`ADDRESS` to which the authority may write about the account", bind: func(c *Config) any { return &c.ACME.Email }},
	{key: "acme_directory", def: acme.DefaultDirectory, help: "`URL` of the authority's directory; the default is Let's Encrypt", bind: func(c *Config) any { return &c.ACME.Directory }},
	{key: "acme_ca", help: "`FILE` with the root certificate of the directory's own server (PEM), if the system does not know it", bind: func(c *Config) any { return &c.ACME.Authority }},
	{key: "acme_http_listen", help: "`HOST:PORT` that answers challenges of the kind HTTP-01, like :80, to which port 80 of all acme_domains leads; if empty they are TLS-ALPN-01 and answered on listen, to which their port 443 leads", bind: func(c *Config) any { return &c.ACME.HTTPListen }},
	{key: "acme_eab_key_id", help: "`ID` of the key by which an authority binds the account to a customer (external account binding); none for Let's Encrypt", bind: func(c *Config) any { return &c.ACME.BindingID }},
	{key: "acme_eab_key", help: "that `KEY`, base64url; others on this machine can see flags, prefer the environment", bind: func(c *Config) any { return &c.ACME.BindingKey }},
	{key: "trusted_proxies", help: "proxies whose word on a client's address and TLS is taken (X-Forwarded-For, X-Forwarded-Proto, Forwarded): addresses, networks like 10.0.0.0/8, loopback, private, unix; none if empty", bind: func(c *Config) any { return &c.TrustedProxies }},
	{key: "proxy_protocol", def: "false", help: "connections of trusted_proxies begin with a PROXY protocol header, version 1 or 2", bind: func(c *Config) any { return &c.Socket.ProxyProtocol }},
	{key: "demo", def: "false", help: "serve the demo page at /demo also when apps are configured; it lets anybody publish on its two channels", bind: func(c *Config) any { return &c.Demo }},
	{key: "metrics_listen", help: "`HOST:PORT` where Prometheus finds /metrics, or unix:PATH; whoever reaches it may read them, so it is none of the public ones. No metrics if empty", bind: func(c *Config) any { return &c.MetricsListen }},
	{key: "log_level", def: "info", help: "debug, info, warn or error", bind: func(c *Config) any { return &c.LogLevel }},
	{key: "log_format", def: "text", help: "text or json", bind: func(c *Config) any { return &c.LogFormat }},

	{key: "retention_age", def: span(broker.DefaultMaxAge), help: "how long an event is kept", positive: true, bind: func(c *Config) any { return &c.Log.MaxAge }},
	{key: "retention_events", def: fmt.Sprint(broker.DefaultEventsPerChannel), help: "events kept per channel", positive: true, bind: func(c *Config) any { return &c.Log.EventsPerChannel }},
	{key: "retention_bytes", def: size(broker.DefaultMaxBytes), help: "bytes kept in all", positive: true, bind: func(c *Config) any { return (*byteSize)(&c.Log.MaxBytes) }},
	{key: "replay_memory", def: size(replay.DefaultMemory), help: "bytes of recent events kept in memory for clients that come back", positive: true, bind: func(c *Config) any { return (*byteSize)(&c.Edge.ReplayMemory) }},
	{key: "replays_per_address", def: fmt.Sprint(edge.DefaultReplaysPerAddress), help: "subscriptions of one address that read missed events from the log at once, and as many that read the past (later ones wait)", positive: true, bind: func(c *Config) any { return &c.Edge.ReplaysPerAddress }},
	{key: "session_time", def: span(session.DefaultTime), help: "how long after its connection was lost a client with a session gets what it missed", positive: true, bind: func(c *Config) any { return &c.Edge.Sessions.Time }},
	{key: "session_memory_time", def: span(session.DefaultMemory), help: "how long a session is remembered, so that a client that comes back later is told", positive: true, bind: func(c *Config) any { return &c.Edge.Sessions.Memory }},
	{key: "session_bytes", def: size(session.DefaultBytes), help: "bytes kept of sessions; those unchanged for longest go first. One address has a quarter of them", positive: true, bind: func(c *Config) any { return (*byteSize)(&c.Edge.Sessions.Bytes) }},
	{key: "session_ids", def: fmt.Sprint(session.DefaultIDs), help: "ids of sessions that are remembered when the rest is gone, so that the client is told; 8 bytes of memory each", positive: true, bind: func(c *Config) any { return &c.Edge.Sessions.IDs }},
	{key: "session_channels", def: fmt.Sprint(session.DefaultChannels), help: "channels of one session that are replayed (reecho:gap on those above)", positive: true, bind: func(c *Config) any { return &c.Edge.Sessions.Channels }},
	{key: "sessions_per_address", def: fmt.Sprint(session.DefaultPerAddress), help: "sessions of connected clients of one address (those above are served without one, and told)", positive: true, bind: func(c *Config) any { return &c.Edge.Sessions.PerAddress }},
	{key: "session_saves_per_second", def: fmt.Sprint(session.DefaultSaves), help: "new subscriptions of one session that are stored in a second, after the first 500 (later ones wait)", positive: true, bind: func(c *Config) any { return &c.Edge.Sessions.SavesPerSecond }},
	{key: "session_ack_interval", def: span(session.DefaultAckInterval), help: "pause between the pings that ask a client with a session what has arrived", positive: true, bind: func(c *Config) any { return &c.Edge.Sessions.AckInterval }},
	{key: "idempotency_window", def: span(receipt.DefaultWindow), help: "how long a publish with an idempotency key is remembered, so that it is stored once; the same on all servers of a cluster", positive: true, bind: func(c *Config) any { return &c.Edge.Receipts.Window }},
	{key: "idempotency_bytes", def: size(receipt.DefaultBytes), help: "bytes kept of idempotency keys, about 300 for each; publishes with new keys above are answered 503. The same on all servers of a cluster", positive: true, bind: func(c *Config) any { return (*byteSize)(&c.Edge.Receipts.Bytes) }},
	{key: "sync_interval", def: span(natsd.DefaultSyncInterval), help: "how often stored events are flushed to the disk, or `always`: what a power cut can take", bind: func(c *Config) any { return (*flushing)(&c.Store) }},
	{key: "partitions", def: "0", help: fmt.Sprintf("streams the channels are spread over; fixed once there is data. 0: as many as the data has, %d if there is none", broker.DefaultPartitions), bind: func(c *Config) any { return &c.Log.Partitions }},
	{key: "node_name", help: "`NAME` of this server in its cluster, another one on each and the same for ever; the host's name if empty", bind: func(c *Config) any { return &c.Store.Name }},
	{key: "cluster_name", help: "`NAME` of the cluster, the same on all servers; without one the server is alone", bind: func(c *Config) any { return &c.Cluster.Cluster }},
	{key: "cluster_listen", def: DefaultClusterListen, help: "`HOST:PORT` for the other servers of the cluster", bind: func(c *Config) any { return &c.Cluster.Listen }},
	{key: "cluster_peers", help: "`HOST:PORT` of all servers of the cluster, this one too, the same on all; or one name that has all their addresses", bind: func(c *Config) any { return &c.Cluster.Peers }},
	{key: "storage", def: "true", help: "keep events in data_dir; false: this server keeps nothing and takes part in a cluster of servers that do, cluster_peers being their cluster_leaf_listen", bind: func(c *Config) any { return &c.Storage }},
	{key: "cluster_leaf_listen", help: "`HOST:PORT` for servers without storage, NATS' own port for them is 7422; none if empty", bind: func(c *Config) any { return &c.Cluster.LeafListen }},
	{key: "cluster_secret", help: "`SECRET` that the servers know each other by, at least 16 characters, the same on all; others on this machine can see flags, prefer the environment", bind: func(c *Config) any { return &c.Cluster.Secret }},
	{key: "cluster_size", def: fmt.Sprint(natsd.DefaultSize), help: "servers that keep each event when the cluster is made, 3 or 5; afterwards `reecho cluster scale` changes it", positive: true, bind: func(c *Config) any { return &c.Cluster.Size }},
	{key: "cluster_advertise", help: "`HOST:PORT` at which the others reach this server, if that is not what cluster_peers says", bind: func(c *Config) any { return &c.Cluster.Advertise }},
	{key: "cluster_fast_elections", def: "true", help: "another server leads within one or two seconds when one is lost, not after 5 to 8; false: NATS' own times, for machines that pause for half a second. The same on all servers", bind: func(c *Config) any { return &c.Cluster.FastElections }},
	{key: "cluster_isolation", def: span(DefaultIsolation), help: "how long this server may be cut off from the majority of its cluster until it closes its clients with 4200 and takes no new ones; 0: it keeps them, though they hear nothing", bind: func(c *Config) any { return &c.Isolation }},
	{key: "cluster_tls_cert", help: "`FILE` with this server's certificate for the others (PEM); with it the servers speak TLS", bind: func(c *Config) any { return &c.ClusterTLSCert }},
	{key: "cluster_tls_key", help: "`FILE` with its private key (PEM)", bind: func(c *Config) any { return &c.ClusterTLSKey }},
	{key: "cluster_tls_ca", help: "`FILE` with the authority that signed the others' certificates (PEM)", bind: func(c *Config) any { return &c.ClusterTLSCA }},
	{key: "nats_url", help: "`URLS` of a NATS server of your own with JetStream, or of several of its cluster, instead of the one inside: nats://HOST:PORT or tls://HOST:PORT; nothing is kept in data_dir then. User and password may stand in it; others on this machine can see flags, prefer the environment", bind: func(c *Config) any { return &c.NATS.URLs }},
	{key: "nats_credentials", help: "`FILE` with the credentials for it (JWT and key)", bind: func(c *Config) any { return &c.NATS.Credentials }},
	{key: "nats_tls_ca", help: "`FILE` with the authority that signed its certificate (PEM), if the system does not know it", bind: func(c *Config) any { return &c.NATS.Authority }},
	{key: "nats_tls_cert", help: "`FILE` with the certificate to show it (PEM)", bind: func(c *Config) any { return &c.NATS.Cert }},
	{key: "nats_tls_key", help: "`FILE` with its private key (PEM)", bind: func(c *Config) any { return &c.NATS.Key }},
	{key: "nats_domain", help: "domain of its JetStream", bind: func(c *Config) any { return &c.NATS.Domain }},
	{key: "nats_replicas", def: fmt.Sprint(broker.DefaultReplicas), help: "on how many of its servers each event is kept: 1, 3 or 5", positive: true, bind: func(c *Config) any { return &c.NATSReplicas }},
	{key: "publish_window", def: fmt.Sprint(broker.DefaultPublishWindow), help: "events under way to each stream", positive: true, bind: func(c *Config) any { return &c.Log.PublishWindow }},
	{key: "publish_queue_bytes", def: size(broker.DefaultPublishQueueBytes), help: "bytes waiting for each stream before publishes are answered 503", positive: true, bind: func(c *Config) any { return (*byteSize)(&c.Log.PublishQueueBytes) }},
	{key: "publish_timeout", def: span(broker.DefaultPublishTimeout), help: "how long storing an event is tried before 503", positive: true, bind: func(c *Config) any { return &c.Log.PublishTimeout }},

	{key: "max_message_bytes", def: size(socket.DefaultMaxMessageBytes), help: "bytes of one message from a client (1009 above)", positive: true, bind: func(c *Config) any { return (*byteSize)(&c.Socket.MaxMessageBytes) }},
	{key: "request_memory", def: size(api.DefaultRequestMemory), help: "bytes of all HTTP API bodies under way (503 above); large ones leave a quarter to those up to 64 KiB, these an eighth to those up to 4 KiB, and what takes more than 250 ms to come makes way for others", positive: true, bind: func(c *Config) any { return (*byteSize)(&c.API.RequestMemory) }},
	{key: "max_query_bytes", def: size(api.DefaultQueryBytes), help: "bytes of the query of an HTTP API call (414 above)", positive: true, bind: func(c *Config) any { return (*byteSize)(&c.API.QueryBytes) }},
	{key: "max_query_parameters", def: fmt.Sprint(api.DefaultQueryParameters), help: "parameters of the query of an HTTP API call (400 above)", positive: true, bind: func(c *Config) any { return &c.API.QueryParameters }},
	{key: "max_queued_bytes", def: size(socket.DefaultMaxQueuedBytes), help: "bytes waiting for a slow client and for no other (4100 above)", positive: true, bind: func(c *Config) any { return (*byteSize)(&c.Socket.MaxQueuedBytes) }},
	{key: "queue_memory", def: size(socket.DefaultQueueMemory), help: "bytes waiting for all slow clients; what waits for many counts once. Above, the largest and oldest queues are closed with 4100", positive: true, bind: func(c *Config) any { return (*byteSize)(&c.QueueMemory) }},
	{key: "memory_mark", def: fmt.Sprint(pressure.DefaultPercent, "%"), help: "how much memory may be used until new connections are refused (4100 or 503 above), while those that are there and publishes go on: a share of what the process may use, or bytes of the process; 0: no mark", bind: func(c *Config) any { return &c.MemoryMark }},
	{key: "write_timeout", def: span(socket.DefaultWriteTimeout), help: "how long a slow client may take nothing of what waits for it (4100 above)", positive: true, bind: func(c *Config) any { return &c.Socket.WriteTimeout }},
	{key: "handshake_timeout", def: span(socket.DefaultHandshakeTimeout), help: "time for TLS and the first request of a connection", positive: true, bind: func(c *Config) any { return &c.Socket.HandshakeTimeout }},
	{key: "event_streams", def: fmt.Sprint(sse.DefaultEventStreams), help: "event streams of the node, polls included (503 above)", positive: true, bind: func(c *Config) any { return &c.Streams.EventStreams }},
	{key: "event_streams_per_address", def: fmt.Sprint(sse.DefaultEventStreamsPerAddress), help: "event streams of one client address, an IPv6 /64 being one (429 above)", positive: true, bind: func(c *Config) any { return &c.Streams.EventStreamsPerAddress }},
	{key: "xhr_sessions", def: fmt.Sprint(xhr.DefaultSessions), help: "clients of the node that use the fallback transports of pusher-js, xhr_streaming and xhr_polling (4100 above)", positive: true, bind: func(c *Config) any { return &c.XHR.Sessions }},
	{key: "xhr_sessions_per_address", def: fmt.Sprint(xhr.DefaultSessionsPerAddress), help: "those of one client address, an IPv6 /64 being one (4100 above)", positive: true, bind: func(c *Config) any { return &c.XHR.SessionsPerAddress }},
	{key: "xhr_heartbeat", def: span(xhr.DefaultHeartbeat), help: "how long such a client hears nothing until it gets a heartbeat, 25s at most: less if a proxy cuts what is silent for that long", positive: true, bind: func(c *Config) any { return &c.XHR.Heartbeat }},
	{key: "xhr_disconnect_delay", def: span(xhr.DefaultDisconnectDelay), help: "how long such a client may receive nothing, between two requests, until it counts as gone", positive: true, bind: func(c *Config) any { return &c.XHR.DisconnectDelay }},
	{key: "max_header_bytes", def: size(socket.DefaultMaxHeaderBytes), help: "bytes of a request line with its headers, of WebSocket upgrades and all other requests (431 above)", positive: true, bind: func(c *Config) any { return (*byteSize)(&c.Socket.MaxHeaderBytes) }},
	{key: "max_connections", def: "0", help: "connections of all kinds, those that sent nothing yet included (4100 or 503 above); 0, and at most: what the file descriptors allow", bind: func(c *Config) any { return &c.Socket.MaxConnections }},
	{key: "descriptor_reserve", def: "0", help: "file descriptors kept for the store; 0: 200 or 5 %, whichever is more", bind: func(c *Config) any { return &c.Socket.DescriptorReserve }},
	{key: "handshakes_per_second", def: fmt.Sprint(socket.DefaultHandshakesPerSecond), help: "connections, event streams and sessions over HTTP that a client address may open a second, with a burst of ten times as many (429 above); an IPv6 address counts as its /64", positive: true, bind: func(c *Config) any { return &c.Socket.HandshakesPerSecond }},
	{key: "pong_timeout", def: span(edge.DefaultPongTimeout), help: "how long after a ping a client may stay silent (4201 above)", positive: true, bind: func(c *Config) any { return &c.Edge.PongTimeout }},
	{key: "ping_interval", def: span(edge.DefaultPingInterval), help: "how long a client may hear nothing at all: then it gets a WebSocket ping, because proxies close what is silent for a minute; 0: only after activity_timeout", bind: func(c *Config) any { return &c.Edge.PingInterval }},
	{key: "linger", def: span(edge.DefaultLinger), help: "how long a channel without subscribers is kept warm", positive: true, bind: func(c *Config) any { return &c.Edge.Linger }},
	{key: "linger_memory", def: size(edge.DefaultLingerMemory), help: "bytes of channels without subscribers; those longest without go first", positive: true, bind: func(c *Config) any { return (*byteSize)(&c.Edge.LingerMemory) }},
	{key: "channel_memory", def: size(edge.DefaultChannelMemory), help: "bytes of channels with subscribers, about 5.5 KiB for each and 400 bytes for each further subscription; subscriptions above are refused, those to new channels above seven eighths, and the sooner the more channels the connection has", positive: true, bind: func(c *Config) any { return (*byteSize)(&c.Edge.ChannelMemory) }},
	{key: "webhook_grace", def: span(webhook.DefaultGrace), help: "how long a channel may be empty, or a member away, until channel_vacated or member_removed", positive: true, bind: func(c *Config) any { return &c.Webhooks.Grace }},
	{key: "webhook_return_time", def: span(webhook.DefaultReturn), help: "how long clients have to come back after all servers were started, until channel_vacated and member_removed tell who has not", positive: true, bind: func(c *Config) any { return &c.Webhooks.Return }},
	{key: "webhook_retry_time", def: span(webhook.DefaultRetryTime), help: "how long delivering a webhook is tried, then it is dropped", positive: true, bind: func(c *Config) any { return &c.Webhooks.RetryTime }},
	{key: "webhook_timeout", def: span(webhook.DefaultTimeout), help: "how long one try may take", positive: true, bind: func(c *Config) any { return &c.Webhooks.Timeout }},
	{key: "webhook_queue_age", def: span(webhook.DefaultQueueAge), help: "how long a webhook is kept while no server runs to deliver it", positive: true, bind: func(c *Config) any { return &c.Webhooks.QueueAge }},
	{key: "webhook_queue_bytes", def: size(webhook.DefaultQueueBytes), help: "bytes of all webhooks that are not delivered, on disk and in memory; the oldest are dropped first. One endpoint has a quarter of them", positive: true, bind: func(c *Config) any { return (*byteSize)(&c.Webhooks.QueueBytes) }},
	{key: "webhook_memory", def: size(webhook.DefaultMemory), help: "bytes of client_event, cache_miss and subscription_count that wait to be stored; those above are dropped", positive: true, bind: func(c *Config) any { return (*byteSize)(&c.Webhooks.Memory) }},
	{key: "webhook_state_bytes", def: size(webhook.DefaultStateBytes), help: "bytes kept of which channels are occupied and who is on them, about 200 for each; those unchanged for longest are forgotten first", positive: true, bind: func(c *Config) any { return (*byteSize)(&c.Webhooks.StateBytes) }},
	{key: "drain_time", def: span(DefaultDrainTime), help: "time over which more than 1,000 clients are told to reconnect at a shutdown", bind: func(c *Config) any { return &c.DrainTime }},
	{key: "shutdown_timeout", def: span(DefaultShutdownTimeout), help: "time for a clean stop", positive: true, bind: func(c *Config) any { return &c.ShutdownTimeout }},
	{key: "shards", def: "0", help: "goroutines that write to clients; 0: one per core", bind: func(c *Config) any { return &c.Edge.Shards }},
	{key: "pollers", def: "0", help: "goroutines that read from clients; 0: one per core", bind: func(c *Config) any { return &c.Socket.Pollers }},
}

// appSettings are those of an app, apart from its id, credentials and limits.
var appSettings = []setting[app.App]{
	{key: "enabled", def: "true", help: "false: clients are closed with 4003, API calls answered 403", bind: func(a *app.App) any { return &a.Enabled }},
	{key: "client_events", def: "true", help: "clients may send client- events", bind: func(a *app.App) any { return &a.ClientEvents }},
	{key: "unsubscribed_client_events", def: "false", help: "also to private and presence channels that they have not subscribed to: whoever knows the key may send there", bind: func(a *app.App) any { return &a.UnsubscribedClientEvents }},
	{key: "client_events_per_second", def: fmt.Sprint(app.DefaultClientEventsPerSecond), help: "client events a connection may send (4301 above); 0: no limit", bind: func(a *app.App) any { return &a.Limits.ClientEventsPerSecond }},
	{key: "user_authentication", def: "true", help: "clients may sign in", bind: func(a *app.App) any { return &a.UserAuthentication }},
	{key: "resume_grants", def: "true", help: "clients with the plugin that come back within session_time are not authorised, nor signed in, by the application again; false: on every connection", bind: func(a *app.App) any { return &a.ResumeGrants }},
	{key: "subscription_counts", def: "false", help: "send subscription_count events", bind: func(a *app.App) any { return &a.SubscriptionCounts }},
	{key: "watchlist", def: "false", help: "send online and offline events of watched users", bind: func(a *app.App) any { return &a.Watchlist }},
	{key: "max_connections", def: "0", help: "connections of the app (4004 above); 0: no limit", bind: func(a *app.App) any { return &a.Limits.MaxConnections }},
	{key: "allowed_origins", help: "where browsers may come from (4009 else): hosts or origins like example.com, *.example.com, localhost:3000 or https://example.com, * is any run of characters; empty: all", bind: func(a *app.App) any { return &a.AllowedOrigins }},
	{key: "tls_only", def: "false", help: "clients and calls of the API without TLS are refused (WebSocket: 4000, HTTP: 403); behind a proxy that ends TLS name it in trusted_proxies and let it set X-Forwarded-Proto", bind: func(a *app.App) any { return &a.TLSOnly }},
	{key: "authorized_connections", def: "false", help: "connections must sign in or subscribe with authorisation in time (4009 else)", bind: func(a *app.App) any { return &a.AuthorizedConnections }},
	{key: "authorization_timeout", def: span(app.DefaultAuthorizationTimeout), help: "that time", positive: true, bind: func(a *app.App) any { return &a.AuthorizationTimeout }},
	{key: "stream_authorization_time", def: span(app.DefaultStreamAuthorizationTime), help: "how long a socket id for event streams lives, and what was signed for it; then the stream ends (401 until the client has a new one)", positive: true, bind: func(a *app.App) any { return &a.StreamAuthorizationTime }},
	{key: "activity_timeout", def: span(app.DefaultActivityTimeout), help: "silence after which client and server ping", positive: true, bind: func(a *app.App) any { return &a.ActivityTimeout }},
	{key: "ping_interval", def: "0", help: "instead of the server's ping_interval; 0: what that is", bind: func(a *app.App) any { return &a.PingInterval }},
	{key: "close_above_rate", def: "false", help: "connections above a rate of their messages are closed with 4100 and may come back; false: what they send is answered with an error", bind: func(a *app.App) any { return &a.CloseAboveRate }},
	{key: "retention_share", def: "0", help: "percent of retention_bytes that the app may fill while other apps need theirs, beyond which its own oldest events go; 0: an equal part of what they leave", bind: func(a *app.App) any { return &a.RetentionShare }},
	{key: "subscription_errors", def: "true", help: "refused subscriptions get pusher:subscription_error beside pusher:error", bind: func(a *app.App) any { return &a.SubscriptionErrors }},
	{key: "compression", def: "false", help: "WebSocket clients that offer permessage-deflate get events compressed, each once for all of them, and may send compressed messages", bind: func(a *app.App) any { return &a.Compression }},
	{key: "compression_min_bytes", def: size(app.DefaultCompressionMinBytes), help: "bytes of an event's frame from which it is compressed; smaller ones gain little; 0: all", bind: func(a *app.App) any { return (*byteSize)(&a.CompressionMinBytes) }},
	{key: "lenient_protocol", def: "false", help: "accept connections without a valid protocol or client version", bind: func(a *app.App) any { return &a.LenientProtocol }},
	{key: "lenient_subscribe", def: "false", help: "answer a second subscription with success", bind: func(a *app.App) any { return &a.LenientSubscribe }},
}

// retentionSettings are the keys of an element of an app's retention.
var retentionSettings = []setting[app.Retention]{
	{key: "channels", help: "pattern for channel names, * is any run of characters; the first pattern that matches counts", bind: func(r *app.Retention) any { return &r.Channels }},
	{key: "age", help: "instead of retention_age", bind: func(r *app.Retention) any { return &r.Age }},
	{key: "events", help: "instead of retention_events", bind: func(r *app.Retention) any { return &r.Events }},
	{key: "bytes", help: "instead of retention_bytes, for all channels that match", bind: func(r *app.Retention) any { return (*byteSize)(&r.Bytes) }},
	{key: "storage", help: "file or memory; fixed once there are events", bind: func(r *app.Retention) any { return &r.Storage }},
	{key: "replicas", help: "copies in a cluster: 1, 3 or 5", bind: func(r *app.Retention) any { return &r.Replicas }},
	{key: "off", help: "true: events are delivered and not stored", bind: func(r *app.Retention) any { return &r.Off }},
}

// limitSettings are the keys below limits of an app.
var limitSettings = []setting[app.Limits]{
	{key: "channel_name_length", def: fmt.Sprint(app.DefaultChannelNameLength), help: "characters of a channel name", positive: true, bind: func(l *app.Limits) any { return &l.ChannelNameLength }},
	{key: "event_name_length", def: fmt.Sprint(app.DefaultEventNameLength), help: "characters of an event name", positive: true, bind: func(l *app.Limits) any { return &l.EventNameLength }},
	{key: "event_data_bytes", def: fmt.Sprint(app.DefaultEventDataBytes), help: "bytes of an event's data (413 above); at most 4 MiB", positive: true, bind: func(l *app.Limits) any { return (*byteSize)(&l.EventDataBytes) }},
	{key: "channels_per_publish", def: fmt.Sprint(app.DefaultChannelsPerPublish), help: "channels of one POST /events", positive: true, bind: func(l *app.Limits) any { return &l.ChannelsPerPublish }},
	{key: "batch_events", def: fmt.Sprint(app.DefaultBatchEvents), help: "events of one POST /batch_events", positive: true, bind: func(l *app.Limits) any { return &l.BatchEvents }},
	{key: "presence_members", def: fmt.Sprint(app.DefaultPresenceMembers), help: "users of a presence channel", positive: true, bind: func(l *app.Limits) any { return &l.PresenceMembers }},
	{key: "member_transitions", def: fmt.Sprint(app.DefaultMemberTransitions), help: "times in quick succession that the others are told of one who comes and goes; then once a second, if it is news", positive: true, bind: func(l *app.Limits) any { return &l.MemberTransitions }},
	{key: "user_id_length", def: fmt.Sprint(app.DefaultUserIDLength), help: "characters of a user id", positive: true, bind: func(l *app.Limits) any { return &l.UserIDLength }},
	{key: "user_info_bytes", def: fmt.Sprint(app.DefaultUserInfoBytes), help: "bytes of user_info", positive: true, bind: func(l *app.Limits) any { return (*byteSize)(&l.UserInfoBytes) }},
	{key: "watchlist_users", def: fmt.Sprint(app.DefaultWatchlistUsers), help: "users on a watchlist (4302 above)", positive: true, bind: func(l *app.Limits) any { return &l.WatchlistUsers }},
	{key: "client_event_data_bytes", def: fmt.Sprint(app.DefaultClientEventDataBytes), help: "bytes of a client event's data", positive: true, bind: func(l *app.Limits) any { return (*byteSize)(&l.ClientEventDataBytes) }},
	{key: "channels_per_connection", def: fmt.Sprint(app.DefaultChannelsPerConnection), help: "subscriptions of a connection; 0: no limit", bind: func(l *app.Limits) any { return &l.ChannelsPerConnection }},
	{key: "messages_per_second", def: fmt.Sprint(app.DefaultMessagesPerSecond), help: "messages of any kind from a connection, four times as many in a burst (4301 above; pings and pongs of WebSocket count, and those above are read later); 0: no limit", bind: func(l *app.Limits) any { return &l.MessagesPerSecond }},
	{key: "message_bytes_per_second", def: size(app.DefaultMessageBytesPerSecond), help: "bytes of them, four times as many in a burst (4301 above); 0: no limit", bind: func(l *app.Limits) any { return (*byteSize)(&l.MessageBytesPerSecond) }},
	{key: "messages_per_interval", def: fmt.Sprint(app.DefaultMessagesPerInterval), help: "messages of a connection in each message_interval (4301 above; without pongs, and pings of WebSocket); 0: no limit", bind: func(l *app.Limits) any { return &l.MessagesPerInterval }},
	{key: "message_interval", def: span(app.DefaultMessageInterval), help: "that time, which begins with a message", positive: true, bind: func(l *app.Limits) any { return &l.MessageInterval }},
	{key: "message_bytes", def: fmt.Sprint(app.DefaultMessageBytes), help: "bytes of one WebSocket message from a client (1009 above); 0, and at most: max_message_bytes", bind: func(l *app.Limits) any { return (*byteSize)(&l.MessageBytes) }},
	{key: "cache_ttl", def: span(app.DefaultCacheTTL), help: "how long a cache channel remembers its last event; retention_age bounds it too", positive: true, bind: func(l *app.Limits) any { return &l.CacheTTL }},
	{key: "request_bytes", def: size(app.DefaultRequestBytes), help: "bytes of an HTTP API request body (413 above)", positive: true, bind: func(l *app.Limits) any { return (*byteSize)(&l.RequestBytes) }},
	{key: "replay_events", def: fmt.Sprint(app.DefaultReplayEvents), help: "missed events that one subscription gets when it comes back (reecho:gap above)", positive: true, bind: func(l *app.Limits) any { return &l.ReplayEvents }},
	{key: "replay_bytes", def: size(app.DefaultReplayBytes), help: "bytes of them (reecho:gap above)", positive: true, bind: func(l *app.Limits) any { return (*byteSize)(&l.ReplayBytes) }},
	{key: "replay_reads_per_second", def: fmt.Sprint(app.DefaultReplayReadsPerSecond), help: "events of the past (last, since) that all clients of the app together may read in a second, ten times as many at once (reecho:gap above); 0: no limit", bind: func(l *app.Limits) any { return &l.ReplayReadsPerSecond }},
	{key: "sessions", def: fmt.Sprint(app.DefaultSessions), help: "sessions of connected clients of the app (those above are served without one, and told); 0: no limit", bind: func(l *app.Limits) any { return &l.Sessions }},
	{key: "sse_channels", def: fmt.Sprint(app.DefaultSSEChannels), help: "channels of one event stream", positive: true, bind: func(l *app.Limits) any { return &l.SSEChannels }},
	{key: "history_events", def: fmt.Sprint(app.DefaultHistoryEvents), help: "events of one answer of the history API", positive: true, bind: func(l *app.Limits) any { return &l.HistoryEvents }},
}

// size prints a number of bytes in the largest unit that divides it.
func size(bytes int) string {
	text := strconv.Itoa(bytes)
	for _, u := range byteUnits[:binaryUnits] {
		if bytes%u.factor == 0 {
			text = strconv.Itoa(bytes/u.factor) + u.suffix
		}
	}
	return text
}

// span prints a duration the way a person writes it.
func span(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// Option is a setting as the command line shows it.
type Option struct {
	Name    string // without dashes
	Env     string
	Default string
	Help    string
	Switch  bool // takes no value
}

// Options returns the settings that are command line flags.
func Options() []Option {
	options := []Option{
		{Name: flagConfig, Env: "REECHO_CONFIG", Help: "`FILE` with settings and apps, YAML or JSON"},
		{Name: flagEnvFile, Env: "REECHO_ENV_FILE", Help: "`FILE` with environment variables, such as a Laravel .env"},
		{Name: flagAppID, Env: "REECHO_APP_ID", Help: "`ID` of the one app"},
		{Name: flagAppKey, Env: "REECHO_APP_KEY", Help: "`KEY` of the one app"},
		{Name: flagAppSecret, Env: "REECHO_APP_SECRET", Help: "`SECRET` of the one app; others on this machine can see flags, prefer the environment"},
		{Name: flagWebhooks, Env: envWebhooks, Help: "`WEBHOOKS` of the one app: a URL, or a list as in the file"},
	}
	for _, s := range settings {
		var c Config
		_, isSwitch := s.bind(&c).(*bool)
		options = append(options, Option{Name: s.flag(), Env: s.env(), Default: s.def, Help: s.help, Switch: isSwitch})
	}
	return options
}

// Markdown returns the tables of all settings for SETTINGS.md, which a test of this
// package compares with them.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| flag | environment | file | default | what |\n|---|---|---|---|---|\n")
	for _, s := range settings {
		fmt.Fprintf(&b, "| `--%s` | `%s` | `%s` | %s | %s |\n", s.flag(), s.env(), s.key, code(s.def), plain(s.help))
	}
	b.WriteString("\nEach app (`apps:` in the file):\n\n| key | default | what |\n|---|---|---|\n")
	for _, s := range appSettings {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.key, code(s.def), plain(s.help))
	}
	for _, s := range limitSettings {
		fmt.Fprintf(&b, "| `limits.%s` | %s | %s |\n", s.key, code(s.def), plain(s.help))
	}
	for _, s := range retentionSettings {
		fmt.Fprintf(&b, "| `retention[].%s` | %s | %s |\n", s.key, code(s.def), plain(s.help))
	}
	for _, s := range webhookSettings {
		fmt.Fprintf(&b, "| `webhooks[].%s` | %s | %s |\n", s.key, code(s.def), plain(s.help))
	}
	b.WriteString("| `webhooks[].headers` |  | map of headers that are sent beside Pusher's |\n")
	return b.String()
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

// plain drops the marks that name a flag's value.
func plain(help string) string { return strings.ReplaceAll(help, "`", "") }
