package webhook

import (
	"cmp"
	"errors"
	"time"

	"reecho/broker/amount"
)

// Defaults of Config.
const (
	// DefaultGrace is Pusher's (PROTOCOL §6).
	DefaultGrace = 3 * time.Second
	// DefaultReturn outlasts a stock pusher-js, which comes back up to 15 s after a
	// refused port.
	DefaultReturn = 30 * time.Second
	// DefaultRetryTime is Pusher's.
	DefaultRetryTime = 5 * time.Minute
	// DefaultTimeout bounds one try.
	DefaultTimeout    = 10 * time.Second
	DefaultQueueAge   = time.Hour
	DefaultQueueBytes = 64 << 20
	// DefaultMemory is for events that wait to be stored.
	DefaultMemory = 16 << 20
	// DefaultStateBytes is for about a million channels and members.
	DefaultStateBytes = 256 << 20
)

// lineShare of Config.QueueBytes is what one endpoint has at most.
const lineShare = 4

// Config of a Service. The zero value is usable; 0 stands for the default.
type Config struct {
	// Grace is how long a channel or member may be gone without being vacated or
	// removed.
	Grace time.Duration
	// Return is how long after the start of all nodes clients have to come back, until
	// channels and members that were there before are gone.
	Return time.Duration
	// RetryTime is how long delivering an event is tried, Timeout how long one try may
	// take.
	RetryTime, Timeout time.Duration
	// QueueAge is how long an event is kept while nobody delivers it, QueueBytes how
	// many bytes of all undelivered ones; the oldest are dropped first. One endpoint has
	// a quarter of them at most.
	QueueAge   time.Duration
	QueueBytes int
	// Memory bounds the bytes of client events, cache misses and counts that wait to be
	// stored; those above are dropped.
	Memory int
	// StateBytes bounds what is stored of who is where; what did not change for longest
	// is forgotten first.
	StateBytes int
}

// Validate reports every problem of c at once. New calls it.
func (c *Config) Validate() error {
	return errors.Join(
		amount.NotNegative("Grace", c.Grace), amount.NotNegative("Return", c.Return),
		amount.NotNegative("RetryTime", c.RetryTime), amount.NotNegative("Timeout", c.Timeout),
		amount.NotNegative("QueueAge", c.QueueAge), amount.NotNegative("QueueBytes", c.QueueBytes),
		amount.NotNegative("Memory", c.Memory), amount.NotNegative("StateBytes", c.StateBytes),
	)
}

func (c Config) withDefaults() Config {
	c.Grace = cmp.Or(c.Grace, DefaultGrace)
	c.Return = cmp.Or(c.Return, DefaultReturn)
	c.RetryTime = cmp.Or(c.RetryTime, DefaultRetryTime)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.QueueAge = cmp.Or(c.QueueAge, DefaultQueueAge)
	c.QueueBytes = cmp.Or(c.QueueBytes, DefaultQueueBytes)
	c.Memory = cmp.Or(c.Memory, DefaultMemory)
	c.StateBytes = cmp.Or(c.StateBytes, DefaultStateBytes)
	return c
}
