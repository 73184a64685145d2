// Package config reads what an operator may set: from flags, the environment, a
// file, and defaults, in this order of precedence.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"reecho/broker"
	"reecho/broker/natsd"
	"reecho/broker/outside"
	"reecho/edge"
	"reecho/edge/acme"
	"reecho/edge/api"
	"reecho/edge/app"
	"reecho/edge/pressure"
	"reecho/edge/socket"
	"reecho/edge/sse"
	"reecho/edge/webhook"
	"reecho/edge/xhr"
	"reecho/replay/receipt"
	"reecho/replay/session"
)

// Config is the configuration of a node: the Configs of the packages it is made
// of, and what belongs to none of them. Start from Default. What the fields of a
// package mean, and their units, is said there.
//
// A setting that several packages need is set in one of them, and Derive hands it
// to the others. What only a running node has, a ledger or a budget, is nil here.
type Config struct {
	Store    natsd.Config
	Log      broker.Config
	Edge     edge.Config
	Socket   socket.Config
	Streams  sse.Config
	XHR      xhr.Config
	API      api.Config
	Webhooks webhook.Config
	ACME     acme.Config

	Listen         string   // HOST:PORT or unix:PATH
	UnixSocketMode string   // octal
	TLSCert        string   // file; "" without TLS
	TLSKey         string   // file
	TrustedProxies []string // see socket.ParseProxies
	QueueMemory    int      // bytes; one budget for Socket, Streams and XHR
	MemoryMark     pressure.Mark
	MetricsListen  string // HOST:PORT or unix:PATH; "": no metrics
	Demo           bool   // serve the demo page although apps are configured
	LogLevel       slog.Level
	LogFormat      string // "text" or "json"

	// Cluster is Store.Mesh, which is nil while it has no name, and without Storage.
	Cluster        natsd.Mesh
	ClusterTLSCert string // file; "" without TLS
	ClusterTLSKey  string // file
	ClusterTLSCA   string // file
	// Storage is false for a node that keeps nothing, and is a leaf of the cluster: Leaf
	// is in the place of Store then.
	Storage bool
	// NATS is the server of others that is used if it has URLs.
	NATS         outside.Config
	NATSReplicas int
	// Isolation is how long a node may be cut off from its cluster until it sends its
	// clients away; 0: it keeps them.
	Isolation time.Duration

	// Version is that of the program, for the metrics.
	Version string

	DrainTime       time.Duration
	ShutdownTimeout time.Duration

	Apps []*app.App
	// Development is set when no app was configured: Apps holds one with
	// generated credentials, which are shown to whoever starts the server.
	Development bool
	// Warnings are what is odd and stops nothing, to be logged.
	Warnings []string
	// Used says for what variables of other servers were used, and Unused which were
	// seen and not used, and why; both without secrets, to be logged.
	Used, Unused []string

	places    map[*app.App]string // where apps come from, for messages
	asLaravel map[*app.App]bool   // apps whose secret is what Laravel reads, right or wrong
}

// Derive sets the fields of packages that follow from others: what a setting means
// to a second package, and what the apps mean to the log. It is the one place that
// does; what stands in these fields before is lost. node.Start calls it.
func (c *Config) Derive() {
	c.Streams.PathPrefix, c.XHR.PathPrefix, c.API.PathPrefix = c.Edge.PathPrefix, c.Edge.PathPrefix, c.Edge.PathPrefix
	c.Streams.MaxQueuedBytes, c.Streams.WriteTimeout = c.Socket.MaxQueuedBytes, c.Socket.WriteTimeout
	c.XHR.MaxMessageBytes, c.XHR.MaxQueuedBytes, c.XHR.WriteTimeout = c.Socket.MaxMessageBytes, c.Socket.MaxQueuedBytes, c.Socket.WriteTimeout
	c.Edge.Sessions.Retention = c.Log.MaxAge
	shared := c.Cluster.Cluster != "" || len(c.NATS.URLs) > 0
	if shared && c.Store.Name == "" {
		// Without a name natsd says what is missing.
		c.Store.Name, _ = os.Hostname()
	}
	if len(c.NATS.URLs) > 0 {
		c.NATS.MinPayload = maxEvent(c.Apps)
		c.Log.Shared, c.Log.Replicas, c.Log.Node, c.Log.Domain = true, c.NATSReplicas, c.Store.Name, c.NATS.Domain
	}
	if c.Cluster.Cluster != "" && !c.Storage {
		c.Log.Shared, c.Log.Replicas, c.Log.Node, c.Log.Domain, c.Log.Relay = true, c.Cluster.Size, c.Store.Name, natsd.Domain, natsd.RelayPrefix
	}
	if c.Cluster.Cluster != "" && c.Storage {
		c.Store.Mesh, c.Log.Shared, c.Log.Replicas, c.Log.Node = &c.Cluster, true, c.Cluster.Size, c.Store.Name
	}
	c.Log.Rules, c.Log.Apps = rules(c.Apps), shares(c.Apps)
	c.Log.Agreed = []string{fmt.Sprintf("idempotency_window %v", c.Edge.Receipts.Window), fmt.Sprintf("idempotency_bytes %d", c.Edge.Receipts.Bytes)}
}

// maxEvent is the largest message that the apps can make, in bytes: an event's data
// may double when it is escaped, and its names and headers come on top.
func maxEvent(apps []*app.App) int {
	largest := 0
	for _, a := range apps {
		largest = max(largest, a.Limits.EventDataBytes)
	}
	return 2*largest + 64<<10
}

// rules are the retention rules of all apps.
func rules(apps []*app.App) []broker.Rule {
	var all []broker.Rule
	for _, a := range apps {
		for _, r := range a.Retention {
			all = append(all, broker.Rule{
				App: a.ID, Channels: r.Channels, Off: r.Off, MaxAge: r.Age, EventsPerChannel: r.Events,
				MaxBytes: r.Bytes, Replicas: r.Replicas, Memory: r.Storage == "memory",
			})
		}
	}
	return all
}

// shares are the parts of the retention of all apps.
func shares(apps []*app.App) []broker.AppShare {
	all := make([]broker.AppShare, len(apps))
	for i, a := range apps {
		all[i] = broker.AppShare{App: a.ID, Percent: a.RetentionShare}
	}
	return all
}

// Default returns the documented defaults, without apps.
func Default() Config {
	var c Config
	for _, s := range settings {
		if err := assign(s.bind(&c), s.def); err != nil {
			panic(fmt.Sprintf("default of %s: %v", s.key, err))
		}
	}
	return c
}

// NewApp returns an app with the documented defaults and without credentials.
func NewApp() *app.App {
	a := &app.App{}
	for _, s := range appSettings {
		if s.def == "" {
			continue
		}
		if err := assign(s.bind(a), s.def); err != nil {
			panic(fmt.Sprintf("default of %s: %v", s.key, err))
		}
	}
	a.Limits = app.DefaultLimits()
	return a
}

// Validate reports every problem at once. Each names the setting, its value and
// what to do; of credentials it says where they are and what is wrong, never
// what they are. Of what is odd, and still means something, it makes Warnings.
// The packages check their Configs, too, by the names of fields: what is said here
// comes before, by the keys that an operator knows, and refuses zeros that are
// defaults there.
func (c *Config) Validate() error {
	problems := []error{
		checkListen("listen", c.Listen), checkMetrics(c), checkPrefix(c.Edge.PathPrefix), checkProxies(c), checkCluster(c), checkACME(c),
		checkPath("data_dir", c.Store.Dir), checkPath("tls_cert", c.TLSCert), checkPath("tls_key", c.TLSKey),
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		problems = append(problems, errors.New("tls_cert and tls_key belong together: set both or none"))
	}
	if c.Store.Dir == "" {
		problems = append(problems, errors.New("data_dir is empty: name a folder"))
	}
	if c.Edge.Sessions.Bytes > 0 && c.Edge.Sessions.Bytes < session.MinBytes {
		problems = append(problems, fmt.Errorf("session_bytes is %d: at least %d, for one session may be that large", c.Edge.Sessions.Bytes, session.MinBytes))
	}
	if c.XHR.Heartbeat > xhr.MaxHeartbeat {
		problems = append(problems, fmt.Errorf("xhr_heartbeat is %s: at most %s, for clients wait no longer than 30s", c.XHR.Heartbeat, xhr.MaxHeartbeat))
	}
	if w := c.Edge.Receipts.Window; w > 0 && w < receipt.MinWindow {
		problems = append(problems, fmt.Errorf("idempotency_window is %s: at least %s", w, receipt.MinWindow))
	}
	if c.Edge.Receipts.Bytes > 0 && c.Edge.Receipts.Bytes < receipt.MinBytes {
		problems = append(problems, fmt.Errorf("idempotency_bytes is %d: at least %d", c.Edge.Receipts.Bytes, receipt.MinBytes))
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		problems = append(problems, fmt.Errorf("log_format is %s: should be text or json", quote(c.LogFormat)))
	}
	for _, s := range settings {
		problems = append(problems, checkRange(s.key, s.bind(c), s.positive))
	}
	problems = append(problems, checkAge("retention_age", c.Log.MaxAge), checkAge("session_memory_time", c.Edge.Sessions.Memory))
	for i, a := range c.Apps {
		where, known := c.places[a]
		if !known {
			where = fmt.Sprintf("apps[%d]", i)
		}
		problems = append(problems, validateApp(where, a), c.validateCredentials(where, a))
	}
	problems = append(problems, checkShares(c.Apps))
	_, err := app.NewRegistry(c.Apps)
	return errors.Join(append(problems, err)...)
}

func validateApp(where string, a *app.App) error {
	var problems []error
	for _, s := range appSettings {
		if err := checkRange(where+"."+s.key, s.bind(a), s.positive); err != nil {
			problems = append(problems, err)
		}
	}
	for _, s := range limitSettings {
		if err := checkRange(where+".limits."+s.key, s.bind(&a.Limits), s.positive); err != nil {
			problems = append(problems, err)
		}
	}
	// Clients are told it in seconds.
	if t := a.ActivityTimeout; t > 0 && t < time.Second {
		problems = append(problems, fmt.Errorf("%s.activity_timeout is %s: at least 1s", where, t))
	}
	for i := range a.Retention {
		problems = append(problems, validateRetention(fmt.Sprintf("%s.retention[%d]", where, i), &a.Retention[i]))
	}
	return errors.Join(append(problems, validateWebhooks(where, a))...)
}

// checkShares refuses shares that cannot all be had.
func checkShares(apps []*app.App) error {
	sum, equal := 0, 0
	for i, a := range apps {
		if a.RetentionShare > 100 {
			return fmt.Errorf("apps[%d].retention_share is %d: at most 100 (percent)", i, a.RetentionShare)
		}
		if sum += a.RetentionShare; a.RetentionShare == 0 {
			equal++
		}
	}
	if sum > 100 || sum == 100 && equal > 0 {
		return fmt.Errorf("retention_share of all apps is %d percent: leave something for the %d apps without one, at most 100 in all", sum, equal)
	}
	return nil
}

func validateRetention(where string, r *app.Retention) error {
	var problems []error
	for _, s := range retentionSettings {
		problems = append(problems, checkRange(where+"."+s.key, s.bind(r), s.positive))
	}
	problems = append(problems, checkAge(where+".age", r.Age))
	if r.Channels == "" {
		problems = append(problems, fmt.Errorf("%s.channels is empty: should be a pattern like presence-* or *", where))
	}
	if r.Storage != "" && r.Storage != "file" && r.Storage != "memory" {
		problems = append(problems, fmt.Errorf("%s.storage is %s: should be file or memory", where, quote(r.Storage)))
	}
	if n := r.Replicas; n != 0 && n != 1 && n != 3 && n != 5 {
		problems = append(problems, fmt.Errorf("%s.replicas is %d: should be 1, 3 or 5", where, n))
	}
	if r.Off && (*r != app.Retention{Channels: r.Channels, Off: true}) {
		problems = append(problems, fmt.Errorf("%s is off: nothing else but channels has a meaning then", where))
	}
	return errors.Join(problems...)
}

// checkAge refuses what is stored for too short a time; 0 is another's to
// judge.
func checkAge(key string, age time.Duration) error {
	if age > 0 && age < broker.MinAge {
		return fmt.Errorf("%s is %s: at least %s can be kept", key, age, broker.MinAge)
	}
	return nil
}

func checkListen(key, listen string) error {
	if path, unix := strings.CutPrefix(listen, UnixListen); unix {
		if err := socket.CheckUnixPath(path); err != nil {
			return fmt.Errorf("%s is %q: should be unix:PATH (%w)", key, listen, err)
		}
		return nil
	}
	_, port, err := net.SplitHostPort(listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%s is %s: should be HOST:PORT or :PORT", key, quote(listen))
	}
	return nil
}

// checkMetrics refuses what would open the metrics to clients.
func checkMetrics(c *Config) error {
	switch c.MetricsListen {
	case "":
		return nil
	case c.Listen:
		return fmt.Errorf("metrics_listen is %s, as listen is: metrics need an address of their own, such as 127.0.0.1:9601, that clients do not reach", quote(c.Listen))
	}
	return checkListen("metrics_listen", c.MetricsListen)
}

// UnixListen is how the address of a Unix socket begins.
const UnixListen = "unix:"

// ParseMode reads permissions in octal, like 0660. The zero must be there: YAML
// makes 432 of a number written so, which would be other permissions.
func ParseMode(text string) (fs.FileMode, error) {
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || n > uint64(fs.ModePerm) || text[0] != '0' {
		return 0, fmt.Errorf("%.20q should be permissions in octal, like 0660 (in a file between quotes)", text)
	}
	return fs.FileMode(n), nil
}

func checkProxies(c *Config) error {
	var problems []error
	if _, err := socket.ParseProxies(c.TrustedProxies); err != nil {
		problems = append(problems, fmt.Errorf("trusted_proxies: %w", err))
	}
	if c.Socket.ProxyProtocol && len(c.TrustedProxies) == 0 {
		problems = append(problems, errors.New("proxy_protocol is on and trusted_proxies is empty: name the proxies that send it"))
	}
	if _, err := ParseMode(c.UnixSocketMode); err != nil {
		problems = append(problems, fmt.Errorf("unix_socket_mode: %w", err))
	}
	return errors.Join(problems...)
}

func checkPrefix(prefix string) error {
	if prefix == "" || strings.HasPrefix(prefix, "/") && !strings.HasSuffix(prefix, "/") && !strings.ContainsAny(prefix, "?# %") {
		return nil
	}
	return fmt.Errorf("path_prefix is %s: should begin with / and not end with it, like /realtime", quote(prefix))
}
