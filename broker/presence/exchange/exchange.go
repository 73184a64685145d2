// Package exchange keeps what the nodes of a cluster know of each other's parts of
// channels the same as what those nodes have (see presence.Parts).
//
// A change is told at once, on the channel's live subject, to all who follow the
// channel. Whatever is lost on that way is found by comparing versions: a node asks
// another one for those parts of which it does not have the version. It does so when
// it begins to follow a channel, and a moment later, because the interest in a subject
// takes its time to reach other servers; when what is told does not follow on what it
// has; when a node comes, or is heard again; and now and then.
package exchange

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"reecho/broker"
	"reecho/broker/cluster"
	"reecho/broker/presence"
)

const (
	// meetTimeout bounds how long a subscriber waits for the parts of other nodes. Of
	// who comes later it is told like of anybody who comes.
	meetTimeout = time.Second
	// lookTimeout bounds a question for what no channel here knows.
	lookTimeout = 300 * time.Millisecond
	// againAfter is when a channel that is new here is compared again, lookEvery how
	// exact that is.
	againAfter = 250 * time.Millisecond
	lookEvery  = 250 * time.Millisecond
	// sweepPeriod is how often all channels are compared: what was lost of one of
	// which nothing was told since is found then.
	sweepPeriod = 10 * time.Second
)

// Rooms is the channels of a node that have parts. Its methods are safe for concurrent
// use, and may be called by the Exchange at any time after New.
type Rooms interface {
	// Have is the version that is known of the part of another node; followed: the
	// channel is one of this node's.
	Have(ref broker.Ref, life string) (version uint64, followed bool)
	// Own is this node's part, nil if that has the version given. It is
	// presence.Nothing of a channel that is none of this node's, and nil if the version
	// is 0 then.
	Own(ref broker.Ref, have uint64) *presence.Delta
	// Take takes what another node says of its part, if that node is alive, and
	// reports whether something before it is missing.
	Take(ref broker.Ref, life string, d presence.Delta) (hole bool)
	// Drop makes all channels forget a node.
	Drop(life string)
	// Each calls visit for every channel, with no lock held.
	Each(visit func(broker.Ref))
}

// Exchange is one node's. It is safe for concurrent use, also below the locks of
// channels, but for Meet and Ask, which wait.
type Exchange struct {
	nodes *cluster.Nodes
	rooms Rooms
	log   *slog.Logger
	out   outbox

	ctx   context.Context //nolint:containedctx // ended by Close
	stop  context.CancelFunc
	tasks sync.WaitGroup

	mu     sync.Mutex
	closed bool
	askers map[string]*asker // by life
	again  []reminder        // by time
}

// reminder is a channel that is to be compared again.
type reminder struct {
	ref broker.Ref
	at  time.Time
}

// New makes the Exchange of a node, whose Nodes are not started yet. Close ends it.
func New(b *broker.Broker, rooms Rooms, log *slog.Logger) *Exchange {
	x := &Exchange{nodes: b.Nodes(), rooms: rooms, log: log, askers: make(map[string]*asker)}
	x.out = outbox{publish: b.Tell, news: make(chan struct{}, 1), log: log}
	x.ctx, x.stop = context.WithCancel(context.Background())
	x.nodes.Answer(kind, x.answer)
	x.nodes.Watch(x.changed)
	x.tasks.Go(x.run)
	return x
}

// Close tells what is still to be told and ends everything.
func (x *Exchange) Close() {
	x.mu.Lock()
	x.closed = true
	x.mu.Unlock()
	x.stop()
	x.tasks.Wait()
	x.Flush()
}

// run does what is not asked for.
func (x *Exchange) run() {
	looks := time.NewTicker(lookEvery)
	defer looks.Stop()
	sweeps := time.NewTicker(sweepPeriod)
	defer sweeps.Stop()
	for {
		select {
		case <-x.out.news:
			x.Flush()
		case now := <-looks.C:
			for _, ref := range x.due(now) {
				x.Compare(ref)
			}
		case <-sweeps.C:
			for _, p := range x.nodes.Peers() {
				x.compareAll(p.Life)
			}
		case <-x.ctx.Done():
			return
		}
	}
}

// changed hears that a node came or went.
func (x *Exchange) changed(c cluster.Change) {
	if c.Gone {
		x.rooms.Drop(c.Life)
		return
	}
	x.compareAll(c.Life)
}

func (x *Exchange) compareAll(life string) {
	x.rooms.Each(func(ref broker.Ref) { x.CompareWith(ref, life) })
}

// Alive reports whether what is told by the node of a life counts. A channel asks under
// its lock: what it takes before Rooms.Drop comes to it is forgotten there.
func (x *Exchange) Alive(life string) bool { return x.nodes.Alive(life) }

// Tell tells all nodes that follow a channel how this node's part has changed, a moment
// later and in order.
func (x *Exchange) Tell(ref broker.Ref, d presence.Delta) { x.out.add(ref, d) }

// Flush tells what Tell has not told yet.
func (x *Exchange) Flush() { x.out.flush() }

// Meet asks all nodes for their parts of a channel that this node begins to follow, and
// waits until it has them, about a second at most. The error is that of ctx.
func (x *Exchange) Meet(ctx context.Context, ref broker.Ref) error {
	waiting, cancel := context.WithTimeout(ctx, meetTimeout)
	defer cancel()
	peers := x.nodes.Peers()
	met := make(chan struct{}, len(peers))
	for _, p := range peers {
		x.want(ref, p.Life, func() { met <- struct{}{} })
	}
	for range peers {
		select {
		case <-met:
		case <-waiting.Done():
		}
	}
	x.remind(ref)
	return ctx.Err()
}

// remind has a channel compared again in a moment.
func (x *Exchange) remind(ref broker.Ref) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.again = append(x.again, reminder{ref: ref, at: time.Now().Add(againAfter)})
}

// due takes out the channels to compare again by now.
func (x *Exchange) due(now time.Time) (refs []broker.Ref) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.again) > 0 && !x.again[0].at.After(now) {
		refs = append(refs, x.again[0].ref)
		x.again = x.again[1:]
	}
	if len(x.again) == 0 {
		x.again = nil
	}
	return refs
}

// Begin is Meet that does not wait.
func (x *Exchange) Begin(ref broker.Ref) {
	x.Compare(ref)
	x.remind(ref)
}

// Compare asks all nodes for their parts of a channel where they differ.
func (x *Exchange) Compare(ref broker.Ref) {
	for _, p := range x.nodes.Peers() {
		x.CompareWith(ref, p.Life)
	}
}

// CompareWith is Compare with one node.
func (x *Exchange) CompareWith(ref broker.Ref, life string) { x.want(ref, life) }

// Ask returns the parts of a channel that other nodes have, of those that answer in
// time, about 300 ms. It is for channels that this node does not follow.
func (x *Exchange) Ask(ctx context.Context, ref broker.Ref) []presence.Delta {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	answers, err := x.nodes.AskAll(ctx, kind, question{{App: ref.App, Channel: ref.Channel}}.text())
	if err != nil {
		x.log.Debug("not all nodes told their part of a channel", slog.String("channel", ref.Channel), slog.Any("error", err))
	}
	var parts []presence.Delta
	for _, text := range answers {
		if a, err := readAnswer(text); err == nil {
			for _, p := range a.Parts {
				parts = append(parts, p.Delta)
			}
		}
	}
	return parts
}
