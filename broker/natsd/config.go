package natsd

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"reecho/broker/amount"
)

// DefaultName is the name of a server that is given none.
const DefaultName = "reecho"

// DefaultSyncInterval is how often written events are flushed to the disk. A
// killed process loses nothing; a power cut can take the events of the last
// interval. In BenchmarkSyncInterval of package broker 100 ms cost 2 % more CPU
// per event than one second, but 16 callers that wait for each answer (the
// scenario "publish" of scripts/bench) stored about 20 % fewer events with
// 100 ms and as many with one second as with ten.
const DefaultSyncInterval = time.Second

// Config of a Server. Dir is needed, the zero value of the rest is usable.
type Config struct {
	// Dir is the data folder; it is made if it does not exist.
	Dir string
	// Private says that there will be private keys in it: Start warns if others can read it.
	Private bool
	// Name is the server's name, stable and unique in a cluster. "" is
	// DefaultName.
	Name string
	// SyncInterval is the time between flushes to the disk. 0 is
	// DefaultSyncInterval.
	SyncInterval time.Duration
	// SyncAlways flushes each event before it is acknowledged, at a tenth to a
	// third of the throughput, and in a mesh on a majority, at an eighth to a half.
	SyncAlways bool
	// Mesh, if it is set, makes the server one of several. Name has to be given then.
	Mesh *Mesh
}

// Validate reports every problem of c at once. Start calls it.
func (c *Config) Validate() error {
	var dir error
	if c.Dir == "" {
		dir = errors.New("no data folder: Dir is empty")
	}
	problems := []error{dir, amount.NotNegative("SyncInterval", c.SyncInterval)}
	if c.Mesh != nil {
		problems = append(problems, c.Mesh.Validate())
		if c.Name == "" {
			problems = append(problems, fmt.Errorf("%w: the server has no name of its own", ErrMesh))
		}
	}
	return errors.Join(problems...)
}

// withDefaults returns c with everything that is not set replaced.
func (c Config) withDefaults() Config {
	c.Name = cmp.Or(c.Name, DefaultName)
	c.SyncInterval = cmp.Or(c.SyncInterval, DefaultSyncInterval)
	return c
}
