package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reecho/broker"
	"reecho/broker/natsd"
	"reecho/edge/app"
)

// reach lists each setting with a value that is not its default, and what it sets,
// in the packages' Configs and in the one here.
var reach = []struct{ key, text, sets string }{
	{"listen", ":7001", "Listen=:7001"},
	{"unix_socket_mode", "0600", "UnixSocketMode=0600"},
	{"data_dir", "/data", "Store.Dir=/data"},
	{"path_prefix", "/below", "API.PathPrefix=/below Edge.PathPrefix=/below Streams.PathPrefix=/below XHR.PathPrefix=/below"},
	{"tls_cert", "cert.pem", "TLSCert=cert.pem"},
	{"tls_key", "key.pem", "TLSKey=key.pem"},
	{"acme_domains", "a.example.com, b.example.com", "ACME.Domains=[a.example.com b.example.com]"},
	{"acme_email", "admin@example.com", "ACME.Email=admin@example.com"},
	{"acme_directory", "https://ca.example.com/dir", "ACME.Directory=https://ca.example.com/dir"},
	{"acme_ca", "ca.pem", "ACME.Authority=ca.pem"},
	{"acme_http_listen", ":80", "ACME.HTTPListen=:80"},
	{"acme_eab_key_id", "id", "ACME.BindingID=id"},
	{"acme_eab_key", "a2V5", "ACME.BindingKey=a2V5"},
	{"trusted_proxies", "loopback, 10.0.0.0/8", "TrustedProxies=[loopback 10.0.0.0/8]"},
	{"proxy_protocol", "true", "Socket.ProxyProtocol=true"},
	{"demo", "true", "Demo=true"},
	{"metrics_listen", "127.0.0.1:9601", "MetricsListen=127.0.0.1:9601"},
	{"log_level", "debug", "LogLevel=DEBUG"},
	{"log_format", "json", "LogFormat=json"},

	{"retention_age", "7m", "Edge.Sessions.Retention=7m0s Log.MaxAge=7m0s"},
	{"retention_events", "7", "Log.EventsPerChannel=7"},
	{"retention_bytes", "7MiB", "Log.MaxBytes=7340032"},
	{"replay_memory", "7MiB", "Edge.ReplayMemory=7340032"},
	{"replays_per_address", "7", "Edge.ReplaysPerAddress=7"},
	{"session_time", "7m", "Edge.Sessions.Time=7m0s"},
	{"session_memory_time", "7m", "Edge.Sessions.Memory=7m0s"},
	{"session_bytes", "7MiB", "Edge.Sessions.Bytes=7340032"},
	{"session_ids", "7000", "Edge.Sessions.IDs=7000"},
	{"session_channels", "7", "Edge.Sessions.Channels=7"},
	{"sessions_per_address", "7", "Edge.Sessions.PerAddress=7"},
	{"session_saves_per_second", "7", "Edge.Sessions.SavesPerSecond=7"},
	{"session_ack_interval", "7s", "Edge.Sessions.AckInterval=7s"},
	{"idempotency_window", "7m", "Edge.Receipts.Window=7m0s Log.Agreed=[idempotency_window 7m0s idempotency_bytes 67108864]"},
	{"idempotency_bytes", "7MiB", "Edge.Receipts.Bytes=7340032 Log.Agreed=[idempotency_window 5m0s idempotency_bytes 7340032]"},
	{"sync_interval", "7s", "Store.SyncInterval=7s"},
	{"sync_interval", "always", "Store.SyncAlways=true"},
	{"partitions", "7", "Log.Partitions=7"},
	{"node_name", "n7", "Log.Node=n7 Store.Name=n7"},
	{"cluster_name", "c", "Cluster.Cluster=c"},
	{"cluster_listen", ":7222", "Cluster.Listen=:7222"},
	{"cluster_peers", "x:6222", "Cluster.Peers=[x:6222]"},
	{"storage", "false", "Log.Domain=reecho Log.Relay=relay. Storage=false Store.Mesh=false"},
	{"cluster_leaf_listen", ":7422", "Cluster.LeafListen=:7422"},
	{"cluster_secret", "another secret of all", "Cluster.Secret=another secret of all"},
	{"cluster_size", "5", "Cluster.Size=5 Log.Replicas=5"},
	{"cluster_advertise", "x:6222", "Cluster.Advertise=x:6222"},
	{"cluster_fast_elections", "false", "Cluster.FastElections=false"},
	{"cluster_isolation", "7s", "Isolation=7s"},
	{"cluster_tls_cert", "cert.pem", "ClusterTLSCert=cert.pem"},
	{"cluster_tls_key", "key.pem", "ClusterTLSKey=key.pem"},
	{"cluster_tls_ca", "ca.pem", "ClusterTLSCA=ca.pem"},
	{"nats_url", "nats://x:4222", "NATS.URLs=[nats://x:4222]"},
	{"nats_credentials", "x.creds", "NATS.Credentials=x.creds"},
	{"nats_tls_ca", "ca.pem", "NATS.Authority=ca.pem"},
	{"nats_tls_cert", "cert.pem", "NATS.Cert=cert.pem"},
	{"nats_tls_key", "key.pem", "NATS.Key=key.pem"},
	{"nats_domain", "hub", "Log.Domain=hub NATS.Domain=hub"},
	{"nats_replicas", "3", "Log.Replicas=3 NATSReplicas=3"},
	{"publish_window", "7", "Log.PublishWindow=7"},
	{"publish_queue_bytes", "7KiB", "Log.PublishQueueBytes=7168"},
	{"publish_timeout", "7s", "Log.PublishTimeout=7s"},

	{"max_message_bytes", "7KiB", "Socket.MaxMessageBytes=7168 XHR.MaxMessageBytes=7168"},
	{"request_memory", "7MiB", "API.RequestMemory=7340032"},
	{"max_query_bytes", "7KiB", "API.QueryBytes=7168"},
	{"max_query_parameters", "7", "API.QueryParameters=7"},
	{"max_queued_bytes", "7KiB", "Socket.MaxQueuedBytes=7168 Streams.MaxQueuedBytes=7168 XHR.MaxQueuedBytes=7168"},
	{"queue_memory", "7MiB", "QueueMemory=7340032"},
	{"memory_mark", "70%", "MemoryMark={0 70}"},
	{"write_timeout", "7s", "Socket.WriteTimeout=7s Streams.WriteTimeout=7s XHR.WriteTimeout=7s"},
	{"handshake_timeout", "7s", "Socket.HandshakeTimeout=7s"},
	{"event_streams", "7", "Streams.EventStreams=7"},
	{"event_streams_per_address", "7", "Streams.EventStreamsPerAddress=7"},
	{"xhr_sessions", "7", "XHR.Sessions=7"},
	{"xhr_sessions_per_address", "7", "XHR.SessionsPerAddress=7"},
	{"xhr_heartbeat", "7s", "XHR.Heartbeat=7s"},
	{"xhr_disconnect_delay", "7s", "XHR.DisconnectDelay=7s"},
	{"max_header_bytes", "7KiB", "Socket.MaxHeaderBytes=7168"},
	{"max_connections", "7", "Socket.MaxConnections=7"},
	{"descriptor_reserve", "7", "Socket.DescriptorReserve=7"},
	{"handshakes_per_second", "7", "Socket.HandshakesPerSecond=7"},
	{"pong_timeout", "7s", "Edge.PongTimeout=7s"},
	{"ping_interval", "7s", "Edge.PingInterval=7s"},
	{"linger", "7s", "Edge.Linger=7s"},
	{"linger_memory", "7MiB", "Edge.LingerMemory=7340032"},
	{"channel_memory", "7MiB", "Edge.ChannelMemory=7340032"},
	{"webhook_grace", "7s", "Webhooks.Grace=7s"},
	{"webhook_return_time", "7s", "Webhooks.Return=7s"},
	{"webhook_retry_time", "7s", "Webhooks.RetryTime=7s"},
	{"webhook_timeout", "7s", "Webhooks.Timeout=7s"},
	{"webhook_queue_age", "7m", "Webhooks.QueueAge=7m0s"},
	{"webhook_queue_bytes", "7MiB", "Webhooks.QueueBytes=7340032"},
	{"webhook_memory", "7MiB", "Webhooks.Memory=7340032"},
	{"webhook_state_bytes", "7MiB", "Webhooks.StateBytes=7340032"},
	{"drain_time", "7s", "DrainTime=7s"},
	{"shutdown_timeout", "7s", "ShutdownTimeout=7s"},
	{"shards", "7", "Edge.Shards=7"},
	{"pollers", "7", "Socket.Pollers=7"},
}

// elsewhere are the fields of packages that no setting fills, and what does.
var elsewhere = map[string]string{
	"Log.Rules": "the apps, in Derive", "Log.Apps": "the apps, in Derive",
	"API.Ledger": "the node", "Edge.Ledger": "the node", "Edge.Hooks": "the node", "Socket.Ledger": "the node", "Streams.Ledger": "the node", "XHR.Ledger": "the node",
	"Store.Private": "the node", "Socket.Budget": "the node", "Streams.Budget": "the node", "XHR.Budget": "the node", "Socket.TLS": "the node", "Socket.TrustedProxies": "the node",
	"API.Now": "its default", "Cluster.TLS": "the node",
	"NATS.MinPayload": "the apps, in Derive", "Log.Shared": "cluster_name, in Derive",
	"Socket.Refuse":         "the node",
	"Socket.MessageTimeout": "its default", "Socket.HTTPIdleTimeout": "its default", "Socket.HTTPBodyTimeout": "its default",
	"Socket.ForceGoroutines": "tests alone",
}

// cluster are flags of one that is valid.
var cluster = map[string]string{
	"node-name": "n1", "cluster-name": "old", "cluster-peers": "a:6222", "cluster-secret": "a secret of servers",
	"cluster-tls-cert": "old.pem", "cluster-tls-key": "old.pem", "cluster-tls-ca": "old.pem",
}

// external are flags of a NATS server of others.
var external = map[string]string{"node-name": "n1", "nats-url": "nats://old:4222", "nats-tls-cert": "old.pem", "nats-tls-key": "old.pem"}

// domains are flags of a certificate of an authority.
var domains = map[string]string{"acme-domains": "old.example.com"}

// companions are the flags that a setting cannot be set without.
var companions = map[string]map[string]string{
	"node_name": cluster, "cluster_listen": cluster, "cluster_peers": cluster, "cluster_secret": cluster,
	"cluster_size": cluster, "cluster_advertise": cluster, "cluster_fast_elections": cluster,
	"cluster_tls_cert": cluster, "cluster_tls_key": cluster, "cluster_tls_ca": cluster,
	"cluster_name": cluster, "cluster_leaf_listen": cluster, "storage": cluster,

	"nats_url": external, "nats_credentials": external, "nats_tls_ca": external,
	"nats_tls_cert": external, "nats_tls_key": external, "nats_domain": external, "nats_replicas": external,
	"tls_cert":   {"tls-cert": "old.pem", "tls-key": "key.pem"},
	"tls_key":    {"tls-cert": "cert.pem", "tls-key": "old.pem"},
	"acme_email": domains, "acme_directory": domains, "acme_ca": domains, "acme_http_listen": domains,
	"acme_eab_key_id": {"acme-domains": "old.example.com", "acme-eab-key-id": "old", "acme-eab-key": "b2xk"},
	"acme_eab_key":    {"acme-domains": "old.example.com", "acme-eab-key-id": "old", "acme-eab-key": "b2xk"},
	"proxy_protocol":  {"trusted-proxies": "loopback"},
}

// fields are the exported fields of a Config, and of the Configs in it, by path.
func fields(v reflect.Value, path string, into map[string]string) map[string]string {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		switch {
		case !f.IsExported():
		case f.Type == reflect.TypeFor[*natsd.Mesh]():
			into[path+f.Name] = fmt.Sprint(!v.Field(i).IsNil()) // it is Cluster
		case f.Type.Name() == "Config", f.Type == reflect.TypeFor[natsd.Mesh]():
			fields(v.Field(i), path+f.Name+".", into)
		default:
			into[path+f.Name] = fmt.Sprint(v.Field(i).Interface())
		}
	}
	return into
}

// mustFields loads a configuration of one app with flags and completes it.
func mustFields(t *testing.T, flags map[string]string) map[string]string {
	t.Helper()
	c, err := Load(source(flags, oneApp(nil)))
	if err != nil {
		t.Fatal(err)
	}
	c.Derive()
	c.Apps = nil // made anew by each Load
	return fields(reflect.ValueOf(c), "", map[string]string{})
}

// Each setting reaches every package that enforces it, and no other; each field of
// a package's Config is filled by a setting or named in elsewhere.
func TestSettingsReachTheirPackages(t *testing.T) {
	t.Parallel()
	unset := mustFields(t, nil)
	var keys []string
	for _, tt := range reach {
		keys = append(keys, tt.key)
		flags := map[string]string{}
		maps.Copy(flags, companions[tt.key])
		without := mustFields(t, flags)
		flags[strings.ReplaceAll(tt.key, "_", "-")] = tt.text
		var sets []string
		for name, value := range mustFields(t, flags) {
			if value != without[name] {
				sets = append(sets, name+"="+value)
				delete(unset, name)
			}
		}
		slices.Sort(sets)
		if got := strings.Join(sets, " "); got != tt.sets {
			t.Errorf("%s %s: sets %q, want %q", tt.key, tt.text, got, tt.sets)
		}
	}
	if diff := cmp.Diff(keysOf(settings), slices.Compact(keys)); diff != "" {
		t.Errorf("settings (-table +tested):\n%s", diff)
	}
	maps.DeleteFunc(unset, func(name, _ string) bool { return !strings.Contains(name, ".") })
	if diff := cmp.Diff(slices.Sorted(maps.Keys(elsewhere)), slices.Sorted(maps.Keys(unset))); diff != "" {
		t.Errorf("fields that no setting fills (-listed +found):\n%s", diff)
	}
}

// What apps say of retention is told to the log.
func TestDeriveFromApps(t *testing.T) {
	t.Parallel()
	c := Default()
	c.Apps = []*app.App{
		{ID: "1", RetentionShare: 30, Retention: []app.Retention{
			{Channels: "cursor.*", Off: true},
			{Channels: "*", Age: 5 * time.Minute, Events: 7, Bytes: 3 << 20, Replicas: 3, Storage: "memory"},
		}},
		{ID: "2", Retention: []app.Retention{{Channels: "x", Storage: "file"}}},
	}
	c.Derive()
	rules := []broker.Rule{
		{App: "1", Channels: "cursor.*", Off: true},
		{App: "1", Channels: "*", MaxAge: 5 * time.Minute, EventsPerChannel: 7, MaxBytes: 3 << 20, Replicas: 3, Memory: true},
		{App: "2", Channels: "x"},
	}
	if diff := cmp.Diff(rules, c.Log.Rules); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]broker.AppShare{{App: "1", Percent: 30}, {App: "2"}}, c.Log.Apps); diff != "" {
		t.Errorf("shares (-want +got):\n%s", diff)
	}
}
