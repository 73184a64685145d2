package broker

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"reecho/broker/amount"
)

// Defaults of Config.
const (
	DefaultPartitions        = 8 // of new data
	DefaultReplicas          = 1
	DefaultMaxAge            = time.Hour
	MinAge                   = 100 * time.Millisecond // JetStream keeps nothing for less
	DefaultEventsPerChannel  = 1000
	DefaultMaxBytes          = 1 << 30 // all partitions together
	DefaultPublishWindow     = 256     // unacknowledged events per partition
	DefaultPublishQueueBytes = 16 << 20
	DefaultPublishTimeout    = 10 * time.Second
	// MinSharedAge is MinAge of streams that others share: an event that is tried
	// again after an election is known to be the same only as long as it is kept.
	MinSharedAge = 15 * time.Second
)

// Config of a Broker. The zero value is usable; 0 stands for the default.
type Config struct {
	// Partitions is the number of streams. It is fixed when the data is
	// created; 0 is what the data has.
	Partitions int
	// Replicas of each stream: 1, 3 or 5.
	Replicas int
	// Shared: other brokers use the same streams, so none of them decides alone what
	// becomes of the streams, and those on other servers have what a server has lost.
	Shared bool
	// Domain is that of JetStream on a server of others, "" for the server's own.
	Domain string
	// Relay begins the subjects of what this broker tells and asks others, if its
	// server keeps nothing and does not know who listens elsewhere: those that do pass
	// it on. The streams are theirs to make and to change then. "": it is none.
	Relay string
	// Node is the name of this broker among those.
	Node string
	// MaxAge, EventsPerChannel and MaxBytes bound what is retained, the last all
	// channels together; the oldest events go first. MaxAge is at least MinAge.
	MaxAge           time.Duration
	EventsPerChannel int
	MaxBytes         int
	// PublishWindow is the number of unacknowledged events of a partition.
	PublishWindow int
	// PublishQueueBytes bounds the bytes that wait for the window of a
	// partition.
	PublishQueueBytes int
	// PublishTimeout is how long storing an event is tried.
	PublishTimeout time.Duration
	// Agreed are further settings that have to be the same on all brokers that share
	// streams, each as the text that is told of it.
	Agreed []string
	// Rules are exceptions from what is retained. Each that is not Off has
	// streams of its own, so moving a channel to another rule begins a new
	// epoch for it.
	Rules []Rule
	// Apps are those that share the streams of no rule. With more than one,
	// none can push out the events of others that are within their part.
	Apps []AppShare
}

// Validate reports every problem of c at once. New calls it. Rules that cannot be
// told apart are ErrRules.
func (c *Config) Validate() error {
	problems := []error{
		amount.NotNegative("Partitions", c.Partitions), validReplicas("Replicas", c.Replicas),
		amount.AtLeast("MaxAge", c.MaxAge, MinAge),
		amount.NotNegative("EventsPerChannel", c.EventsPerChannel), amount.NotNegative("MaxBytes", c.MaxBytes),
		amount.NotNegative("PublishWindow", c.PublishWindow), amount.NotNegative("PublishQueueBytes", c.PublishQueueBytes),
		amount.NotNegative("PublishTimeout", c.PublishTimeout),
	}
	for i := range c.Rules {
		problems = append(problems, c.Rules[i].validate(fmt.Sprintf("Rules[%d]", i)))
	}
	for i, a := range c.Apps {
		if a.Percent < 0 || a.Percent > 100 {
			problems = append(problems, fmt.Errorf("Apps[%d].Percent is %d, must be from 0 to 100", i, a.Percent))
		}
	}
	problems = append(problems, c.validAges())
	return errors.Join(append(problems, checkRules(c.Rules))...)
}

// validAges refuses to keep events of a cluster for less than a publish may take.
func (c *Config) validAges() error {
	if !c.Shared {
		return nil
	}
	var problems []error
	check := func(field string, age time.Duration) {
		if age > 0 && age < MinSharedAge {
			problems = append(problems, fmt.Errorf("%s is %v, must be at least %v in a cluster: an event that is tried again after the leader of its stream was lost would be stored twice", field, age, MinSharedAge))
		}
	}
	check("MaxAge", c.MaxAge)
	for i := range c.Rules {
		if !c.Rules[i].Off {
			check(fmt.Sprintf("Rules[%d].MaxAge", i), c.Rules[i].MaxAge)
		}
	}
	return errors.Join(problems...)
}

// validReplicas refuses what is no number of copies with a majority.
func validReplicas(field string, n int) error {
	switch n {
	case 0, 1, 3, 5:
		return nil
	}
	return fmt.Errorf("%s is %d, must be 1, 3 or 5", field, n)
}

// withDefaults returns c with every 0 replaced.
func (c Config) withDefaults() Config {
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
