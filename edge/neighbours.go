package edge

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"time"

	"reecho/broker/cluster"
	"reecho/broker/flight"
)

const (
	// questionUsers asks a node which of some users are signed in there.
	questionUsers = "users"
	// saidUsers is the key of changes, toldUsers that of how many there were, which is
	// told with each beat: whoever has missed some asks.
	saidUsers = "user"
	toldUsers = "users"
	// maxUsersSaid and maxUsersAsked are how many users are in one message.
	maxUsersSaid  = 500
	maxUsersAsked = 5000
	// watchTimeout bounds how long a sign-in waits for other nodes. What one of them
	// says later is told then.
	watchTimeout = 300 * time.Millisecond
)

// neighbours tells other nodes which users sign in here, and hears of those whom clients
// here watch. Each node tells all of them: an interest of each node in each user that it
// watches would cost as much, for as long as it lasts. It is safe for concurrent use.
type neighbours struct {
	nodes *cluster.Nodes
	log   *slog.Logger
	hub   *Hub

	// Guarded by out.
	out     sync.Mutex
	changes uint64       // since the start
	pending []userChange // the last of them
	said    uint64       // how many were said
	kick    flight.Nudge

	mu     sync.Mutex
	byLife map[string]*neighbour
}

// neighbour is another node that is alive.
type neighbour struct {
	heard  bool
	known  uint64 // how many of its changes were heard, or are in an answer to come
	asking bool
	stale  bool // some were missed, and are not asked for
}

// userChange is that a user came to a node, with its first connection there, or left.
type userChange struct {
	App  string `json:"app"`
	User string `json:"user"`
	Here bool   `json:"here,omitempty"`
}

// usersSaid are changes: those that follow on From of them.
type usersSaid struct {
	From  uint64       `json:"from"`
	Users []userChange `json:"users"`
}

type usersQuestion struct {
	App   string   `json:"app"`
	Users []string `json:"users"`
}

type usersAnswer struct {
	Version uint64   `json:"version"`
	Here    []string `json:"here"`
}

func newNeighbours(nodes *cluster.Nodes, log *slog.Logger) *neighbours {
	return &neighbours{nodes: nodes, log: log, kick: flight.NewNudge(), byLife: make(map[string]*neighbour)}
}

// share takes part in what nodes tell each other of users.
func (n *neighbours) share(h *Hub) {
	n.hub = h
	n.nodes.Tell(toldUsers, func() json.RawMessage {
		n.out.Lock()
		defer n.out.Unlock()
		text, _ := json.Marshal(n.said) // a number
		return text
	})
	n.nodes.Hear(toldUsers, func(id cluster.ID, text json.RawMessage) {
		var said uint64
		if json.Unmarshal(text, &said) == nil {
			n.heardUpTo(id, said, said)
		}
	})
	n.nodes.Hear(saidUsers, n.hear)
	n.nodes.Answer(questionUsers, n.answer)
	n.nodes.Watch(n.watch)
	if !n.nodes.Single() {
		n.nodes.Go(n.run)
	}
}

// any reports whether there are other nodes.
func (n *neighbours) any() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.byLife) > 0
}

// version is the number of changes up to now. With the lock of the users of an app
// held, that is all of theirs.
func (n *neighbours) version() uint64 {
	n.out.Lock()
	defer n.out.Unlock()
	return n.changes
}

// tell has other nodes told of a change. It is called with the users' lock held.
func (n *neighbours) tell(t *Tenant, userID string, here bool) {
	if n.nodes.Single() || !t.Watchlist {
		return
	}
	n.out.Lock()
	defer n.out.Unlock()
	n.changes++
	n.pending = append(n.pending, userChange{App: t.ID, User: userID, Here: here})
	n.kick.Give()
}

// run says what there is to tell, until ctx ends.
func (n *neighbours) run(ctx context.Context) {
	n.kick.Run(ctx, func() {
		for n.say() {
		}
	})
}

// say says the oldest changes, and reports whether there were any.
func (n *neighbours) say() bool {
	n.out.Lock()
	next := usersSaid{From: n.said, Users: n.pending[:min(len(n.pending), maxUsersSaid)]}
	n.pending = n.pending[len(next.Users):]
	n.out.Unlock()
	if len(next.Users) == 0 {
		return false
	}
	text, _ := json.Marshal(next) // strings and numbers
	n.nodes.Say(saidUsers, text)
	n.out.Lock()
	defer n.out.Unlock()
	n.said += uint64(len(next.Users))
	return true
}

func (n *neighbours) hear(id cluster.ID, text json.RawMessage) {
	var said usersSaid
	if json.Unmarshal(text, &said) != nil {
		return
	}
	n.heardUpTo(id, said.From, said.From+uint64(len(said.Users)))
	for i, change := range said.Users {
		if t := n.hub.tenantOf(change.App); t != nil {
			t.users.saw(id.Life, said.From+uint64(i)+1, []string{change.User}, func(string) bool { return change.Here })
		}
	}
}

// heardUpTo takes down which changes of a node were heard: those behind from up to to.
// If some before were not, it asks for how things are.
func (n *neighbours) heardUpTo(id cluster.ID, from, to uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.byLife[id.Life]
	if b == nil {
		return
	}
	// What was before it was heard for the first time is asked for since it came.
	b.stale = b.stale || b.heard && from > b.known
	b.heard, b.known = true, max(b.known, to)
	if b.stale {
		n.catchUpLocked(id, b)
	}
}

// watch follows who comes and goes.
func (n *neighbours) watch(c cluster.Change) {
	n.mu.Lock()
	delete(n.byLife, c.Life)
	if !c.Gone {
		b := &neighbour{}
		n.byLife[c.Life] = b
		n.catchUpLocked(c.ID, b)
	}
	n.mu.Unlock()
	if c.Gone {
		for _, t := range n.hub.tenants {
			t.users.lost(c.Life)
		}
	}
}

// catchUpLocked asks a node for all users who are watched here, unless that is under way:
// then it is done again with the next beat.
func (n *neighbours) catchUpLocked(id cluster.ID, b *neighbour) {
	if b.asking {
		return
	}
	b.asking, b.stale = true, false
	n.nodes.Go(func(ctx context.Context) {
		err := n.askAbout(ctx, id)
		if err != nil {
			n.log.Debug("cannot find out who is on a node", slog.Any("error", err))
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		b.asking, b.stale = false, b.stale || err != nil
	})
}

// askAbout asks a node for all users who are watched here.
func (n *neighbours) askAbout(ctx context.Context, id cluster.ID) error {
	for _, t := range n.hub.tenants {
		for ids := range slices.Chunk(t.users.watchedIDs(), maxUsersAsked) {
			if err := n.askOne(ctx, id, t, ids); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *neighbours) askOne(ctx context.Context, id cluster.ID, t *Tenant, ids []string) error {
	question, _ := json.Marshal(usersQuestion{App: t.ID, Users: ids}) // strings
	text, err := n.nodes.Ask(ctx, id, questionUsers, question)
	if err != nil {
		return err
	}
	return n.take(id.Life, t, ids, text)
}

// ask asks all nodes for users who were not watched before.
func (n *neighbours) ask(ctx context.Context, t *Tenant, ids []string) {
	if len(ids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	question, _ := json.Marshal(usersQuestion{App: t.ID, Users: ids}) // strings
	answers, _ := n.nodes.AskAll(ctx, questionUsers, question)
	said := make(map[string]bool, len(answers))
	for id, text := range answers {
		said[id.Life] = n.take(id.Life, t, ids, text) == nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for life, b := range n.byLife {
		// Who has not answered is asked again when it is heard.
		b.stale = b.stale || !said[life]
	}
}

func (n *neighbours) take(life string, t *Tenant, ids []string, text []byte) error {
	var answer usersAnswer
	if err := json.Unmarshal(text, &answer); err != nil {
		return err
	}
	here := make(map[string]bool, len(answer.Here))
	for _, id := range answer.Here {
		here[id] = true
	}
	t.users.saw(life, answer.Version, ids, func(id string) bool { return here[id] })
	return nil
}

func (n *neighbours) answer(_ cluster.ID, question []byte) ([]byte, error) {
	var q usersQuestion
	if err := json.Unmarshal(question, &q); err != nil {
		return nil, err
	}
	var answer usersAnswer
	if t := n.hub.tenantOf(q.App); t != nil {
		answer.Here, answer.Version = t.users.here(q.Users)
	}
	return json.Marshal(answer)
}
