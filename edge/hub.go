package edge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"reecho/broker"
	"reecho/broker/amount"
	"reecho/broker/cluster"
	"reecho/broker/presence"
	"reecho/broker/presence/exchange"
	"reecho/edge/app"
	"reecho/edge/fanout"
	"reecho/edge/limit"
	"reecho/edge/pusher"
	"reecho/edge/socket"
	"reecho/replay"
	"reecho/replay/receipt"
	"reecho/replay/session"
)

// Defaults of Config.
const (
	// DefaultLinger outlasts a stock pusher-js that waits 15 s after a
	// refused port (PROTOCOL §11.6) several times over.
	DefaultLinger      = 120 * time.Second
	DefaultPongTimeout = 30 * time.Second
	// DefaultPingInterval is below the minute after which nginx, HAProxy and
	// the balancers of clouds cut what is silent.
	DefaultPingInterval = 45 * time.Second
	// DefaultChannelMemory is for about 100,000 channels.
	DefaultChannelMemory = 512 << 20
	DefaultLingerMemory  = 64 << 20
)

// putOffPeriod is how often put-off work is looked at. It adds to every delay.
const putOffPeriod = 250 * time.Millisecond

// Config of a Hub. The zero value is usable.
type Config struct {
	// PathPrefix stands before /app/{key}; "" or "/something".
	PathPrefix string
	// Shards is the number of fan-out goroutines. 0 is GOMAXPROCS.
	Shards int
	// Linger is how long a channel without subscribers is still followed.
	// 0 is DefaultLinger.
	Linger time.Duration
	// LingerMemory bounds the bytes of such channels, oldest dropped first.
	// 0 is DefaultLingerMemory.
	LingerMemory int
	// ChannelMemory bounds the bytes of channels with subscribers, and of the
	// subscriptions; above it subscriptions are refused. 0 is
	// DefaultChannelMemory.
	ChannelMemory int
	// PongTimeout is how long after a ping a client may stay silent before
	// it is closed with 4201 (PROTOCOL §2.2). 0 is DefaultPongTimeout.
	PongTimeout time.Duration
	// PingInterval is how long a client may hear nothing; then it gets a
	// WebSocket ping. It bounds the silence to within a second. 0: none are
	// sent for this.
	PingInterval time.Duration
	// ReplayMemory bounds the bytes of recent events that are kept in memory
	// for clients that come back. 0 is replay.DefaultMemory.
	ReplayMemory int
	// Sessions is about clients that come with a session id.
	Sessions session.Config
	// Receipts is about publishes that come with a key.
	Receipts receipt.Config
	// ReplaysPerAddress is how many replays of one client address read from the
	// log at once, and how many that want the past; more wait. 0 is DefaultReplaysPerAddress.
	ReplaysPerAddress int
	// Ledger counts who ran into a limit; nil does not.
	Ledger *limit.Ledger
	// Hooks is told what happens on channels; nil: nobody is.
	Hooks Hooks
}

// Validate reports every problem of c at once. NewHub calls it.
func (c *Config) Validate() error {
	sessions, receipts := c.Sessions.Validate(), c.Receipts.Validate()
	if sessions != nil {
		sessions = fmt.Errorf("sessions: %w", sessions)
	}
	if receipts != nil {
		receipts = fmt.Errorf("receipts: %w", receipts)
	}
	return errors.Join(
		amount.NotNegative("Shards", c.Shards),
		amount.NotNegative("Linger", c.Linger),
		amount.NotNegative("LingerMemory", c.LingerMemory),
		amount.NotNegative("ChannelMemory", c.ChannelMemory),
		amount.NotNegative("PongTimeout", c.PongTimeout),
		amount.NotNegative("PingInterval", c.PingInterval),
		amount.NotNegative("ReplayMemory", c.ReplayMemory),
		amount.NotNegative("ReplaysPerAddress", c.ReplaysPerAddress),
		sessions, receipts,
	)
}

// withDefaults returns c with every 0 replaced but those of PingInterval, which
// has a meaning, of Shards and ReplayMemory, which packages fanout and replay
// know, and of Sessions and Receipts.
func (c Config) withDefaults() Config {
	c.Linger = cmp.Or(c.Linger, DefaultLinger)
	c.LingerMemory = cmp.Or(c.LingerMemory, DefaultLingerMemory)
	c.ChannelMemory = cmp.Or(c.ChannelMemory, DefaultChannelMemory)
	c.PongTimeout = cmp.Or(c.PongTimeout, DefaultPongTimeout)
	c.ReplaysPerAddress = cmp.Or(c.ReplaysPerAddress, DefaultReplaysPerAddress)
	return c
}

// Hub connects clients with channels for every app of a node. It is safe for
// concurrent use.
type Hub struct {
	cfg     Config
	apps    *app.Registry
	node    *services
	tenants map[*app.App]*Tenant
	// refusals are connections that wait for the peer to close.
	refusals refusals

	stop     context.CancelFunc // ends what is done for clients
	stopTask context.CancelFunc // ends the tasks, after clients are closed
	tasks    sync.WaitGroup
}

// NewHub starts a hub for apps over b, whose Nodes are started after it. Close ends
// it; b must outlive it. The context bounds the start only.
func NewHub(ctx context.Context, cfg Config, apps *app.Registry, b *broker.Broker, log *slog.Logger) (*Hub, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	records, err := session.OpenRecords(ctx, cfg.Sessions, b)
	if err != nil {
		return nil, err
	}
	receipts, err := receipt.Open(ctx, cfg.Receipts, b)
	if err != nil {
		return nil, err
	}
	table, terminated, err := openTerminations(ctx, cfg, apps, b)
	if err != nil {
		return nil, err
	}
	h := newHub(cfg, sources{ //nolint:contextcheck // the context bounds the start only
		broker: b, logs: replay.LogsOf(b), records: records, others: othersOf(b), rings: ringsOf(b),
		// What expires must have been compared before.
		sweep: min(replay.DefaultSweep, max(b.ShortestAge()/4, time.Second)),
	}, log)
	h.apps, h.node.receipts = apps, receipts
	if !b.Nodes().Single() {
		h.node.exchange = exchange.New(b, rooms{h}, log)
	}
	for _, a := range apps.All() {
		h.tenants[a] = newTenant(h.node, a)
	}
	h.node.terminated = table
	h.remember(terminated)
	h.join()
	tasks, stopTask := context.WithCancel(context.WithoutCancel(ctx))
	h.stopTask = stopTask
	h.tasks.Go(func() { h.run(tasks) })
	return h, nil
}

// sources is what a hub reads and writes: all of it a broker's, but in tests.
type sources struct {
	broker  *broker.Broker
	logs    replay.Logs
	records session.Records
	others  session.Others // nil: the node is alone
	rings   replay.Others  // nil: the node is alone
	sweep   time.Duration  // see replay.Config
}

// othersOf are the nodes that have sessions in the same records.
func othersOf(b *broker.Broker) session.Others {
	if line := b.Nodes().Line("sessions"); line.Name() != "" {
		return line
	}
	return nil
}

// ringsOf are the nodes that keep recent events of the same channels.
func ringsOf(b *broker.Broker) replay.Others {
	if b.Nodes().Single() {
		return nil
	}
	return b.Nodes().Line("rings")
}

// newHub makes a hub without apps, and starts what they share.
func newHub(cfg Config, from sources, log *slog.Logger) *Hub {
	cfg = cfg.withDefaults()
	lines := limit.Lines(log)
	node := &services{
		cfg: cfg, broker: from.broker, nodes: cluster.Alone(), log: log, lines: lines, started: time.Now(),
		sessions: session.Open(cfg.Sessions, from.records, from.others, lines), pool: fanout.NewPool[*client](cfg.Shards),
		census: census{gone: make(chan struct{})}, crowd: newCrowd(),
	}
	if from.broker != nil {
		node.nodes = from.broker.Nodes()
	}
	node.neighbours = newNeighbours(node.nodes, log)
	node.leadTeller, node.grants = newLeadTeller(node.nodes), newGrantTimes(cfg.Sessions.Time)
	node.memory.limit = int64(cfg.ChannelMemory)
	node.lingering.limit, node.lingering.ledger = int64(cfg.LingerMemory), cfg.Ledger
	node.replay = replay.Open(from.logs, replay.Config{
		Memory: cfg.ReplayMemory, Sweep: from.sweep, Slots: replay.DefaultSlots * node.pool.Shards(), Throttle: node.pool.Wait,
		Frame: textFrame, Position: positionedFrame, Others: from.rings, Text: socket.Payload,
	}, lines)
	h := &Hub{cfg: cfg, node: node, tenants: make(map[*app.App]*Tenant)}
	node.ctx, h.stop = context.WithCancel(context.Background())
	return h
}

// run does what is put off, until ctx ends.
func (h *Hub) run(ctx context.Context) {
	putOff := time.NewTicker(putOffPeriod)
	defer putOff.Stop()
	ticks := time.NewTicker(fanout.TickPeriod)
	defer ticks.Stop()
	for {
		select {
		case now := <-ticks.C:
			h.refusals.tick(now)
		case now := <-putOff.C:
			h.node.lingering.close(now.Add(-h.cfg.Linger))
			h.node.later.run(now)
		case <-ctx.Done():
			return
		}
	}
}

// Close closes every client with 4200, spread over at most spread, waits until
// they are gone or ctx ends, says goodbye to other nodes, and stops the hub. New clients are closed with
// 4200 as soon as it is called.
func (h *Hub) Close(ctx context.Context, spread time.Duration) error {
	h.drain(ctx, spread)
	h.stop()
	var err error
	select {
	case <-h.node.census.gone:
	case <-ctx.Done():
		err = fmt.Errorf("wait for clients to close: %w", ctx.Err())
	}
	if h.node.exchange != nil {
		h.node.exchange.Close()
	}
	h.node.sessions.Close(ctx)
	// Others that stop at the same time may store yet, which takes a majority.
	h.node.stored.Store(true)
	h.node.nodes.Beat()
	h.node.crowd.awaitStored(ctx, h.node.nodes)
	// The goodbye: whoever hears it counts nobody here any more.
	h.node.nodes.Close()
	h.node.replay.Close()
	if h.node.receipts != nil {
		h.node.receipts.Close()
	}
	h.node.pool.Close()
	h.stopTask()
	h.tasks.Wait()
	return err
}

// Apps returns the apps the hub serves.
func (h *Hub) Apps() *app.Registry { return h.apps }

// Members returns the ids of the users on a presence channel, on all nodes, in
// ascending order. It is never nil. If nobody on this node is on the channel, other
// nodes are asked, about 300 ms at most; what they say in that time is what is known.
func (h *Hub) Members(ctx context.Context, a *app.App, channel string) []string {
	ch := h.tenants[a].channels.find(channel)
	if h.node.exchange == nil || ch != nil && ch.ready() {
		return ch.memberIDs()
	}
	var all presence.Members
	if ch != nil {
		for _, id := range ch.memberIDs() {
			all.Join(id, nil)
		}
	}
	for _, part := range h.node.exchange.Ask(ctx, broker.Ref{App: a.ID, Channel: channel}) {
		for _, m := range part.Came {
			all.Join(m.ID, nil)
		}
	}
	return sorted(all.IDs())
}

// Cached returns the data of the event a cache channel would give a new
// subscriber and how long it is still remembered; ok is false when there is
// none.
func (h *Hub) Cached(ctx context.Context, a *app.App, channel string) (data string, ttl time.Duration, ok bool, err error) {
	ev, found, err := h.node.broker.Log(broker.Ref{App: a.ID, Channel: channel}).Last(ctx)
	if err != nil {
		return "", 0, false, fmt.Errorf("read the last event of %q: %w", channel, err)
	}
	if !found {
		return "", 0, false, nil
	}
	ttl, ok = h.tenants[a].remaining(ev, time.Now())
	if !ok {
		return "", 0, false, nil
	}
	data, err = pusher.EventData(ev.Frame)
	if err != nil {
		return "", 0, false, fmt.Errorf("[unexpected] stored event %d of %q: %w", ev.Sequence, channel, err)
	}
	return data, ttl, true, nil
}

// join has the hub take part in what the nodes of a cluster tell and ask each other.
func (h *Hub) join() {
	h.answerOccupancy()
	h.shareConnections()
	h.shareTerminations()
	h.shareLeads()
	h.node.neighbours.share(h)
}
