package receipt

import (
	"cmp"
	"errors"
	"time"

	"reecho/broker/amount"
)

// Defaults of Config.
const (
	DefaultWindow = 5 * time.Minute
	DefaultBytes  = 64 << 20 // about 200,000 keys
	// MinWindow is the shortest that is longer than what a publish takes mostly.
	MinWindow = time.Second
	// MinBytes is room for a receipt of any size, and for others beside it.
	MinBytes = 1 << 20
)

// Config of a Desk. The zero value is usable; 0 stands for the default. It has to be the
// same on all nodes of a cluster.
type Config struct {
	// Window is how long a key is remembered after its publish.
	Window time.Duration
	// Bytes bounds what is kept of keys; a new key is refused when there is no room.
	Bytes int
}

// Validate reports every problem of c at once. Open calls it.
func (c *Config) Validate() error {
	return errors.Join(amount.AtLeast("Window", c.Window, MinWindow), amount.AtLeast("Bytes", c.Bytes, MinBytes))
}

// withDefaults returns c with every 0 replaced.
func (c Config) withDefaults() Config {
	c.Window = cmp.Or(c.Window, DefaultWindow)
	c.Bytes = cmp.Or(c.Bytes, DefaultBytes)
	return c
}
