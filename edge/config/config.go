// Package config reads what an operator may set: from flags, the environment, a
// file, and defaults, in this order of precedence.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"reecho/broker"
	"reecho/edge"
	"reecho/edge/app"
)

// Config is the configuration of a node. Start from Default.
type Config struct {
	Listen     string // HOST:PORT
	DataDir    string
	PathPrefix string // "" or "/something", before /app, /apps and /demo
	TLSCert    string // file; "" without TLS
	TLSKey     string // file
	Demo       bool   // serve the demo page although apps are configured
	LogLevel   slog.Level
	LogFormat  string // "text" or "json"

	RetentionAge     time.Duration
	RetentionEvents  int
	RetentionBytes   int
	ReplayMemory     int // bytes
	Sync             Sync
	Partitions       int
	PublishWindow    int
	PublishQueue     int // bytes
	PublishTimeout   time.Duration
	MaxMessageBytes  int
	MaxQueuedBytes   int
	WriteTimeout     time.Duration
	HandshakeTimeout time.Duration
	PongTimeout      time.Duration
	Linger           time.Duration

	SessionTime           time.Duration
	SessionMemoryTime     time.Duration
	SessionBytes          int
	SessionChannels       int
	SessionAckInterval    time.Duration
	SessionsPerAddress    int
	SessionSavesPerSecond int
	ReplaysPerAddress     int

	DrainTime       time.Duration
	ShutdownTimeout time.Duration
	Shards          int
	Pollers         int

	Apps []*app.App
	// Development is set when no app was configured: Apps holds one with
	// generated credentials, which are shown to whoever starts the server.
	Development bool
}

// Sync is how often stored events are flushed to the disk.
type Sync struct {
	Always   bool
	Interval time.Duration
}

// String returns "always" or the interval.
func (s Sync) String() string {
	if s.Always {
		return "always"
	}
	return s.Interval.String()
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
// what to do.
func (c *Config) Validate() error {
	problems := []error{checkListen(c.Listen), checkPrefix(c.PathPrefix)}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		problems = append(problems, errors.New("tls_cert and tls_key belong together: set both or none"))
	}
	if c.DataDir == "" {
		problems = append(problems, errors.New("data_dir is empty: name a folder"))
	}
	if c.SessionBytes > 0 && c.SessionBytes < edge.MinSessionBytes {
		problems = append(problems, fmt.Errorf("session_bytes is %d: at least %d, for one session may be that large", c.SessionBytes, edge.MinSessionBytes))
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		problems = append(problems, fmt.Errorf("log_format is %q: should be text or json", c.LogFormat))
	}
	for _, s := range settings {
		problems = append(problems, checkRange(s.key, s.bind(c), s.positive))
	}
	problems = append(problems, checkAge("retention_age", c.RetentionAge), checkAge("session_memory_time", c.SessionMemoryTime))
	for i, a := range c.Apps {
		problems = append(problems, validateApp(fmt.Sprintf("apps[%d]", i), a))
	}
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
	for i := range a.Retention {
		problems = append(problems, validateRetention(fmt.Sprintf("%s.retention[%d]", where, i), &a.Retention[i]))
	}
	for _, c := range a.Credentials {
		if strings.ContainsAny(c.Key, ":/?# ") {
			problems = append(problems, fmt.Errorf("%s: key %q holds a character that has a meaning in URLs or signatures (: / ? # or a blank)", where, c.Key))
		}
	}
	if strings.ContainsAny(a.ID, "/?# ") {
		problems = append(problems, fmt.Errorf("%s: id %q holds a character that has a meaning in URLs (/ ? # or a blank)", where, a.ID))
	}
	return errors.Join(problems...)
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
		problems = append(problems, fmt.Errorf("%s.storage is %q: should be file or memory", where, r.Storage))
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

func checkListen(listen string) error {
	_, port, err := net.SplitHostPort(listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("listen is %q: should be HOST:PORT or :PORT (%w)", listen, err)
	}
	return nil
}

func checkPrefix(prefix string) error {
	if prefix == "" || strings.HasPrefix(prefix, "/") && !strings.HasSuffix(prefix, "/") && !strings.ContainsAny(prefix, "?# %") {
		return nil
	}
	return fmt.Errorf("path_prefix is %q: should begin with / and not end with it, like /realtime", prefix)
}
