package session

import (
	"errors"

	"reecho/broker"
	"reecho/broker/amount"
)

// Validate reports every problem of c at once. What opens a Store for a Config
// that nobody has checked should call it before.
func (c *Config) Validate() error {
	return errors.Join(
		amount.NotNegative("Time", c.Time),
		amount.AtLeast("Memory", c.Memory, broker.MinAge),
		amount.AtLeast("Bytes", c.Bytes, MinBytes),
		amount.NotNegative("Channels", c.Channels),
		amount.NotNegative("PerAddress", c.PerAddress),
		amount.NotNegative("SavesPerSecond", c.SavesPerSecond),
		amount.NotNegative("AckInterval", c.AckInterval),
		amount.NotNegative("Retention", c.Retention),
	)
}
