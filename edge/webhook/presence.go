package webhook

import (
	"sync"
	"time"

	"reecho/broker/cluster"
)

// presence says which nodes are dead, by their lives: those that were seen to go, and,
// when the clients of those from before have had time to come back, all that are
// not there.
type presence struct {
	nodes   *cluster.Nodes
	heard   time.Time // from when on all who are alive were heard
	trusted time.Time // from when on who is not there has had time to come back

	mu    sync.Mutex
	gone  map[string]bool
	wake  chan struct{} // capacity 1: somebody has come or gone
	again bool          // somebody came who was gone: it was cut off, or this node
}

func newPresence(nodes *cluster.Nodes, wait time.Duration) *presence {
	now := time.Now()
	p := &presence{nodes: nodes, heard: now, trusted: now.Add(wait), gone: make(map[string]bool), wake: make(chan struct{}, 1)}
	if !nodes.Single() {
		p.heard = now.Add(cluster.DeadAfter + cluster.BeatPeriod)
		p.trusted = now.Add(max(wait, cluster.DeadAfter+cluster.BeatPeriod))
	}
	nodes.Watch(p.watch)
	return p
}

func (p *presence) watch(c cluster.Change) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.again = p.again || !c.Gone && p.gone[c.Life]; c.Gone {
		p.gone[c.Life] = true
	} else {
		delete(p.gone, c.Life)
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// dead reports whether a life is over, and its clients have had time to come back.
func (p *presence) dead(life string) bool { return p.over(life, p.trusted) }

// absent reports whether a life is over.
func (p *presence) absent(life string) bool { return p.over(life, p.heard) }

func (p *presence) over(life string, from time.Time) bool {
	if life == p.nodes.Self().Life || p.nodes.Alive(life) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone[life] || !time.Now().Before(from)
}

// returned reports, once, that nodes could not hear each other for a while.
func (p *presence) returned() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	again := p.again
	p.again = false
	return again
}

// oldest reports whether this node is the oldest of all: what one has to do is done by
// that one.
func (p *presence) oldest() bool {
	self, started := p.nodes.Self(), p.nodes.Started()
	for _, o := range p.nodes.Peers() {
		if o.Started.Before(started) || o.Started.Equal(started) && o.Life < self.Life {
			return false
		}
	}
	return true
}
