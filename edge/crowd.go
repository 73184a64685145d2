package edge

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"reecho/broker/cluster"
	"reecho/edge/app"
	"reecho/edge/limit"
	"reecho/edge/pusher"
)

// toldConnections is the key under which nodes tell how many connections they have.
const toldConnections = "connections"

// headcount is how many connections a node has, by app, as it tells others. One that
// leaves needs the others for the sessions of its clients, until these are Stored.
type headcount struct {
	Stored bool           `json:"stored,omitempty"`
	Apps   map[string]int `json:"apps,omitempty"`
}

// crowd is how many connections the other nodes have, as they last said. It is safe for
// concurrent use.
type crowd struct {
	heard chan struct{} // capacity 1: something has changed

	mu     sync.Mutex
	byLife map[string]headcount
}

func newCrowd() crowd {
	return crowd{heard: make(chan struct{}, 1), byLife: make(map[string]headcount)}
}

func (c *crowd) hear(life string, count headcount) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byLife[life] = count
	c.wakeLocked()
}

func (c *crowd) forget(life string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byLife, life)
	c.wakeLocked()
}

func (c *crowd) wakeLocked() {
	select {
	case c.heard <- struct{}{}:
	default:
	}
}

// awaitStored waits until no other node that leaves has anything to store, or ctx
// ends. It has one caller.
func (c *crowd) awaitStored(ctx context.Context, nodes *cluster.Nodes) {
	for !c.stored(nodes.Peers()) {
		select {
		case <-c.heard:
		case <-ctx.Done():
			return
		}
	}
}

func (c *crowd) stored(peers []cluster.Peer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range peers {
		if p.Leaving && !c.byLife[p.Life].Stored {
			return false
		}
	}
	return true
}

// of returns how many connections of an app are on other nodes: all of them, and those
// that count for its limit. Nodes that leave tell their clients to go elsewhere: they are
// in nobody's way there.
func (c *crowd) of(appID string, peers []cluster.Peer) (all, counted int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range peers {
		n := c.byLife[p.Life].Apps[appID]
		all += n
		if !p.Leaving {
			counted += n
		}
	}
	return all, counted
}

// shareConnections tells other nodes how many connections there are here, and hears how
// many there are.
func (h *Hub) shareConnections() {
	nodes, crowd := h.node.nodes, &h.node.crowd
	nodes.Tell(toldConnections, func() json.RawMessage {
		here := headcount{Stored: h.node.stored.Load(), Apps: make(map[string]int)}
		for _, t := range h.tenants {
			if n := t.connections.Load(); n > 0 {
				here.Apps[t.ID] = int(n)
			}
		}
		text, _ := json.Marshal(here) // numbers
		return text
	})
	nodes.Hear(toldConnections, func(id cluster.ID, text json.RawMessage) {
		var there headcount
		if json.Unmarshal(text, &there) == nil {
			crowd.hear(id.Life, there)
			h.countElsewhere()
		}
	})
	nodes.Watch(func(c cluster.Change) {
		if c.Gone {
			crowd.forget(c.Life)
			h.countElsewhere()
		}
	})
}

// countElsewhere gives each app what others said, so that nobody who connects has to
// add it up.
func (h *Hub) countElsewhere() {
	peers := h.node.nodes.Peers()
	for _, t := range h.tenants {
		_, counted := h.node.crowd.of(t.ID, peers)
		t.elsewhere.Store(int64(counted))
	}
}

// Connections is the number of open connections of an app, on all nodes: here now, on
// others as they said within the last second.
func (h *Hub) Connections(a *app.App) int {
	elsewhere, _ := h.node.crowd.of(a.ID, h.node.nodes.Peers())
	return int(h.tenants[a].connections.Load()) + elsewhere
}

// count makes a connection one of the app's and the hub's, if there is room. The
// app's limit is for all nodes, and what others have is what they last said: it may be
// exceeded by what connects within a second. The refusal has the code CodeOverQuota,
// CodeOverCapacity if a node may have died whose connections count, or, from the hub's
// Close on, CodeReconnect.
func (t *Tenant) count() *pusher.Error {
	allowed := int64(t.Limits.MaxConnections)
	if here := t.connections.Add(1); allowed > 0 && here+t.elsewhere.Load() > allowed {
		t.connections.Add(-1)
		t.node.cfg.Ledger.Note(limit.AppConnections, slog.String("app", t.ID))
		if here <= allowed && t.node.isSomeoneLate(time.Now()) {
			// After CodeOverQuota clients do not come back by themselves: those of a
			// dead node would be lost, for they are counted twice until it is buried.
			return pusher.Errorf(pusher.CodeOverCapacity, "The app's limit of %d connections may be reached, which is not known at the moment (max_connections)", allowed)
		}
		return pusher.Errorf(pusher.CodeOverQuota, "The app's limit of %d connections is reached (max_connections)", allowed)
	}
	if refusal := t.node.census.enter(); refusal != nil {
		t.connections.Add(-1)
		return refusal
	}
	return nil
}

// isSomeoneLate reports whether another node was due to say that it is alive, and has not.
// Clients come back a second after their node died.
func (n *services) isSomeoneLate(now time.Time) bool {
	for _, p := range n.nodes.Peers() {
		if now.Sub(p.Heard) >= cluster.BeatPeriod {
			return true
		}
	}
	return false
}
