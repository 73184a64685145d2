package broker

import (
	"cmp"
	"time"
)

// Defaults of Config.
const (
	DefaultPartitions        = 4
	DefaultReplicas          = 1
	DefaultMaxAge            = time.Hour
	MinAge                   = 100 * time.Millisecond // JetStream keeps nothing for less
	DefaultEventsPerChannel  = 1000
	DefaultMaxBytes          = 1 << 30 // all partitions together
	DefaultPublishWindow     = 256     // unacknowledged events per partition
	DefaultPublishQueueBytes = 16 << 20
	DefaultPublishTimeout    = 10 * time.Second
)

// Config of a Broker. The zero value is usable.
type Config struct {
	// Partitions is the number of streams. It is fixed when the data is
	// created.
	Partitions int
	// Replicas of each stream: 1, 3 or 5.
	Replicas int
	// MaxAge, EventsPerChannel and MaxBytes bound what is retained; the
	// oldest events go first.
	MaxAge           time.Duration
	EventsPerChannel int64
	MaxBytes         int64
	// PublishWindow is the number of unacknowledged events of a partition.
	PublishWindow int
	// PublishQueueBytes bounds what waits for the window of a partition.
	PublishQueueBytes int
	// PublishTimeout is how long storing an event is tried.
	PublishTimeout time.Duration
	// Rules are exceptions from what is retained. Each that is not Off has
	// streams of its own, so moving a channel to another rule begins a new
	// epoch for it.
	Rules []Rule
	// Apps are those that share the streams of no rule. With more than one,
	// none can push out the events of others that are within their part.
	Apps []AppShare
}

func (c Config) withDefaults() Config {
	c.Partitions = cmp.Or(c.Partitions, DefaultPartitions)
	c.Replicas = cmp.Or(c.Replicas, DefaultReplicas)
	c.MaxAge = cmp.Or(c.MaxAge, DefaultMaxAge)
	c.EventsPerChannel = cmp.Or(c.EventsPerChannel, DefaultEventsPerChannel)
	c.MaxBytes = cmp.Or(c.MaxBytes, DefaultMaxBytes)
	c.PublishWindow = cmp.Or(c.PublishWindow, DefaultPublishWindow)
	c.PublishQueueBytes = cmp.Or(c.PublishQueueBytes, DefaultPublishQueueBytes)
	c.PublishTimeout = cmp.Or(c.PublishTimeout, DefaultPublishTimeout)
	return c
}

// AppShare is the part of the retention that an app may fill when others need
// theirs.
type AppShare struct {
	App string
	// Percent of Config.MaxBytes; 0 is an equal part of what the other apps
	// leave.
	Percent int
}
