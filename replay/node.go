package replay

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"reecho/broker"
)

// Defaults of Config.
const (
	DefaultRecheck = 250 * time.Millisecond
	DefaultSweep   = 30 * time.Second
	DefaultMemory  = 64 << 20 // bytes
	DefaultSlots   = 32
)

// sweepBatch is how many channels one request to the log asks for.
const sweepBatch = 1000

// compareAgain is how soon a comparison that failed is tried again: until it works
// this node does not know what it misses.
const compareAgain = time.Second

// maxFills bounds the reads under way at once after a disturbance, so that
// repair does not starve live traffic.
const maxFills = 64

// Config of a Node. The zero value is usable, but for Frame and Position.
type Config struct {
	// Recheck is the delay after which a new channel is compared with the
	// stream once, because interest takes time to cross a mesh, and one whose
	// first event came. 0 is DefaultRecheck.
	Recheck time.Duration
	// Sweep is the period in which all channels are compared with the stream.
	// 0 is DefaultSweep.
	Sweep time.Duration
	// Memory bounds the bytes of recent events that are kept of all channels
	// for clients that come back, and what one pass over a stream holds. 0 is
	// DefaultMemory.
	Memory int
	// Slots is how many parts of answers are given to clients at once: live
	// events wait for no more than these. 0 is DefaultSlots.
	Slots int
	// Throttle, if not nil, is called after each live event, without any
	// lock, and may block: back-pressure on the live path. What the broker
	// drops meanwhile is read again.
	Throttle func()
	// Frame makes what is sent of a stored text, Position the same with a
	// position from what Frame made. Both must leave their argument alone and
	// may be called with a channel locked.
	Frame    func(text []byte) []byte
	Position func(frame []byte, p Position) []byte
	// Others, if not nil, are asked for what this node would have to read, and Text
	// is the text that Frame made a frame of.
	Others Others
	Text   func(frame []byte) []byte
}

func (c Config) withDefaults() Config {
	c.Recheck = cmp.Or(c.Recheck, DefaultRecheck)
	c.Sweep = cmp.Or(c.Sweep, DefaultSweep)
	c.Memory = cmp.Or(c.Memory, DefaultMemory)
	c.Slots = cmp.Or(c.Slots, DefaultSlots)
	if c.Throttle == nil {
		c.Throttle = func() {}
	}
	return c
}

// Node is what the channels of a node share: it compares them with the log and
// repairs their holes, bounds the memory of what they keep, and reads what
// clients that come back have missed. It is safe for concurrent use.
type Node struct {
	logs    Logs
	cfg     Config
	log     *slog.Logger
	history *History
	memory  *Memory
	slots   chan struct{}

	ctx   context.Context //nolint:containedctx // the node's own life, ended by Close
	stop  context.CancelFunc
	tasks sync.WaitGroup
	fills chan struct{} // semaphore

	mu       sync.Mutex
	closed   bool
	channels map[broker.Ref]*Channel // those that follow their log
	rechecks []recheck               // ascending by due
	wake     chan struct{}
}

type recheck struct {
	due time.Time
	ch  *Channel
}

// Open starts a node over logs, which must outlive it. Close ends it.
func Open(logs Logs, cfg Config, log *slog.Logger) *Node {
	cfg = cfg.withDefaults()
	n := &Node{
		logs: logs, cfg: cfg, log: log,
		history: NewHistory(logs, cfg.Memory), memory: NewMemory(cfg.Memory),
		slots: make(chan struct{}, cfg.Slots), fills: make(chan struct{}, maxFills),
		channels: make(map[broker.Ref]*Channel), wake: make(chan struct{}, 1),
	}
	n.ctx, n.stop = context.WithCancel(context.Background())
	if cfg.Others != nil {
		cfg.Others.Answer(n.answer)
	}
	n.tasks.Go(n.run)
	return n
}

// Close ends every read and closes every channel that is still open.
func (n *Node) Close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.stop()
	for _, ch := range n.all() {
		ch.Close()
	}
	n.tasks.Wait()
	n.history.Close()
}

// Memory is how many bytes of events are kept in memory for clients that come back, how
// many may be, and how many channels have lost theirs for that.
func (n *Node) Memory() (bytes, limit int64, evicted uint64) {
	return n.memory.Bytes(), n.memory.limit, n.memory.evicted.Load()
}

// remember compares a channel with the log from now on; false: the node is
// closed.
func (n *Node) remember(ch *Channel) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.channels[ch.ref] = ch
	n.recheckLocked(ch)
	return true
}

// recheck compares a channel with the log in a while, together with others.
func (n *Node) recheck(ch *Channel) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.recheckLocked(ch)
}

func (n *Node) recheckLocked(ch *Channel) {
	n.rechecks = append(n.rechecks, recheck{due: time.Now().Add(n.cfg.Recheck), ch: ch})
	if len(n.rechecks) == 1 {
		select {
		case n.wake <- struct{}{}:
		default:
		}
	}
}

func (n *Node) forget(ch *Channel) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.channels[ch.ref] == ch {
		delete(n.channels, ch.ref)
	}
}

// startFill runs fill unless the node is closed.
func (n *Node) startFill(fill func(context.Context)) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.tasks.Go(func() {
		select {
		case n.fills <- struct{}{}:
			defer func() { <-n.fills }()
		case <-n.ctx.Done():
		}
		fill(n.ctx)
	})
	return true
}

// run compares channels with the stream: each once when it is new and when its
// first event came, all of them every Sweep,
// after each disturbance of the live path, and after a comparison that failed.
func (n *Node) run() {
	sweep := time.NewTicker(n.cfg.Sweep)
	defer sweep.Stop()
	due := time.NewTimer(n.cfg.Recheck)
	defer due.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		worked := true
		select {
		case <-n.ctx.Done():
			return
		case stream := <-n.logs.Disturbed():
			worked = n.compare(n.disturbed(stream))
		case <-sweep.C:
			worked = n.compare(n.all())
		case <-again.C:
			worked = n.compare(n.all())
		case <-due.C:
			channels, next := n.due(time.Now())
			worked = n.compare(channels)
			due.Reset(next)
		case <-n.wake:
			due.Reset(n.cfg.Recheck)
		}
		if !worked {
			again.Reset(compareAgain)
		}
	}
}

// due takes the rechecks whose time has come, and says when to look again.
func (n *Node) due(now time.Time) (channels []*Channel, next time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := 0
	for i < len(n.rechecks) && !n.rechecks[i].due.After(now) {
		if ch := n.rechecks[i].ch; n.channels[ch.ref] == ch {
			channels = append(channels, ch)
		}
		i++
	}
	n.rechecks = n.rechecks[i:]
	if len(n.rechecks) == 0 {
		n.rechecks = nil
		return channels, n.cfg.Sweep
	}
	return channels, n.rechecks[0].due.Sub(now)
}

func (n *Node) all() []*Channel {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]*Channel, 0, len(n.channels))
	for _, ch := range n.channels {
		all = append(all, ch)
	}
	return all
}

// disturbed returns the channels that are to be compared with a stream, or with
// others of which it was told meanwhile.
func (n *Node) disturbed(stream int) []*Channel {
	streams := map[int]bool{stream: true}
	for {
		select {
		case stream := <-n.logs.Disturbed():
			streams[stream] = true
			continue
		default:
		}
		break
	}
	all := n.all()
	if streams[broker.AllStreams] {
		return all
	}
	return slices.DeleteFunc(all, func(ch *Channel) bool { return !streams[ch.log.Stream()] })
}

// compare tells each channel the newest stored sequence of it. It reports whether
// that worked for all.
func (n *Node) compare(channels []*Channel) bool {
	for len(channels) > 0 {
		batch := channels[:min(len(channels), sweepBatch)]
		channels = channels[len(batch):]
		if err := n.compareBatch(batch); err != nil {
			if n.ctx.Err() == nil && n.logs.Failure() == nil {
				n.log.Warn("cannot compare channels with the stream", slog.Any("error", err))
			}
			return false
		}
	}
	return true
}

func (n *Node) compareBatch(channels []*Channel) error {
	refs := make([]broker.Ref, len(channels))
	for i, ch := range channels {
		refs[i] = ch.ref
		if ch.outdated() {
			if err := ch.renew(n.ctx); err != nil {
				return err
			}
		}
	}
	tails, err := n.logs.Tails(n.ctx, refs)
	if err != nil {
		return err
	}
	states := make(map[int]broker.State)
	var unsettled error
	for i, ch := range channels {
		if !ch.compared(tails[i]) {
			continue
		}
		stream := ch.log.Stream()
		state, known := states[stream]
		if !known {
			if state, err = ch.log.State(n.ctx); err != nil {
				return err
			}
			states[stream] = state
		}
		unsettled = errors.Join(unsettled, ch.settle(state))
	}
	return unsettled
}

// inSlot waits for a slot and calls give. If that gives something to a client's
// shard, it waits until the shard has closed written.
func (n *Node) inSlot(ctx context.Context, give func(written chan<- struct{}) (given bool)) error {
	select {
	case n.slots <- struct{}{}:
		defer func() { <-n.slots }()
	case <-ctx.Done():
		return waited(ctx, "for others to be replayed to")
	}
	written := make(chan struct{})
	if !give(written) {
		return nil
	}
	select {
	case <-written:
	case <-ctx.Done(): // the shard does it all the same
	}
	return nil
}
