package session

import (
	"cmp"
	"errors"
	"time"

	"reecho/broker"
	"reecho/broker/amount"
)

// Defaults of Config.
const (
	DefaultTime        = 2 * time.Minute
	DefaultMemory      = 24 * time.Hour
	DefaultBytes       = 256 << 20
	DefaultIDs         = 4_000_000
	DefaultChannels    = 256
	DefaultAckInterval = time.Second
	DefaultSaves       = 20 // per second
	// DefaultPerAddress: behind a proxy that is not trusted many clients have
	// one address, but an address has no more ports than this.
	DefaultPerAddress = 60_000
)

// MinBytes is room for a few sessions of many channels.
const MinBytes = 1 << 20

// Config of a Store. The zero value is usable.
type Config struct {
	// Time is how long after the connection was lost a client gets what it
	// missed. 0 is DefaultTime.
	Time time.Duration
	// Memory is how long the id is remembered, so that a client that comes
	// back later is told of the gap. 0 is DefaultMemory.
	Memory time.Duration
	// Bytes bounds the store; the sessions changed longest ago go first. A quarter
	// is the share of one address. 0 is DefaultBytes.
	Bytes int
	// IDs is how many ids of sessions are remembered, about, of which nothing else
	// is: who comes back with one is told of the gap. Each needs 8 bytes of memory,
	// and of the disk; in a cluster those of the other nodes need as much memory again.
	// 0 is DefaultIDs.
	IDs int
	// Channels is how many channels of one client are followed; of those above
	// it is told of a gap when it comes back. 0 is DefaultChannels.
	Channels int
	// PerAddress is how many sessions of connected clients one address may have.
	// 0 is DefaultPerAddress.
	PerAddress int
	// SavesPerSecond is how many new subscriptions of one session are stored in a
	// second, after the first few hundred; later ones wait. 0 is DefaultSaves.
	SavesPerSecond int
	// AckInterval is the pause between two questions to a client of what has
	// arrived. 0 is DefaultAckInterval; less than a second is taken as a second.
	AckInterval time.Duration
	// Retention is how long events are kept at least; confirmations are
	// renewed four times in it. 0 is broker.DefaultMaxAge.
	Retention time.Duration
}

// Validate reports every problem of c at once. What opens a Store for a Config
// that nobody has checked should call it before.
func (c *Config) Validate() error {
	return errors.Join(
		amount.NotNegative("Time", c.Time),
		amount.AtLeast("Memory", c.Memory, broker.MinAge),
		amount.AtLeast("Bytes", c.Bytes, MinBytes),
		amount.NotNegative("IDs", c.IDs),
		amount.NotNegative("Channels", c.Channels),
		amount.NotNegative("PerAddress", c.PerAddress),
		amount.NotNegative("SavesPerSecond", c.SavesPerSecond),
		amount.NotNegative("AckInterval", c.AckInterval),
		amount.NotNegative("Retention", c.Retention),
	)
}

func (c Config) withDefaults() Config {
	c.Time = cmp.Or(c.Time, DefaultTime)
	c.Memory = cmp.Or(c.Memory, DefaultMemory)
	c.Bytes = cmp.Or(c.Bytes, DefaultBytes)
	c.IDs = cmp.Or(c.IDs, DefaultIDs)
	c.Channels = cmp.Or(c.Channels, DefaultChannels)
	c.PerAddress = cmp.Or(c.PerAddress, DefaultPerAddress)
	c.SavesPerSecond = cmp.Or(c.SavesPerSecond, DefaultSaves)
	c.AckInterval = cmp.Or(c.AckInterval, DefaultAckInterval)
	c.Retention = cmp.Or(c.Retention, broker.DefaultMaxAge)
	return c
}

// refresh is how old a confirmation, and what is stored of it, may become while the
// client is there.
func (c Config) refresh() time.Duration {
	return min(max(min(c.Retention, c.Memory)/4, c.AckInterval), 10*time.Minute)
}
