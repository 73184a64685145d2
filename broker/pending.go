package broker

import (
	"sync"
	"time"
)

// pending is an event on its way into the stream.
type pending struct {
	call    *call
	record  *Record
	subject string
	number  uint64
	first   time.Time // when the call began
	sent    time.Time // when it was last sent
	retried bool
	// refused is what the stream answered last, if that was an error that may pass.
	refused error
	// then is the call's next event of the channel where others share the stream. It is
	// sent when this one is stored: an election may lose one and not the next.
	then *pending
}

// call is one Publish under way, whose records may be in several publishers.
type call struct {
	began time.Time

	mu   sync.Mutex
	left int
	err  error
	done chan struct{} // closed when left is 0, and err final
}

// finish counts one record as stored, or failed with err. Publishers call it with
// their own lock held, so it takes no lock but the one here.
func (c *call) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && c.err == nil {
		c.err = err
	}
	c.left--
	if c.left == 0 {
		close(c.done)
	}
}
