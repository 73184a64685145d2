// Package broker is the retained log and the bus: events are stored in
// JetStream before they are acknowledged, and reach every node that follows
// their channel. It knows apps as ids and channels as names.
//
// Channels are spread over streams, each of which has a lane here: some for each
// rule of retention, and some for all else. An event takes this way: Publish has
// the shares of its lane let it in, hands it to the publisher of the lane and
// waits for the acknowledgement of the stream, which sends it to the live
// connection of every node that has a Subscription to the channel. What is stored
// of one channel is read by its Log, what is stored of many by Tails and Scan.
// Beside that, health watches over all of it and mends it.
package broker

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"reecho/broker/cluster"
	"reecho/broker/histogram"
)

// Broker stores and delivers events. It is safe for concurrent use.
type Broker struct {
	cfg   Config
	log   *slog.Logger
	lanes []*lane // of no rule, then of each rule, Config.Partitions each
	// shared: some lanes have a share.
	shared bool

	publishers []*publisher // by lane; nil where nothing is retained
	live       *live
	reads      []*nats.Conn
	publish    *nats.Conn
	opened     time.Time // when the broker began
	health     *health
	nodes      *cluster.Nodes
	api        string  // begins the subjects of JetStream's API
	accord     *accord // nil: there is no cluster
	pulse      *pulse  // nil: the streams are of this broker alone
	clocks     *clocks // nil with pulse
	witness    Witness // nil: the server is none
	keeper     Keeper  // nil: the server is another's
	// stored is how many copies the streams of a cluster have, 0 if there were none.
	stored int

	storesMu sync.Mutex
	stores   []*Store

	published histogram.Histogram
	removals  atomic.Uint64 // of events of apps with more than their share
	// again: the streams cannot be trusted, and all get a new epoch.
	again bool

	run       context.Context //nolint:containedctx // the broker's own life, ended by Close
	stop      context.CancelFunc
	tasks     sync.WaitGroup
	disturbed chan int
	doubted   chan struct{} // capacity 1
}

// Dialer opens connections to NATS: the embedded server or another.
type Dialer interface {
	Connect(opts ...nats.Option) (*nats.Conn, error)
}

// readConnections is the number of connections that reads are spread over. A
// read runs in the read loop of its connection and would hold up publishes.
const readConnections = 4

// New connects to NATS and creates or updates the streams. newEpoch says that
// the sequences of existing data cannot be trusted, so positions held by
// clients must not be compared with them. The context bounds the start only.
// If d is a Keeper, the broker restarts its server when that has failed; if it is
// a Rejoiner, what came while it was not connected is looked for; if it is
// a Witness, streams that have lost something get a new epoch, and stores tell it; in
// a copy all do. Close ends the broker; the server behind d must outlive it. The error
// is ErrPartitions if the data has another number of partitions, ErrRules if the rules
// cannot be applied to it.
func New(ctx context.Context, cfg Config, d Dialer, newEpoch bool, log *slog.Logger) (*Broker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := &Broker{cfg: cfg.withDefaults(), log: log, opened: time.Now(), again: newEpoch, disturbed: make(chan int, disturbances), doubted: make(chan struct{}, 1), nodes: cluster.Alone(), api: apiPrefix(cfg.Domain)}
	b.keeper, _ = d.(Keeper)
	if !b.cfg.Shared {
		b.witness, _ = d.(Witness)
	}
	if b.witness != nil && b.witness.Copied() {
		// Who was told of what is not in it cannot be told from who was not.
		log.Warn("the data folder is a copy: what was stored after it was made is lost, clients that come back are told of a gap")
		b.again = true
	}
	b.run, b.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := b.open(ctx, d); err != nil {
		return nil, errors.Join(err, b.Close(ctx))
	}
	return b, nil
}

func (b *Broker) open(ctx context.Context, d Dialer) error {
	var err error
	if b.publish, err = d.Connect(nats.Name("publish")); err != nil {
		return err
	}
	if err := b.findPartitions(ctx); err != nil {
		return err
	}
	b.makeLanes()
	if err := b.openStreams(ctx); err != nil {
		return err
	}
	for range readConnections {
		nc, err := d.Connect(nats.Name("read"))
		if err != nil {
			return err
		}
		b.reads = append(b.reads, nc)
	}
	if err := b.openShares(ctx); err != nil {
		return err
	}
	if err := b.openPublishers(); err != nil {
		return err
	}
	if b.live, err = b.openLive(d); err != nil {
		return err
	}
	b.openHealth()
	return b.openNodes(d) //nolint:contextcheck // nodes ask in the life of the broker
}

// openNodes makes the broker one of a cluster, which its nodes join by Start.
func (b *Broker) openNodes(d Dialer) error {
	if !b.cfg.Shared {
		return nil
	}
	nc, err := d.Connect(nats.Name("nodes"))
	if err != nil {
		return err
	}
	mine := b.cfg.agreement()
	b.nodes = cluster.New(nc, b.cfg.Node, mine.hash(), b.log)
	b.nodes.Over(b.cfg.Relay)
	b.accord = newAccord(b.nodes, mine, b.log)
	b.clocks = newClocks(b.nodes, b.log)
	b.answerReports()
	b.tasks.Go(func() { b.accord.run(b.run) })
	if b.keeper != nil {
		// Who leads on servers of others is theirs to say.
		b.tasks.Go(func() { b.balance(b.run) })
	}
	if r, is := d.(Rejoiner); is {
		b.tasks.Go(func() { b.watchRejoins(b.run, r) })
	}
	return b.openPulse()
}

// Nodes are the other nodes of the cluster. Whoever has this started must have said
// before what is told, heard and answered.
func (b *Broker) Nodes() *cluster.Nodes { return b.nodes }

// Close ends all subscriptions and fails publishes under way with ErrClosed.
func (b *Broker) Close(context.Context) error {
	b.stop()
	b.nodes.Close()
	b.tasks.Wait()
	for _, p := range b.publishers {
		if p != nil {
			p.close()
		}
	}
	if b.live != nil {
		b.live.nc.Close()
	}
	for _, nc := range b.reads {
		nc.Close()
	}
	if b.publish != nil {
		b.publish.Close()
	}
	return nil
}

// AllStreams stands for every stream.
const AllStreams = -1

// disturbances is how many may wait to be read.
const disturbances = 64

// Disturbed receives the number of a stream of which live events may have been
// dropped, because it has another leader, or AllStreams: after a reconnect or when
// this node was too slow. Tails should be compared with the streams then. It has one
// reader.
func (b *Broker) Disturbed() <-chan int { return b.disturbed }

func (b *Broker) disturb(stream int) {
	for {
		select {
		case b.disturbed <- stream:
			return
		default:
		}
		// The reader is busy. What it is not told any more is among all.
		stream = AllStreams
		select {
		case <-b.disturbed:
		default:
		}
	}
}

// reader is one of the connections for reads; any will do.
func (b *Broker) reader() *nats.Conn {
	return b.reads[rand.IntN(len(b.reads))] //nolint:gosec // spreads load
}

// ShortestAge is the shortest time for which events of any channel are retained.
func (b *Broker) ShortestAge() time.Duration {
	shortest := b.cfg.MaxAge
	for l := range b.retainedLanes() {
		shortest = min(shortest, l.retention.MaxAge)
	}
	return shortest
}
