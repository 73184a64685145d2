package edge

import (
	"cmp"
	"context"
	"encoding/json"
	"sync"
	"time"

	"reecho/broker/cluster"
	"reecho/broker/flight"
	"reecho/edge/pusher"
)

const (
	// saidLeads is the key of what nodes tell each other of leads.
	saidLeads = "lead"
	// maxLeadsSaid is how many are in one message.
	maxLeadsSaid = 500
	// maxLeads bounds those that a node remembers of an app beside its connections,
	// about 150 bytes each; above it no more grants are taken.
	maxLeads = 250_000
)

// leads knows, of clients with a grant, which connection is the newest: only that one
// can be gone on from, by one other. So who has taken a copy of a grant cannot use it
// beside the client, nor after it. It is safe for concurrent use.
type leads struct {
	mu     sync.Mutex
	byRoot map[pusher.SocketID]*lead
	away   int // those without a connection here
	swept  time.Time
}

// lead is the newest connection of a client.
type lead struct {
	turn   uint32
	id     pusher.SocketID
	client *client   // nil: it is over, or on another node
	at     time.Time // when that became known
}

// isBehind reports whether another connection of the client is newer. Of two that took
// the same turn, on two nodes, it is the same one everywhere.
func (l *lead) isBehind(turn uint32, id pusher.SocketID) bool {
	return cmp.Or(cmp.Compare(l.turn, turn), cmp.Compare(l.id.A, id.A), cmp.Compare(l.id.B, id.B)) < 0
}

// take makes c the newest connection of a client, the one of a turn. It reports false if
// another took that turn, or a later one, or there are too many to be remembered. former
// is the connection before, if it is on this node and stands. keep is how long a grant
// can be used that was given just now.
func (ls *leads) take(root pusher.SocketID, turn uint32, c *client, keep time.Duration) (former *client, taken bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	now := time.Now()
	ls.sweepLocked(now, keep)
	switch known := ls.byRoot[root]; {
	case known == nil && turn > 0 && ls.away >= maxLeads:
		return nil, false
	case known == nil:
	case turn <= known.turn:
		return nil, false
	case known.client == nil:
		ls.away--
	case known.client != c:
		former = known.client
	}
	ls.setLocked(root, &lead{turn: turn, id: c.ID(), client: c, at: now})
	return former, true
}

func (ls *leads) setLocked(root pusher.SocketID, l *lead) {
	if ls.byRoot == nil {
		ls.byRoot = make(map[pusher.SocketID]*lead)
	}
	ls.byRoot[root] = l
}

// release is that c is over. Its turn is remembered while a grant of an earlier one may
// be used.
func (ls *leads) release(root pusher.SocketID, c *client, keep time.Duration) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	known := ls.byRoot[root]
	if known == nil || known.client != c {
		return
	}
	if known.turn == 0 || time.Since(known.at) > keep || ls.away >= maxLeads {
		delete(ls.byRoot, root)
		return
	}
	known.client = nil
	ls.away++
}

// heard is what another node says: id took a turn. former is the connection on this node
// that the client went on from; answer is what the other node does not know.
func (ls *leads) heard(root pusher.SocketID, turn uint32, id pusher.SocketID, keep time.Duration) (former *client, answer *lead) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	now := time.Now()
	ls.sweepLocked(now, keep)
	known := ls.byRoot[root]
	switch {
	case known == nil && ls.away >= maxLeads:
		return nil, nil
	case known == nil:
		ls.away++
	case known.isBehind(turn, id):
		if former = known.client; former != nil {
			ls.away++
		}
	case known.id == id && known.turn == turn:
		return nil, nil
	default:
		told := *known
		return nil, &told
	}
	ls.setLocked(root, &lead{turn: turn, id: id, at: now})
	return former, nil
}

// sweepLocked forgets what nobody can need any more.
func (ls *leads) sweepLocked(now time.Time, keep time.Duration) {
	if now.Sub(ls.swept) < keep/4 {
		return
	}
	ls.swept = now
	for root, l := range ls.byRoot {
		if l.client == nil && now.Sub(l.at) > keep {
			delete(ls.byRoot, root)
			ls.away--
		}
	}
}

// leadTold is a lead as nodes tell it each other.
type leadTold struct {
	App  string          `json:"app"`
	Root pusher.SocketID `json:"root"`
	ID   pusher.SocketID `json:"id"`
	Turn uint32          `json:"turn"`
}

// leadTeller tells other nodes of leads. Who does not hear it now is told when it has
// taken a turn that others know to be over.
type leadTeller struct {
	nodes *cluster.Nodes
	kick  flight.Nudge

	mu      sync.Mutex
	pending []leadTold
}

func newLeadTeller(nodes *cluster.Nodes) *leadTeller {
	return &leadTeller{nodes: nodes, kick: flight.NewNudge()}
}

// tell has other nodes told that id took a turn, as soon as that can be.
func (lt *leadTeller) tell(told leadTold) {
	if lt.nodes.Single() {
		return
	}
	lt.mu.Lock()
	defer lt.mu.Unlock()
	lt.pending = append(lt.pending, told)
	lt.kick.Give()
}

// run says what there is to tell, until ctx ends.
func (lt *leadTeller) run(ctx context.Context) {
	lt.kick.Run(ctx, func() {
		for lt.say() {
		}
	})
}

// say says the oldest, and reports whether there were any.
func (lt *leadTeller) say() bool {
	lt.mu.Lock()
	next := lt.pending[:min(len(lt.pending), maxLeadsSaid)]
	lt.pending = lt.pending[len(next):]
	lt.mu.Unlock()
	if len(next) == 0 {
		return false
	}
	text, _ := json.Marshal(next) // strings and numbers
	lt.nodes.Say(saidLeads, text)
	return true
}

// shareLeads has the hub take part in what nodes tell each other of leads.
func (h *Hub) shareLeads() {
	nodes := h.node.nodes
	nodes.Hear(saidLeads, func(_ cluster.ID, text json.RawMessage) {
		var all []leadTold
		if json.Unmarshal(text, &all) == nil {
			for _, told := range all {
				h.heardLead(told)
			}
		}
	})
	if !nodes.Single() {
		nodes.Go(h.node.leadTeller.run)
	}
}

func (h *Hub) heardLead(told leadTold) {
	t := h.tenantOf(told.App)
	if t == nil {
		return
	}
	former, answer := t.leads.heard(told.Root, told.Turn, told.ID, t.node.grants.keep())
	if former != nil {
		former.closeWith(wentOn())
	}
	if answer != nil {
		t.node.leadTeller.tell(leadTold{App: t.ID, Root: told.Root, ID: answer.id, Turn: answer.turn})
	}
}

// wentOn is told to a connection of which the client, or somebody with its grant, has
// another.
func wentOn() *pusher.Error {
	return pusher.Errorf(pusher.CodeOverCapacity, "The client went on over a newer connection")
}
