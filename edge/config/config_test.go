package config

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reecho/edge/app"
)

// source is a Source of maps.
func source(flags, env map[string]string) Source {
	look := func(m map[string]string) func(string) (string, bool) {
		return func(name string) (string, bool) {
			text, found := m[name]
			return text, found
		}
	}
	return Source{Flag: look(flags), Env: look(env)}
}

func mustWrite(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// oneApp is the environment of a server with an app, so that no development app
// is made.
func oneApp(more map[string]string) map[string]string {
	env := map[string]string{"REECHO_APP_ID": "77", "REECHO_APP_KEY": "k", "REECHO_APP_SECRET": "s"}
	for name, text := range more {
		env[name] = text
	}
	return env
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	file := mustWrite(t, "reecho.yaml", "listen: 127.0.0.1:1\nlinger: 10s\nmax_queued_bytes: 1MiB\nretention_age: 60\nlog_level: warn\n")
	envFile := mustWrite(t, ".env", "REECHO_LISTEN=127.0.0.1:2\nREECHO_LINGER=20s\nREECHO_PATH_PREFIX=/below\n")
	env := oneApp(map[string]string{"REECHO_LISTEN": "127.0.0.1:3", "REECHO_SYNC_INTERVAL": "always"})
	flags := map[string]string{"config": file, "env-file": envFile, "listen": "127.0.0.1:4", "demo": "true"}
	for _, step := range []struct {
		without string
		want    string
	}{{"", "127.0.0.1:4"}, {"flag", "127.0.0.1:3"}, {"env", "127.0.0.1:2"}, {"env-file", "127.0.0.1:1"}, {"config", DefaultListen}} {
		switch step.without {
		case "flag":
			delete(flags, "listen")
		case "env":
			delete(env, "REECHO_LISTEN")
		case "":
		default:
			delete(flags, step.without)
		}
		c, err := Load(source(flags, env))
		if err != nil {
			t.Fatal(err)
		}
		if c.Listen != step.want {
			t.Errorf("without %q: listen is %s, want %s", step.without, c.Listen, step.want)
		}
		if step.without == "" && (c.Edge.Linger != 20*time.Second || c.Socket.MaxQueuedBytes != 1<<20 || c.Log.MaxAge != time.Minute ||
			c.LogLevel != slog.LevelWarn || !c.Store.SyncAlways || c.Edge.PathPrefix != "/below" || !c.Demo) {
			t.Errorf("got %+v", c)
		}
	}
}

// A default is printed from the constant of its package, and read again.
func TestDefaultTexts(t *testing.T) {
	t.Parallel()
	for bytes, want := range map[int]string{1: "1", 1023: "1023", 1024: "1KiB", 1536: "1536", 100 << 10: "100KiB", 1 << 20: "1MiB", 3 << 29: "1536MiB", 1 << 30: "1GiB"} {
		text := size(bytes)
		if got, err := parseBytes(text); text != want || got != bytes || err != nil {
			t.Errorf("%d bytes are printed as %s, want %s, and read as %d (%v)", bytes, text, want, got, err)
		}
	}
	for d, want := range map[time.Duration]string{time.Second: "1s", 90 * time.Second: "1m30s", 2 * time.Minute: "2m", 24 * time.Hour: "24h", 90 * time.Minute: "1h30m"} {
		text := span(d)
		if got, err := parseDuration(text); text != want || got != d || err != nil {
			t.Errorf("%s is printed as %s, want %s, and read as %s (%v)", d, text, want, got, err)
		}
	}
	limits := app.DefaultLimits()
	for _, s := range limitSettings {
		var l app.Limits
		if err := assign(s.bind(&l), s.def); err != nil {
			t.Errorf("%s: %v", s.key, err)
		}
		got, want := reflect.ValueOf(s.bind(&l)).Elem().Interface(), reflect.ValueOf(s.bind(&limits)).Elem().Interface()
		if got != want {
			t.Errorf("limits.%s: the table says %v, package app %v", s.key, got, want)
		}
	}
}

// All problems come at once, each with its place.
func TestProblems(t *testing.T) {
	t.Parallel()
	file := mustWrite(t, "reecho.yaml", `
listen: nonsense
lingre: 10s
max-queued-bytes: 5
retention_events: 0
write_timeout: soon
retention_bytes: lots
log_format: xml
tls_cert: /tmp/cert.pem
apps:
  - {id: 1, key: a, secret: s, bogus: 1, enabled: perhaps, limits: {event_data_bytes: 5MiB, nothing: 1, presence_members: -1}}
  - {id: 1, key: a}
  - 5
`)
	_, err := Load(source(map[string]string{"config": file}, nil))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`unknown key "lingre"`, `did you mean max_queued_bytes?`, `write_timeout is "soon": should be a time like`, `retention_bytes is "lots"`,
		`apps[0]: unknown key "bogus"`, `apps[0].enabled is "perhaps": should be true or false`, `apps[0].limits: unknown key "nothing"`,
		`apps[0].limits.presence_members is "-1"`, `apps[2] should be a map`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	file = mustWrite(t, "reecho.yaml", "listen: nonsense\nmetrics_listen: nowhere\nretention_events: 0\nretention_age: 10ms\nsession_bytes: 10KiB\nidempotency_window: 10ms\nidempotency_bytes: 10KiB\nlog_format: xml\ntls_cert: /tmp/c\npath_prefix: x/\napps:\n  - {id: 1, key: a, secret: s, limits: {event_data_bytes: 5MiB}}\n  - {id: 1, key: a}\n")
	_, err = Load(source(map[string]string{"config": file}, nil))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"listen is \"nonsense\"", "metrics_listen is \"nowhere\": should be HOST:PORT", "retention_events is 0: must be above 0", "retention_age is 10ms: at least 100ms", "session_bytes is 10240: at least 1048576", "idempotency_window is 10ms: at least 1s", "idempotency_bytes is 10240: at least 1048576", "log_format", "tls_cert and tls_key belong together", "path_prefix",
		"apps[1] has the id of apps[0]", "apps[1] has an empty secret", "event_data_bytes is 5242880: at most 4194304",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	for _, flags := range []map[string]string{{"config": "/does/not/exist"}, {"env-file": "/does/not/exist"}, {"config": mustWrite(t, "x", "a: [")}} {
		if _, err := Load(source(flags, oneApp(nil))); err == nil {
			t.Errorf("%v: no error", flags)
		}
	}
}

// Retention rules: what they say, and what is wrong with them.
func TestRetention(t *testing.T) {
	t.Parallel()
	load := func(rules string) ([]app.Retention, error) {
		c, err := Load(source(map[string]string{"config": mustWrite(t, "reecho.yaml", "apps: [{id: 1, key: a, secret: s, retention: "+rules+"}]")}, nil))
		if err != nil {
			return nil, err
		}
		return c.Apps[0].Retention, nil
	}
	got, err := load(`[{channels: "cursor.*", off: true}, {channels: "*", age: 5m, events: 7, bytes: 3MiB, replicas: 3, storage: memory}]`)
	want := []app.Retention{
		{Channels: "cursor.*", Off: true},
		{Channels: "*", Age: 5 * time.Minute, Events: 7, Bytes: 3 << 20, Replicas: 3, Storage: "memory"},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for rules, want := range map[string]string{
		`5`:                                   "should be a list of {channels",
		`[5]`:                                 "retention[0] should be a map like",
		`[{channel: x}]`:                      `unknown key "channel"`,
		`[{age: 5m}]`:                         "retention[0].channels is empty",
		`[{channels: x, age: soon}]`:          `age is "soon": should be a time like`,
		`[{channels: x, age: 10ms}]`:          "age is 10ms: at least 100ms",
		`[{channels: x, events: 0}]`:          "events is 0: leave it out",
		`[{channels: x, bytes: -1}]`:          "bytes is",
		`[{channels: x, storage: disk}]`:      "should be file or memory",
		`[{channels: x, replicas: 2}]`:        "should be 1, 3 or 5",
		`[{channels: x, off: true, age: 5m}]`: "nothing else but channels",
	} {
		if _, err := load(rules); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", rules, err, want)
		}
	}
}

// ids lists apps as id/key.
func ids(apps []*app.App) (list []string) {
	for _, a := range apps {
		list = append(list, a.ID+"/"+a.Key())
	}
	return list
}

// Where apps come from.
func TestAppsFromTheEnvironment(t *testing.T) {
	t.Parallel()
	pusher := map[string]string{"PUSHER_APP_ID": "1", "PUSHER_APP_KEY": "p", "PUSHER_APP_SECRET": "s"}
	reverb := map[string]string{"REVERB_APP_ID": "2", "REVERB_APP_KEY": "r", "REVERB_APP_SECRET": "s"}
	join := func(maps ...map[string]string) map[string]string {
		all := map[string]string{}
		for _, m := range maps {
			for name, text := range m {
				all[name] = text
			}
		}
		return all
	}
	file := mustWrite(t, "reecho.yaml", "apps: [{id: 9, key: f, secret: s}]")
	tests := []struct {
		name  string
		flags map[string]string
		env   map[string]string
		want  []string
		err   string
	}{
		{name: "flags", flags: map[string]string{"app-id": "5", "app-key": "k", "app-secret": "s", "config": file}, env: pusher, want: []string{"5/k"}},
		{name: "our own variables", env: join(oneApp(nil), pusher), want: []string{"77/k"}},
		{name: "a list", env: join(pusher, map[string]string{"REECHO_APPS": `[{"id": 3, "key": "l", "secret": "s"}, {id: "4", key: m, secret: s}]`}), want: []string{"3/l", "4/m"}},
		{name: "Pusher's", env: pusher, want: []string{"1/p"}},
		{name: "Reverb's", env: reverb, want: []string{"2/r"}},
		{name: "both", env: join(pusher, reverb), want: []string{"2/r", "1/p"}},
		{name: "both, one in use", env: join(pusher, reverb, map[string]string{"BROADCAST_CONNECTION": "reverb"}), want: []string{"2/r"}},
		{name: "both, the old name", env: join(pusher, reverb, map[string]string{"BROADCAST_DRIVER": "pusher"}), want: []string{"1/p"}},
		{name: "both the same", env: join(pusher, map[string]string{"REVERB_APP_ID": "1", "REVERB_APP_KEY": "p", "REVERB_APP_SECRET": "s"}), want: []string{"1/p"}},
		{name: "empty ones", env: join(reverb, map[string]string{"PUSHER_APP_ID": "", "PUSHER_APP_KEY": "", "PUSHER_APP_SECRET": ""}), want: []string{"2/r"}},
		{name: "file", flags: map[string]string{"config": file}, want: []string{"9/f"}},
		{name: "partly", env: map[string]string{"PUSHER_APP_ID": "1", "PUSHER_APP_KEY": "p"}, err: "missing: secret"},
		{name: "a list that is none", env: map[string]string{"REECHO_APPS": "5"}, err: "should be a list"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := Load(source(tt.flags, tt.env))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				return
			}
			if diff := cmp.Diff(tt.want, ids(c.Apps)); diff != "" || err != nil {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestLaravelEnvFile(t *testing.T) {
	t.Parallel()
	path := mustWrite(t, ".env", `APP_NAME=Laravel
BROADCAST_CONNECTION=reverb

# comment
export REVERB_APP_ID=123456
REVERB_APP_KEY="quoted key"
REVERB_APP_SECRET='single' # behind
VITE_REVERB_APP_KEY="${REVERB_APP_KEY}"
PUSHER_APP_ID=
`)
	c, err := Load(source(map[string]string{"env-file": path}, nil))
	if err == nil || !strings.Contains(err.Error(), "the key holds a character that has a meaning in URLs or signatures: a blank") {
		t.Errorf("got %v", err)
	}
	if len(c.Apps) != 1 || c.Apps[0].ID != "123456" || c.Apps[0].Credentials[0].Secret != "single" {
		t.Errorf("got %v", ids(c.Apps))
	}
}

// Every key of an app is read into its field.
func TestAppKeys(t *testing.T) {
	t.Parallel()
	file := mustWrite(t, "reecho.yaml", `
apps:
  - id: 5
    credentials: [{key: old, secret: s1}, {key: new, secret: s2}]
    enabled: false
    client_events: false
    unsubscribed_client_events: true
    client_events_per_second: 0
    user_authentication: false
    resume_grants: false
    subscription_counts: true
    watchlist: true
    max_connections: 7
    allowed_origins: [example.com, "*.example.org"]
    tls_only: true
    authorized_connections: true
    authorization_timeout: 5s
    stream_authorization_time: 10m
    activity_timeout: 30
    ping_interval: 20
    close_above_rate: true
    subscription_errors: false
    lenient_protocol: true
    lenient_subscribe: true
    compression: true
    compression_min_bytes: 1KiB
    limits: {event_data_bytes: 100KiB, cache_ttl: 1h, presence_members: 1000, message_bytes: 5KiB, messages_per_interval: 60, message_interval: 5m}
`)
	c, err := Load(source(map[string]string{"config": file}, nil))
	if err != nil {
		t.Fatal(err)
	}
	limits := app.DefaultLimits()
	limits.ClientEventsPerSecond, limits.MaxConnections, limits.EventDataBytes = 0, 7, 100<<10
	limits.CacheTTL, limits.PresenceMembers = time.Hour, 1000
	limits.MessageBytes, limits.MessagesPerInterval, limits.MessageInterval = 5<<10, 60, 5*time.Minute
	origins, err := app.ParseOrigins("example.com", "*.example.org")
	if err != nil {
		t.Fatal(err)
	}
	want := &app.App{
		ID: "5", Credentials: []app.Credential{{Key: "old", Secret: "s1"}, {Key: "new", Secret: "s2"}},
		TLSOnly: true, AuthorizedConnections: true, AuthorizationTimeout: 5 * time.Second, StreamAuthorizationTime: 10 * time.Minute, SubscriptionCounts: true, Watchlist: true,
		LenientProtocol: true, LenientSubscribe: true, Compression: true, CompressionMinBytes: 1 << 10, AllowedOrigins: origins,
		ActivityTimeout: 30 * time.Second, PingInterval: 20 * time.Second, CloseAboveRate: true, UnsubscribedClientEvents: true, Limits: limits,
	}
	if diff := cmp.Diff(want, c.Apps[0]); diff != "" {
		t.Errorf("app (-want +got):\n%s", diff)
	}
	if text := fmt.Sprintf("%v %+v", c.Apps[0].Credentials, c.Apps[0].Credentials[0]); strings.Contains(text, "s1") {
		t.Errorf("a secret is printed: %s", text)
	}
}

func TestDevelopmentApp(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	flags := map[string]string{"data-dir": dir}
	first, err := Load(source(flags, nil))
	if err != nil || !first.Development {
		t.Fatalf("development %v, error %v", first.Development, err)
	}
	second, err := Load(source(flags, nil))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first.Apps, second.Apps); diff != "" {
		t.Errorf("after a restart (-first +second):\n%s", diff)
	}
	path := filepath.Join(dir, developmentFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(source(flags, nil)); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("got %v", err)
	}
}

func TestMemoryMarkAndMetrics(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ flag, text, problem string }{
		{"memory-mark", "101%", `memory-mark is "101%": should be a share like 85%`},
		{"memory-mark", "some", `memory-mark is "some": should be a share like 85%`},
		{"metrics-listen", DefaultListen, "metrics need an address of their own, such as 127.0.0.1:9601"},
		{"metrics-listen", "9601", `metrics_listen is "9601": should be HOST:PORT`},
	} {
		_, err := Load(source(map[string]string{test.flag: test.text}, oneApp(nil)))
		if err == nil || !strings.Contains(err.Error(), test.problem) {
			t.Errorf("--%s %s: %v, want %q", test.flag, test.text, err, test.problem)
		}
	}
	c, err := Load(source(map[string]string{"memory-mark": "2GiB", "metrics-listen": "unix:/run/m.sock"}, oneApp(nil)))
	if err != nil || c.MemoryMark.Bytes != 2<<30 || c.MetricsListen != "unix:/run/m.sock" {
		t.Errorf("mark %+v, metrics %q: %v", c.MemoryMark, c.MetricsListen, err)
	}
}
