package edge

import (
	"context"
	"sync"
	"time"

	"reecho/edge/pusher"
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
	cutOff  bool          // nobody is let in for now
	empty   bool          // gone is closed
	gone    chan struct{} // closed the first time that closing and open is 0
}

// enter counts a new client, unless it is refused, which it is told.
func (c *census) enter() *pusher.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closing:
		return shuttingDown()
	case c.cutOff:
		return cutOff()
	}
	c.open++
	return nil
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

// setCutOff lets nobody in, or everybody again, and returns how many are there.
func (c *census) setCutOff(on bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cutOff = on
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
	h.node.nodes.Leave()
	h.sendAway(ctx, h.node.census.close(), spread, shuttingDown)
}

// CutOff tells every client to reconnect, spread over the time given or until ctx
// ends, and refuses new ones until Rejoin: this node hears nothing of what the others
// of its cluster store, and other nodes may.
func (h *Hub) CutOff(ctx context.Context, spread time.Duration) {
	h.sendAway(ctx, h.node.census.setCutOff(true), spread, cutOff)
}

// Rejoin ends CutOff.
func (h *Hub) Rejoin() { h.node.census.setCutOff(false) }

func cutOff() *pusher.Error {
	return pusher.Errorf(pusher.CodeReconnect, "The server has lost its cluster, reconnect")
}

// sendAway tells every client why it has to reconnect, in waves if there are many.
func (h *Hub) sendAway(ctx context.Context, clients int, spread time.Duration, why func() *pusher.Error) {
	pause := spread / drainWaves
	if clients <= drainAtOnce {
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
				c.sendAway(why)
			}
		})
		timer.Reset(pause)
	}
}

// sendAway tells a client to reconnect. One with a session is asked first what it
// got, so that nothing has to be repeated to it: it gets nothing more meanwhile,
// and its pong or the next tick ends it. It runs on the client's shard.
func (c *client) sendAway(why func() *pusher.Error) {
	if c.acks == nil || !c.acks.finish() {
		c.closeWith(why())
	}
}
