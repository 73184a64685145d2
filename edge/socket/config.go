package socket

import (
	"cmp"
	"crypto/tls"
	"errors"
	"runtime"
	"time"

	"reecho/broker/amount"
	"reecho/edge/limit"
)

// Defaults of Config.
const (
	DefaultMaxMessageBytes  = 100 << 10
	DefaultMaxQueuedBytes   = 8 << 20
	DefaultWriteTimeout     = 10 * time.Second
	DefaultHandshakeTimeout = 10 * time.Second
	DefaultMessageTimeout   = 60 * time.Second
	DefaultMaxHeaderBytes   = 32 << 10
	// DefaultHandshakesPerSecond is generous: all clients behind a proxy that is
	// not trusted have its address.
	DefaultHandshakesPerSecond = 2000
	// DefaultDescriptorReserve is how many file descriptors are kept from
	// connections at least; a twentieth of all, if that is more.
	DefaultDescriptorReserve = 200
	// DefaultHTTPIdleTimeout outlasts the keep-alive of the usual proxies and
	// client libraries, so that it is they who close.
	DefaultHTTPIdleTimeout = 75 * time.Second
	DefaultHTTPBodyTimeout = 30 * time.Second
)

// Config of a Server. The zero value is usable; 0 stands for the default.
type Config struct {
	// MaxMessageBytes bounds a message of a client, all its fragments
	// together. A larger one closes with 1009.
	MaxMessageBytes int
	// MaxQueuedBytes bounds what waits for one slow connection and for no
	// other: a frame that waits for several counts only 48 bytes. Beyond it the
	// connection closes with 4100. Answers to the peer's own messages do not
	// count: nothing more is read from it while 64 KiB of them wait.
	MaxQueuedBytes int
	// WriteTimeout is how long a peer may take nothing of what waits for it
	// before it is closed with 4100, and how long Close waits for its answer.
	// What takes at least something in that time is never too slow for it. When
	// many wait at once they have longer, see Budget.
	WriteTimeout time.Duration
	// Budget bounds what waits for all connections together. It may be shared
	// with others that queue frames. nil makes one of DefaultQueueMemory.
	Budget *Budget
	// HandshakeTimeout bounds the time from accepting a TCP connection to its
	// first complete request head, TLS included.
	HandshakeTimeout time.Duration
	// MessageTimeout bounds the time between the first and the last byte of a
	// message. A slower one closes with 1008.
	MessageTimeout time.Duration
	// MaxHeaderBytes bounds the head of every request, request line included. A
	// larger one gets 431.
	MaxHeaderBytes int
	// MaxConnections bounds the connections of the server: WebSocket, HTTP, and
	// those that sent nothing yet. Clients above it are told so, and beyond a few
	// of those nothing is accepted until others leave. 0, and at most, is what
	// the file descriptors of the process allow.
	MaxConnections int
	// Refuse is asked for each client that comes, and says why it is not let in, a
	// sentence for it, or "". nil: all are.
	Refuse func() string
	// DescriptorReserve is how many file descriptors are left to the rest of the
	// process. 0 is DefaultDescriptorReserve or a twentieth of all; never more
	// than half of them.
	DescriptorReserve int
	// HandshakesPerSecond bounds the upgrades and TLS handshakes of a client
	// address, with a burst of ten times as many. Those above get 429.
	HandshakesPerSecond int
	// TrustedProxies are the peers whose X-Forwarded-For, X-Forwarded-Proto,
	// Forwarded and PROXY headers are believed.
	TrustedProxies Proxies
	// ProxyProtocol says that every connection of a trusted proxy begins with a
	// header of the PROXY protocol, version 1 or 2.
	ProxyProtocol bool
	// HTTPIdleTimeout is how long a connection is kept between requests.
	HTTPIdleTimeout time.Duration
	// HTTPBodyTimeout bounds the time for reading the body of a request.
	HTTPBodyTimeout time.Duration
	// Pollers is the number of goroutines that read plaintext connections on
	// Linux. 0 is GOMAXPROCS.
	Pollers int
	// TLS makes the port speak TLS beside plaintext. nil: plaintext only.
	// NextProtos is ignored: the port speaks HTTP/1.1.
	TLS *tls.Config
	// ForceGoroutines uses two goroutines per connection on Linux as well, as
	// on other systems.
	ForceGoroutines bool
	// Ledger counts who ran into a limit; nil does not.
	Ledger *limit.Ledger
}

// Validate reports every problem of c at once. NewServer calls it.
func (c *Config) Validate() error {
	return errors.Join(
		amount.NotNegative("MaxMessageBytes", c.MaxMessageBytes),
		amount.NotNegative("MaxQueuedBytes", c.MaxQueuedBytes),
		amount.NotNegative("MaxHeaderBytes", c.MaxHeaderBytes),
		amount.NotNegative("MaxConnections", c.MaxConnections),
		amount.NotNegative("DescriptorReserve", c.DescriptorReserve),
		amount.NotNegative("HandshakesPerSecond", c.HandshakesPerSecond),
		amount.NotNegative("Pollers", c.Pollers),
		amount.NotNegative("WriteTimeout", c.WriteTimeout),
		amount.NotNegative("HandshakeTimeout", c.HandshakeTimeout),
		amount.NotNegative("MessageTimeout", c.MessageTimeout),
		amount.NotNegative("HTTPIdleTimeout", c.HTTPIdleTimeout),
		amount.NotNegative("HTTPBodyTimeout", c.HTTPBodyTimeout),
	)
}

// withDefaults returns c with every 0 replaced but those of MaxConnections and
// DescriptorReserve: what they stand for depends on the process, see newPlaces.
func (c Config) withDefaults() Config {
	c.MaxMessageBytes = cmp.Or(c.MaxMessageBytes, DefaultMaxMessageBytes)
	c.MaxQueuedBytes = cmp.Or(c.MaxQueuedBytes, DefaultMaxQueuedBytes)
	c.MaxHeaderBytes = cmp.Or(c.MaxHeaderBytes, DefaultMaxHeaderBytes)
	c.HandshakesPerSecond = cmp.Or(c.HandshakesPerSecond, DefaultHandshakesPerSecond)
	c.Pollers = cmp.Or(c.Pollers, runtime.GOMAXPROCS(0))
	c.WriteTimeout = cmp.Or(c.WriteTimeout, DefaultWriteTimeout)
	c.HandshakeTimeout = cmp.Or(c.HandshakeTimeout, DefaultHandshakeTimeout)
	c.MessageTimeout = cmp.Or(c.MessageTimeout, DefaultMessageTimeout)
	c.HTTPIdleTimeout = cmp.Or(c.HTTPIdleTimeout, DefaultHTTPIdleTimeout)
	c.HTTPBodyTimeout = cmp.Or(c.HTTPBodyTimeout, DefaultHTTPBodyTimeout)
	c.Budget = cmp.Or(c.Budget, NewBudget(0, c.Ledger))
	if c.TLS != nil {
		c.TLS = c.TLS.Clone()
		c.TLS.NextProtos = []string{"http/1.1"}
	}
	return c
}
