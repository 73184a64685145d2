package xhr

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"reecho/broker/amount"
	"reecho/edge/limit"
	"reecho/edge/socket"
)

// Defaults of Config.
const (
	DefaultSessions           = 10_000
	DefaultSessionsPerAddress = 1000
	// DefaultHeartbeat is below the 30 s for which pusher-js waits for any word, and
	// below the minute after which most proxies cut what is silent.
	DefaultHeartbeat = 25 * time.Second
	MaxHeartbeat     = 25 * time.Second
	// DefaultDisconnectDelay lets a client on a bad line make a new connection, with
	// TLS and a lost packet or two.
	DefaultDisconnectDelay = 10 * time.Second
)

// Config of a Handler. The zero value is usable; 0 stands for the default.
type Config struct {
	// PathPrefix stands before /pusher/app/{key} and /app/{key}; "" or "/something".
	PathPrefix string
	// Sessions bounds the transport sessions of the node, SessionsPerAddress those of
	// one client address. Those above are closed with 4100.
	Sessions           int
	SessionsPerAddress int
	// Heartbeat is how long a client hears nothing until it gets an h, and how long a
	// poll is left without an answer: at most MaxHeartbeat.
	Heartbeat time.Duration
	// DisconnectDelay is how long a session lives while nobody receives.
	DisconnectDelay time.Duration
	// MaxMessageBytes, MaxQueuedBytes, WriteTimeout and Budget bound what a client
	// sends and what waits for it, as socket.Config does for WebSocket connections,
	// with which it should share the budget. 0 and nil are its defaults.
	MaxMessageBytes int
	MaxQueuedBytes  int
	WriteTimeout    time.Duration
	Budget          *socket.Budget
	// Ledger counts who ran into a limit; nil does not.
	Ledger *limit.Ledger
}

// Validate reports every problem of c at once. New calls it.
func (c *Config) Validate() error {
	problems := []error{
		amount.NotNegative("Sessions", c.Sessions),
		amount.NotNegative("SessionsPerAddress", c.SessionsPerAddress),
		amount.NotNegative("Heartbeat", c.Heartbeat),
		amount.NotNegative("DisconnectDelay", c.DisconnectDelay),
		amount.NotNegative("MaxMessageBytes", c.MaxMessageBytes),
		amount.NotNegative("MaxQueuedBytes", c.MaxQueuedBytes),
		amount.NotNegative("WriteTimeout", c.WriteTimeout),
	}
	if c.Heartbeat > MaxHeartbeat {
		problems = append(problems, fmt.Errorf("the Heartbeat is %s: at most %s, for clients wait no longer than 30s", c.Heartbeat, MaxHeartbeat))
	}
	return errors.Join(problems...)
}

// withDefaults returns c with every 0 replaced.
func (c Config) withDefaults() Config {
	c.Sessions = cmp.Or(c.Sessions, DefaultSessions)
	c.SessionsPerAddress = cmp.Or(c.SessionsPerAddress, DefaultSessionsPerAddress)
	c.Heartbeat = cmp.Or(c.Heartbeat, DefaultHeartbeat)
	c.DisconnectDelay = cmp.Or(c.DisconnectDelay, DefaultDisconnectDelay)
	c.MaxMessageBytes = cmp.Or(c.MaxMessageBytes, socket.DefaultMaxMessageBytes)
	c.MaxQueuedBytes = cmp.Or(c.MaxQueuedBytes, socket.DefaultMaxQueuedBytes)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, socket.DefaultWriteTimeout)
	c.Budget = cmp.Or(c.Budget, socket.NewBudget(0, c.Ledger))
	return c
}

// maxBody is the largest body that is read: a message may be twice as long when it is
// escaped, and an honest client sends one at a time.
func (c *Config) maxBody() int { return 2*c.MaxMessageBytes + 64 }
