package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"reecho/edge/socket"
)

// product is a server whose variables mean something here: what an operator who
// comes from it has in an .env already.
type product struct {
	name   string
	prefix string // of all its variables
	driver string // Laravel's name of the broadcaster that talks to it

	// app is what stands before ID, KEY and SECRET; "" for a server that
	// takes those of another product.
	app string
	// host and port are the variables of the address that it listens on, port has
	// a default.
	host, port, defaultPort string
	// cert and key are the variables with its certificate's files.
	cert, key string
	// away are the variables of the address that the application talks to.
	away address

	variables []variable
}

// address is how an application names a server.
type address struct{ host, port, scheme string }

// variable is one of a product's.
type variable struct {
	name string // or its beginning, with * behind it
	// sets are the settings that it gives a value. Without, does says what it is for
	// (see foreign.soketiHooks), or unused why for nothing.
	sets   []meaning
	does   string
	unused string
	// when is the variable that must be true for it to mean anything. What that one
	// sets, this one sets anew.
	when string
}

// meaning is a setting's value as a variable gives it.
type meaning struct {
	// setting is a key of the file, or of an app with apps[]. before it.
	setting string
	// read makes the setting's text of the variable's; nil: it is the same. The
	// setting is left alone for "".
	read func(text string) (string, error)
	// raises: the setting is only ever made larger, for the sake of another one,
	// and whoever sets it himself has it his way.
	raises bool
}

// passError is why a value that is right where it comes from means nothing here.
type passError string

func (p passError) Error() string { return string(p) }

const (
	noRedis     = "a cluster needs no Redis and no other server between its nodes: --cluster-name, --cluster-peers"
	noMetrics   = "names of metrics begin with reecho_, and --metrics-listen says where they are"
	noPage      = "an operator's page is not set by it"
	noDatabase  = "apps stand in the file of --config or in REECHO_APPS"
	noIngest    = "it is for what runs inside of Laravel"
	noPass      = "a private key with a passphrase is not read: openssl pkey -in FILE writes one without"
	noAuthority = "clients are not asked for certificates"
	noRate      = "what backends call is bounded by memory and not by a rate: --request-memory"
	noCluster   = "a Pusher cluster is a name of Pusher's own hosts"
)

// products in the order in which they count: of two that give one setting a value,
// the first.
var products = []product{
	{
		name: "Reverb", prefix: "REVERB_", driver: "reverb", app: "REVERB_APP_",
		host: "REVERB_SERVER_HOST", port: "REVERB_SERVER_PORT", defaultPort: "8080",
		away: address{"REVERB_HOST", "REVERB_PORT", "REVERB_SCHEME"},
		variables: []variable{
			{name: "REVERB_SERVER_PATH", sets: []meaning{{setting: "path_prefix", read: readPath}}},
			{name: "REVERB_MAX_REQUEST_SIZE", sets: []meaning{
				{setting: "apps[].limits.request_bytes", read: readCount},
				{setting: "apps[].limits.event_data_bytes", read: upToEvent(readCount)},
			}},
			{name: "REVERB_APP_MAX_CONNECTIONS", sets: []meaning{{setting: "apps[].max_connections", read: readCount}}},
			{name: "REVERB_APP_MAX_MESSAGE_SIZE", sets: []meaning{
				{setting: "apps[].limits.message_bytes", read: readMessageBytes},
				{setting: "apps[].limits.client_event_data_bytes", read: upToEvent(readMessageBytes)},
				{setting: "max_message_bytes", read: readMessageBytes, raises: true},
			}},
			{name: "REVERB_APP_ACTIVITY_TIMEOUT", sets: []meaning{{setting: "apps[].activity_timeout", read: readSeconds}}},
			{name: "REVERB_APP_PING_INTERVAL", sets: []meaning{{setting: "apps[].ping_interval", read: readSeconds}}},
			{name: "REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM", sets: []meaning{
				{setting: "apps[].client_events", read: readSenders(true, true, false)},
				{setting: "apps[].unsubscribed_client_events", read: readSenders(true, false, false)},
			}},
			// Not in the stock config/reverb.php, where many put it.
			{name: "REVERB_ALLOWED_ORIGINS", sets: []meaning{{setting: "apps[].allowed_origins", read: readOrigins}}},
			{name: "REVERB_APP_ALLOWED_ORIGINS", sets: []meaning{{setting: "apps[].allowed_origins", read: readOrigins}}},
			{name: "REVERB_APP_RATE_LIMITING_ENABLED", sets: []meaning{
				{setting: "apps[].limits.messages_per_interval", read: exactly(ifTrue("60"))},
				{setting: "apps[].limits.message_interval", read: exactly(ifTrue("60s"))},
			}},
			{name: "REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS", when: "REVERB_APP_RATE_LIMITING_ENABLED", sets: []meaning{{setting: "apps[].limits.messages_per_interval", read: readCount}}},
			{name: "REVERB_APP_RATE_LIMIT_DECAY_SECONDS", when: "REVERB_APP_RATE_LIMITING_ENABLED", sets: []meaning{{setting: "apps[].limits.message_interval", read: readSeconds}}},
			{name: "REVERB_APP_RATE_LIMIT_TERMINATE", when: "REVERB_APP_RATE_LIMITING_ENABLED", sets: []meaning{{setting: "apps[].close_above_rate", read: readBool}}},
			{name: "REVERB_SCALING_ENABLED", unused: noRedis, when: "REVERB_SCALING_ENABLED"},
			{name: "REVERB_SCALING_CHANNEL", unused: noRedis, when: "REVERB_SCALING_ENABLED"},
			{name: "REDIS_URL", unused: noRedis, when: "REVERB_SCALING_ENABLED"},
			{name: "REDIS_HOST", unused: noRedis, when: "REVERB_SCALING_ENABLED"},
			{name: "REDIS_PORT", unused: noRedis, when: "REVERB_SCALING_ENABLED"},
			{name: "REDIS_USERNAME", unused: noRedis, when: "REVERB_SCALING_ENABLED"},
			{name: "REDIS_PASSWORD", unused: noRedis, when: "REVERB_SCALING_ENABLED"},
			{name: "REDIS_DB", unused: noRedis, when: "REVERB_SCALING_ENABLED"},
			{name: "REDIS_TIMEOUT", unused: noRedis, when: "REVERB_SCALING_ENABLED"},
			{name: "REVERB_SERVER", unused: noIngest},
			{name: "REVERB_PULSE_INGEST_INTERVAL", unused: noIngest},
			{name: "REVERB_TELESCOPE_INGEST_INTERVAL", unused: noIngest},
		},
	},
	{
		name: "soketi", prefix: "SOKETI_", driver: "pusher", app: "SOKETI_DEFAULT_APP_",
		host: "SOKETI_HOST", port: "SOKETI_PORT", defaultPort: "6001", cert: "SOKETI_SSL_CERT", key: "SOKETI_SSL_KEY",
		variables: []variable{
			{name: "SOKETI_PATH_PREFIX", sets: []meaning{{setting: "path_prefix", read: readPath}}},
			{name: "SOKETI_DEBUG", sets: []meaning{{setting: "log_level", read: ifTrue("debug")}}},
			{name: "SOKETI_DEFAULT_APP_ENABLED", sets: []meaning{{setting: "apps[].enabled", read: readBool}}},
			{name: "SOKETI_DEFAULT_APP_MAX_CONNS", sets: []meaning{{setting: "apps[].max_connections", read: readConnections}}},
			{name: "SOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES", sets: []meaning{{setting: "apps[].client_events", read: readBool}}},
			{name: "SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC", sets: []meaning{{setting: "apps[].client_events_per_second", read: readLimit}}},
			// soketi closes who has not signed in within the timeout.
			{name: "SOKETI_DEFAULT_APP_USER_AUTHENTICATION", sets: []meaning{
				{setting: "apps[].user_authentication", read: readBool}, {setting: "apps[].authorized_connections", read: readBool},
			}},
			{name: "SOKETI_USER_AUTHENTICATION_TIMEOUT", sets: []meaning{{setting: "apps[].authorization_timeout", read: readMilliseconds}}},
			{name: "SOKETI_CHANNEL_LIMITS_MAX_NAME_LENGTH", sets: []meaning{{setting: "apps[].limits.channel_name_length", read: readCount}}},
			{name: "SOKETI_CHANNEL_CACHE_TTL", sets: []meaning{{setting: "apps[].limits.cache_ttl", read: readSeconds}}},
			{name: "SOKETI_EVENT_MAX_BATCH_SIZE", sets: []meaning{{setting: "apps[].limits.batch_events", read: readCount}}},
			{name: "SOKETI_EVENT_MAX_CHANNELS_AT_ONCE", sets: []meaning{{setting: "apps[].limits.channels_per_publish", read: readCount}}},
			{name: "SOKETI_EVENT_MAX_NAME_LENGTH", sets: []meaning{{setting: "apps[].limits.event_name_length", read: readCount}}},
			// Its requests and messages may be 100 MB: what holds an event must be let in.
			{name: "SOKETI_EVENT_MAX_SIZE_IN_KB", sets: []meaning{
				{setting: "apps[].limits.event_data_bytes", read: upToEvent(readKilobytes)},
				{setting: "apps[].limits.client_event_data_bytes", read: upToEvent(readKilobytes)},
				{setting: "apps[].limits.request_bytes", read: readAround, raises: true},
				{setting: "max_message_bytes", read: readAround, raises: true},
			}},
			{name: "SOKETI_PRESENCE_MAX_MEMBERS", sets: []meaning{{setting: "apps[].limits.presence_members", read: readCount}}},
			{name: "SOKETI_PRESENCE_MAX_MEMBER_SIZE", sets: []meaning{{setting: "apps[].limits.user_info_bytes", read: readKilobytes}}},
			{name: "SOKETI_SSL_PASS", unused: noPass},
			{name: "SOKETI_SSL_CA", unused: noAuthority},
			{name: soketiWebhooks, does: "`webhooks` of the app, also at private addresses; functions of AWS Lambda are not called"},
			{name: soketiBatching, does: "`batch_events` of these webhooks"},
			{name: soketiDuration, does: "`batch_time` of these webhooks"},
			{name: "SOKETI_DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SEC", unused: noRate},
			{name: "SOKETI_DEFAULT_APP_MAX_READ_REQ_PER_SEC", unused: noRate},
			{name: "SOKETI_APP_MANAGER_*", unused: noDatabase},
			{name: "SOKETI_DB_*", unused: noDatabase},
			{name: "SOKETI_ADAPTER_*", unused: noRedis},
			{name: "SOKETI_CACHE_*", unused: noRedis},
			{name: "SOKETI_CLUSTER_*", unused: noRedis},
			{name: "SOKETI_QUEUE_*", unused: noRedis},
			{name: "SOKETI_RATE_LIMITER_*", unused: noRedis},
			{name: "SOKETI_METRICS_ENABLED", sets: []meaning{{setting: "metrics_listen", read: ifTrue(metricsHost + "9601")}}},
			{name: "SOKETI_METRICS_SERVER_PORT", when: "SOKETI_METRICS_ENABLED", sets: []meaning{{setting: "metrics_listen", read: readMetricsPort}}},
			{name: "SOKETI_METRICS_HOST", unused: noMetrics, when: "SOKETI_METRICS_ENABLED"},
			{name: "SOKETI_METRICS_DRIVER", unused: noMetrics, when: "SOKETI_METRICS_ENABLED"},
			{name: "SOKETI_METRICS_PROMETHEUS_PREFIX", unused: noMetrics, when: "SOKETI_METRICS_ENABLED"},
			{name: "SOKETI_MODE", unused: "a server does all that full, server and worker do"},
			// There it is what a balancer is told; new clients are what both are about.
			{name: "SOKETI_HTTP_ACCEPT_TRAFFIC_MEMORY_THRESHOLD", sets: []meaning{{setting: "memory_mark", read: readPercent}}},
			{name: "SOKETI_SHUTDOWN_GRACE_PERIOD", unused: "--drain-time and --shutdown-timeout say how a server stops"},
		},
	},
	{
		name: "laravel-websockets", prefix: "LARAVEL_WEBSOCKETS_", driver: "pusher",
		port: "LARAVEL_WEBSOCKETS_PORT", defaultPort: "6001",
		cert: "LARAVEL_WEBSOCKETS_SSL_LOCAL_CERT", key: "LARAVEL_WEBSOCKETS_SSL_LOCAL_PK",
		variables: []variable{
			{name: "LARAVEL_WEBSOCKETS_SSL_PASSPHRASE", unused: noPass},
			{name: "LARAVEL_WEBSOCKETS_SSL_CA", unused: noAuthority},
			{name: "LARAVEL_WEBSOCKETS_DOMAIN", unused: noPage},
			{name: "LARAVEL_WEBSOCKETS_PATH", unused: noPage},
			{name: "LARAVEL_WEBSOCKETS_HOST", unused: "applications use it for where the server is as well as for where it listens: --listen"},
			{name: "WEBSOCKETS_REPLICATION_MODE", unused: noRedis},
			{name: "WEBSOCKETS_REDIS_REPLICATION_CONNECTION", unused: noRedis},
		},
	},
	{
		name: "Pusher", prefix: "PUSHER_", driver: "pusher", app: "PUSHER_APP_", defaultPort: "6001",
		away: address{"PUSHER_HOST", "PUSHER_PORT", "PUSHER_SCHEME"},
		variables: []variable{
			{name: "PUSHER_APP_CLUSTER", unused: noCluster},
			{name: "PUSHER_APP_PATH", unused: "it is the path of a proxy in front; --path-prefix, if the proxy leaves it there"},
			{name: "PUSHER_APP_HOST", unused: "an app is known by its key and not by a host"},
		},
	},
}

// names are the variables of a product that mean something here.
func (p *product) names() []string {
	var names []string
	if p.app != "" {
		names = append(names, p.app+"ID", p.app+"KEY", p.app+"SECRET")
	}
	for _, name := range []string{p.host, p.port, p.cert, p.key, p.away.host, p.away.port, p.away.scheme} {
		if name != "" {
			names = append(names, name)
		}
	}
	for _, v := range p.variables {
		if v.unused == "" {
			names = append(names, v.name)
		}
	}
	return names
}

// ForeignMarkdown returns the table of other servers' variables for SETTINGS.md, which
// a test of this package compares with them.
func ForeignMarkdown() string {
	var b strings.Builder
	b.WriteString("| variable | here |\n|---|---|\n")
	for i := range products {
		p := &products[i]
		if p.app != "" {
			fmt.Fprintf(&b, "| `%[1]sID`, `%[1]sKEY`, `%[1]sSECRET` | an app |\n", p.app)
		}
		if p.host != "" {
			fmt.Fprintf(&b, "| `%s` | the host of `listen` |\n", p.host)
		}
		if p.port != "" {
			fmt.Fprintf(&b, "| `%s` | the port of `listen` |\n", p.port)
		}
		if p.away.host != "" {
			fmt.Fprintf(&b, "| `%s`, `%s`, `%s` | the port of `listen`, if no other one is named; a certificate of Herd or Valet |\n", p.away.host, p.away.port, p.away.scheme)
		}
		if p.cert != "" {
			fmt.Fprintf(&b, "| `%s`, `%s` | `tls_cert`, `tls_key` |\n", p.cert, p.key)
		}
		names, of := []string{}, ""
		for _, v := range append(p.variables, variable{}) {
			// Those that are not used for the same reason share a row.
			if of != "" && v.unused != of {
				fmt.Fprintf(&b, "| `%s` | not used: %s |\n", strings.Join(names, "`, `"), of)
				names = nil
			}
			if of = v.unused; of != "" {
				names = append(names, v.name)
			} else if v.name != "" {
				fmt.Fprintf(&b, "| `%s` | %s |\n", v.name, v.markdown())
			}
		}
	}
	fmt.Fprintf(&b, "| `%s`, of the real environment | the port of `listen`, if no product's server has one |\n", platformPort)
	return b.String()
}

func (v *variable) markdown() string {
	if v.does != "" {
		return v.does
	}
	var sets []string
	for _, m := range v.sets {
		text := "`" + strings.TrimPrefix(m.setting, ofApp) + "`"
		if strings.HasPrefix(m.setting, ofApp) {
			text += " of the app"
		}
		if m.raises {
			text += ", if it is smaller"
		}
		sets = append(sets, text)
	}
	if v.when != "" {
		sets = append(sets, "if `"+v.when+"` is true")
	}
	return strings.Join(sets, "; ")
}

var (
	errCount   = errors.New("should be a whole number above 0")
	errLimit   = errors.New("should be a whole number above 0, or -1 for no limit")
	errBool    = errors.New("should be true or false")
	errKB      = errors.New("should be a number of kilobytes above 0, like 100 or 0.5")
	errSenders = errors.New("should be all, members or none")
)

// readCount reads a number of things, bytes among them. What 0 means where it comes
// from, that nothing is let through, is nothing that anybody wants.
func readCount(text string) (string, error) {
	n, err := parseInt(text, 1)
	switch {
	case errors.Is(err, errWhole) || err == nil && n == 0:
		return "", errCount
	case err != nil:
		return "", err
	}
	return strconv.Itoa(n), nil
}

func readSeconds(text string) (string, error) { return withUnit(text, "s") }

func readMilliseconds(text string) (string, error) { return withUnit(text, "ms") }

func withUnit(text, unit string) (string, error) {
	number, err := readCount(text)
	if err != nil {
		return "", err
	}
	return number + unit, nil
}

// readLimit reads a number of things of which -1, or anything below 0, is no limit.
func readLimit(text string) (string, error) {
	if rest, negative := strings.CutPrefix(text, "-"); negative {
		if number, err := readCount(rest); number == "" || err != nil {
			return "", errLimit
		}
		return "0", nil
	}
	number, err := readCount(text)
	if errors.Is(err, errCount) {
		return "", errLimit
	}
	return number, err
}

// readConnections is readLimit where 0 is no limit, too.
func readConnections(text string) (string, error) {
	if text == "0" {
		return text, nil
	}
	return readLimit(text)
}

// upToEvent reads bytes that may be more than an event can have here.
func upToEvent(read func(string) (string, error)) func(string) (string, error) {
	return func(text string) (string, error) {
		number, err := read(text)
		if err != nil {
			return "", err
		}
		n, err := strconv.Atoi(number)
		return strconv.Itoa(min(n, maxEventBytes)), err
	}
}

// readMessageBytes reads bytes of which 0 is no limit.
func readMessageBytes(text string) (string, error) {
	if n, err := parseInt(text, 1); err == nil && n == 0 {
		return "", passError("0 is no limit there; here max_message_bytes is one")
	}
	return readCount(text)
}

// readKilobytes reads a number of 1,024 bytes, which may have a fraction.
func readKilobytes(text string) (string, error) {
	n, err := strconv.ParseFloat(text, 64)
	bytes := math.Floor(n * 1024)
	if err != nil || !(bytes >= 1) || bytes > maxSetting {
		return "", errKB
	}
	return strconv.FormatInt(int64(bytes), 10), nil
}

// readAround is what a message or a request with an event of so many kilobytes has at
// most: its data may double when it is escaped, and names come on top.
func readAround(text string) (string, error) {
	number, err := upToEvent(readKilobytes)(text)
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(number)
	return strconv.Itoa(2*n + socket.DefaultMaxHeaderBytes), err
}

// readBool reads what PHP and JSON take for a boolean.
func readBool(text string) (string, error) {
	switch strings.ToLower(text) {
	case "true", "(true)", "1":
		return "true", nil
	case "false", "(false)", "0":
		return "false", nil
	}
	return "", errBool
}

// ifTrue gives a value if a variable is true, and nothing if it is false.
func ifTrue(value string) func(string) (string, error) {
	return func(text string) (string, error) {
		on, err := readBool(text)
		if err != nil || on != "true" {
			return "", err
		}
		return value, nil
	}
}

// exactly refuses a 1: it is text for Reverb and switches nothing on, which is not what
// whoever wrote it thinks.
func exactly(read func(string) (string, error)) func(string) (string, error) {
	return func(text string) (string, error) {
		if text == "1" {
			return "", errBool
		}
		return read(text)
	}
}

// readSenders reads whose client events Reverb takes: a setting's value for each.
func readSenders(all, members, none bool) func(string) (string, error) {
	return func(text string) (string, error) {
		switch text {
		case "all":
			return strconv.FormatBool(all), nil
		case "members":
			return strconv.FormatBool(members), nil
		case "none":
			return strconv.FormatBool(none), nil
		}
		return "", errSenders
	}
}

// metricsHost is where soketi's metrics are: what asks for them is on another machine,
// or in another container.
const metricsHost = "0.0.0.0:"

func readMetricsPort(text string) (string, error) {
	port, err := readPort(text)
	return metricsHost + port, err
}

// readPath reads a prefix with or without slashes around it.
func readPath(text string) (string, error) {
	path := strings.Trim(text, "/")
	if path == "" {
		return "", nil
	}
	return "/" + path, nil
}

// readOrigins reads patterns for hosts, of which * among others is all.
func readOrigins(text string) (string, error) {
	for _, pattern := range strings.Split(text, ",") {
		if strings.TrimSpace(pattern) == "*" {
			return "*", nil
		}
	}
	return text, nil
}
