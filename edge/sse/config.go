package sse

import (
	"cmp"
	"errors"
	"time"

	"reecho/broker/amount"
	"reecho/edge/limit"
	"reecho/edge/socket"
)

// Defaults of the bounds on event streams of a node, polls included.
const (
	DefaultEventStreams           = 10_000
	DefaultEventStreamsPerAddress = 1000
)

// Config of a Handler. The zero value is usable; 0 stands for the default.
type Config struct {
	// PathPrefix stands before /app/{key}/events; "" or "/something".
	PathPrefix string
	// EventStreams bounds the event streams of the node (503 above),
	// EventStreamsPerAddress those of one client address (429 above).
	EventStreams           int
	EventStreamsPerAddress int
	// MaxQueuedBytes, WriteTimeout and Budget bound what waits for a client that
	// reads a stream, as socket.Config does for WebSocket connections, with which
	// it should share the budget. 0 and nil are its defaults.
	MaxQueuedBytes int
	WriteTimeout   time.Duration
	Budget         *socket.Budget
	// Ledger counts who ran into a limit; nil does not.
	Ledger *limit.Ledger
}

// Validate reports every problem of c at once. New calls it.
func (c *Config) Validate() error {
	return errors.Join(
		amount.NotNegative("EventStreams", c.EventStreams),
		amount.NotNegative("EventStreamsPerAddress", c.EventStreamsPerAddress),
		amount.NotNegative("MaxQueuedBytes", c.MaxQueuedBytes),
		amount.NotNegative("WriteTimeout", c.WriteTimeout),
	)
}

// withDefaults returns c with every 0 replaced.
func (c Config) withDefaults() Config {
	c.EventStreams = cmp.Or(c.EventStreams, DefaultEventStreams)
	c.EventStreamsPerAddress = cmp.Or(c.EventStreamsPerAddress, DefaultEventStreamsPerAddress)
	c.MaxQueuedBytes = cmp.Or(c.MaxQueuedBytes, socket.DefaultMaxQueuedBytes)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, socket.DefaultWriteTimeout)
	c.Budget = cmp.Or(c.Budget, socket.NewBudget(0, c.Ledger))
	return c
}
