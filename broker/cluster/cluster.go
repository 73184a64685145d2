// Package cluster knows which nodes of a cluster are alive, and carries what they
// tell and ask each other beside the events. Nothing of it is stored: it is true
// while the nodes live, and whoever has missed something is told again.
package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// BeatPeriod is how often a node says that it is alive.
	BeatPeriod = time.Second
	// DeadAfter is how long after its last word a node counts as dead.
	DeadAfter = 4 * time.Second
	// aheadFrom is from when on a node tells another that its clock is ahead.
	aheadFrom = time.Second
	// buryPeriod is how exact that is: others wait for it who are told that the members
	// of a dead node are gone.
	buryPeriod = BeatPeriod / 4
	// askTimeout bounds a question to a node that is alive.
	askTimeout = time.Second
)

// Subjects.
const (
	beatSubject = "node.beat"
	askRoot     = "node.ask." // and the life of who is asked
	askAll      = "node.ask"
)

// ID names one life of a node.
type ID struct {
	Name string `json:"name"` // the node's, the same in each of its lives
	Life string `json:"life"` // another one in each; of all nodes too
}

// Peer is another node that is alive.
type Peer struct {
	ID
	// Config is a hash of what has to be the same on all nodes.
	Config string
	// Started is when its life began, by its own clock.
	Started time.Time
	// Since is when this node heard of it first.
	Since time.Time
	// Heard is when it last said that it is alive, by this node's clock.
	Heard time.Time
	// Ahead is how much its clock is ahead of this node's at least, negative if it is
	// behind. What a message takes is not in it, however late it comes: a clock is
	// ahead if it says what is later than now, and behind if its node finds this one's
	// ahead.
	Ahead time.Duration
	// Leaving is that it has begun to stop, and will be gone.
	Leaving bool
}

// Change is that a node has come, or is gone: it said so, or is dead.
type Change struct {
	ID
	Gone bool
}

// Nodes is what one node knows of the others. It is safe for concurrent use.
type Nodes struct {
	self    ID
	started time.Time
	config  string
	nc      *nats.Conn // nil: the node is alone
	relay   string     // see Over
	log     *slog.Logger
	life    context.Context //nolint:containedctx // the node's own, ended by Close
	stop    context.CancelFunc
	tasks   sync.WaitGroup
	closing sync.Once
	joined  atomic.Bool // Start has been called
	leaving atomic.Bool
	greet   chan struct{} // capacity 1: a node has come

	// Not changed after Start.
	watchers []func(Change)
	tellers  map[string]func() json.RawMessage
	hearers  map[string]func(ID, json.RawMessage)
	answers  map[string]func(from ID, question []byte) (answer []byte, err error)

	// changing orders the calls of watchers and hearers as what they are about.
	// Before mu.
	changing sync.Mutex

	mu     sync.Mutex
	closed bool
	peers  map[string]*Peer // by life
	gone   map[string]time.Time
}

// beat is what a node says.
type beat struct {
	ID
	Config  string                     `json:"config,omitempty"`
	Started time.Time                  `json:"started"`
	Time    time.Time                  `json:"time"`
	Ahead   map[string]time.Duration   `json:"ahead,omitempty"` // by life: whose clock is, and how much
	Gone    bool                       `json:"gone,omitempty"`
	Leaving bool                       `json:"leaving,omitempty"`
	Told    map[string]json.RawMessage `json:"told,omitempty"`
}

// Alone is the Nodes of a node without a cluster.
func Alone() *Nodes { return newNodes("", "", nil, slog.New(slog.DiscardHandler)) }

func newNodes(name, config string, nc *nats.Conn, log *slog.Logger) *Nodes {
	life, stop := context.WithCancel(context.Background())
	return &Nodes{
		self: ID{Name: name, Life: rand.Text()[:12]}, started: time.Now(), config: config, nc: nc, log: log, life: life, stop: stop, greet: make(chan struct{}, 1),
		peers: make(map[string]*Peer), gone: make(map[string]time.Time),
		tellers: make(map[string]func() json.RawMessage), hearers: make(map[string]func(ID, json.RawMessage)),
		answers: make(map[string]func(ID, []byte) ([]byte, error)),
	}
}

// New makes a node of a cluster that is reached over nc, which Close closes. name is
// this node's, config a hash of what has to be the same on all nodes. Start joins,
// once all of Tell, Hear, Answer and Watch have been called.
func New(nc *nats.Conn, name, config string, log *slog.Logger) *Nodes {
	return newNodes(name, config, nc, log)
}

// Over has all that this node says sent to subjects with a prefix, which others pass on
// without it: its own server does not know who listens elsewhere. It is called before
// Start.
func (n *Nodes) Over(relay string) { n.relay = relay }

// Self names this node.
func (n *Nodes) Self() ID { return n.self }

// Config is the hash of what has to be the same on all nodes.
func (n *Nodes) Config() string { return n.config }

// Started is when this life of the node began.
func (n *Nodes) Started() time.Time { return n.started }

// Tell has what f returns told to all nodes under a key in each beat; nil is
// nothing. Whoever has missed a beat hears the next: f tells how it is, not what has
// changed. It may be called by several at once.
func (n *Nodes) Tell(key string, f func() json.RawMessage) { n.tellers[key] = f }

// Hear calls f with what other nodes tell under a key, by Tell and by Say, one call at
// a time and in the order of the calls of Watch. It must not wait.
func (n *Nodes) Hear(key string, f func(ID, json.RawMessage)) { n.hearers[key] = f }

// Answer calls f for each question of a kind. It must not wait for other nodes.
func (n *Nodes) Answer(kind string, f func(from ID, question []byte) (answer []byte, err error)) {
	n.answers[kind] = f
}

// Watch calls f for each node that comes or goes, one call at a time. It must not
// wait.
func (n *Nodes) Watch(f func(Change)) { n.watchers = append(n.watchers, f) }

// Start begins to listen to the other nodes and says that this one is alive, from
// now on until Close. All of Tell, Hear, Answer and Watch have been called.
func (n *Nodes) Start() error {
	if n.nc == nil {
		return nil
	}
	// Whoever hears a beat may ask at once.
	if _, err := n.nc.Subscribe(askRoot+n.self.Life, n.asked); err != nil {
		return fmt.Errorf("subscribe to questions: %w", err)
	}
	if _, err := n.nc.Subscribe(askAll, n.asked); err != nil {
		return fmt.Errorf("subscribe to questions to all: %w", err)
	}
	if _, err := n.nc.Subscribe(beatSubject, n.hear); err != nil {
		return fmt.Errorf("subscribe to the nodes: %w", err)
	}
	n.joined.Store(true)
	n.Go(n.run)
	return nil
}

// Go calls f on a goroutine that Close waits for, with a context that it ends. After
// Close it does nothing.
func (n *Nodes) Go(f func(ctx context.Context)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.tasks.Go(func() { f(n.life) })
	}
}

// Single reports whether the node is without a cluster.
func (n *Nodes) Single() bool { return n.nc == nil }

// Alive reports whether a life is that of another node that is alive. It is false
// before watchers are told that it is gone, and true before they are told that it came.
func (n *Nodes) Alive(life string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.peers[life] != nil
}

// Leave says that this node stops and will Close: others do not give it anything new
// to do, and know whom they stop together with. It may be called again.
func (n *Nodes) Leave() {
	if !n.leaving.Swap(true) {
		n.Beat()
	}
}

// IsLeaving reports whether another node, by its name, has said that it stops.
func (n *Nodes) IsLeaving(name string) bool {
	return slices.ContainsFunc(n.Peers(), func(p Peer) bool { return p.Name == name && p.Leaving })
}

// Close says that this node is gone and ends everything. It may be called again.
func (n *Nodes) Close() {
	n.closing.Do(func() {
		n.stop()
		n.mu.Lock()
		n.closed = true
		n.mu.Unlock()
		n.tasks.Wait()
		if n.nc != nil {
			// Last: nobody hears what is told after it.
			n.say(beat{ID: n.self, Started: n.started, Time: time.Now(), Gone: true})
			_ = n.nc.Flush()
			n.nc.Close()
		}
	})
}

// Say tells all nodes something once, at once, and in order with what is told under
// Tell. Who cannot hear it now never does.
func (n *Nodes) Say(key string, text json.RawMessage) {
	if n.nc == nil {
		return
	}
	n.say(n.beatOf(map[string]json.RawMessage{key: text}))
}

// Again has watchers told of all nodes that are alive as if they came: what these said a
// moment ago may not have come here.
func (n *Nodes) Again() {
	n.changing.Lock()
	defer n.changing.Unlock()
	for _, p := range n.Peers() {
		for _, f := range n.watchers {
			f(Change{ID: p.ID})
		}
	}
}

// Beat tells all nodes what Tell is about without waiting for the next beat, from Start
// on.
func (n *Nodes) Beat() {
	if n.joined.Load() {
		n.say(n.beat())
	}
}

func (n *Nodes) run(ctx context.Context) {
	beats := time.NewTicker(BeatPeriod)
	defer beats.Stop()
	looks := time.NewTicker(buryPeriod)
	defer looks.Stop()
	n.say(n.beat())
	for {
		select {
		case <-n.greet:
			n.say(n.beat())
		case <-beats.C:
			n.say(n.beat())
		case now := <-looks.C:
			n.bury(now)
		case <-ctx.Done():
			return
		}
	}
}

func (n *Nodes) beat() beat {
	told := make(map[string]json.RawMessage, len(n.tellers))
	for key, f := range n.tellers {
		if text := f(); text != nil {
			told[key] = text
		}
	}
	return n.beatOf(told)
}

func (n *Nodes) beatOf(told map[string]json.RawMessage) beat {
	return beat{ID: n.self, Config: n.config, Started: n.started, Time: time.Now(), Ahead: n.ahead(), Leaving: n.leaving.Load(), Told: told}
}

// ahead are those whose clocks are ahead of this node's.
func (n *Nodes) ahead() map[string]time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all map[string]time.Duration
	for life, p := range n.peers {
		if p.Ahead >= aheadFrom {
			if all == nil {
				all = make(map[string]time.Duration)
			}
			all[life] = p.Ahead
		}
	}
	return all
}

func (n *Nodes) say(b beat) {
	text, err := json.Marshal(b)
	if err == nil {
		err = n.nc.Publish(n.relay+beatSubject, text)
	}
	if err != nil {
		// The next beat says it again.
		n.log.Debug("cannot tell the other nodes", slog.Any("error", err))
	}
}

// hear takes over what another node says. nats.go calls it one message at a time.
func (n *Nodes) hear(m *nats.Msg) {
	now := time.Now()
	var b beat
	if err := json.Unmarshal(m.Data, &b); err != nil || b.Life == n.self.Life {
		return
	}
	n.changing.Lock()
	defer n.changing.Unlock()
	if b.Gone {
		n.removeLocked(b.ID, now)
		return
	}
	came, known := n.take(&b, now)
	if !known {
		return
	}
	if came {
		n.changeLocked(Change{ID: b.ID})
		// It need not wait for the next beat to know this node.
		select {
		case n.greet <- struct{}{}:
		default:
		}
	}
	for key, text := range b.Told {
		if f := n.hearers[key]; f != nil {
			f(b.ID, text)
		}
	}
}

// take notes that a node is alive, and reports whether it has come, and is to be
// heard: what was on its way when a node said that it goes is not.
func (n *Nodes) take(b *beat, now time.Time) (came, known bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, gone := n.gone[b.Life]; gone {
		return false, false
	}
	p := n.peers[b.Life]
	if came = p == nil; came {
		p = &Peer{ID: b.ID, Since: now}
		n.peers[b.Life] = p
	}
	p.Config, p.Started, p.Heard, p.Leaving = b.Config, b.Started, now, b.Leaving
	if p.Ahead = max(b.Time.Sub(now), 0); b.Ahead[n.self.Life] > 0 {
		p.Ahead = -b.Ahead[n.self.Life]
	}
	return came, true
}

// removeLocked notes that a node said that it goes.
func (n *Nodes) removeLocked(id ID, now time.Time) {
	n.mu.Lock()
	_, known := n.peers[id.Life]
	delete(n.peers, id.Life)
	n.gone[id.Life] = now
	n.mu.Unlock()
	if known {
		n.changeLocked(Change{ID: id, Gone: true})
	}
}

// bury removes the dead. One that is heard again has come again: it was cut off.
func (n *Nodes) bury(now time.Time) {
	n.changing.Lock()
	defer n.changing.Unlock()
	var dead []ID
	n.mu.Lock()
	for life, p := range n.peers {
		if now.Sub(p.Heard) >= DeadAfter {
			dead = append(dead, p.ID)
			delete(n.peers, life)
		}
	}
	maps.DeleteFunc(n.gone, func(_ string, at time.Time) bool { return now.Sub(at) > time.Minute })
	n.mu.Unlock()
	for _, id := range dead {
		n.changeLocked(Change{ID: id, Gone: true})
	}
}

func (n *Nodes) changeLocked(c Change) {
	n.log.Info("a node of the cluster came or went", slog.String("node", c.Name), slog.Bool("gone", c.Gone))
	for _, f := range n.watchers {
		f(c)
	}
}

// Peers are the other nodes that are alive, by name.
func (n *Nodes) Peers() []Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	peers := make([]Peer, 0, len(n.peers))
	for _, p := range n.peers {
		peers = append(peers, *p)
	}
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Life, b.Life)) })
	return peers
}
