package edge

import (
	"context"
	"sync"
	"time"
)

// On a shutdown clients are closed in waves: all of them come back at once to
// whatever takes over.
const (
	drainWaves = 20
	// drainAtOnce clients or fewer need no waves.
	drainAtOnce = 1000
)

// census counts the open clients of a hub and, once closing, when the last one
// is gone.
type census struct {
	mu      sync.Mutex
	open    int
	closing bool
	empty   bool          // gone is closed
	gone    chan struct{} // closed the first time that closing and open is 0
}

// enter counts a new client; false: the hub is closing.
func (c *census) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.open++
	return true
}

// enterRefused counts a connection that is being closed. It is let in always.
func (c *census) enterRefused() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open++
}

func (c *census) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	c.checkLocked()
}

func (c *census) checkLocked() {
	if c.closing && c.open == 0 && !c.empty {
		c.empty = true
		close(c.gone)
	}
}

// close lets nobody in any more and returns how many are there.
func (c *census) close() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	c.checkLocked()
	return c.open
}

func (c *census) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// drain tells every client to reconnect, spread over the time given or until
// ctx ends. Clients that come meanwhile are refused.
func (h *Hub) drain(ctx context.Context, spread time.Duration) {
	pause := spread / drainWaves
	if h.node.census.close() <= drainAtOnce {
		pause = 0
	}
	// Before its clients are there other nodes have to know why they come.
	h.node.nodes.Beat()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for wave := range uint64(drainWaves) {
		select {
		case <-timer.C:
		case <-ctx.Done():
			// Out of time: the rest goes at once.
			pause = 0
		}
		h.node.pool.Each(func(c *client) {
			if c.ID().A%drainWaves == wave {
				c.drain()
			}
		})
		timer.Reset(pause)
	}
}

// drain tells a client to reconnect. One with a session is asked first what it
// got, so that nothing has to be repeated to it: it gets nothing more meanwhile,
// and its pong or the next tick ends it. It runs on the client's shard.
func (c *client) drain() {
	if c.acks == nil || !c.acks.finish() {
		c.closeWith(shuttingDown())
	}
}
