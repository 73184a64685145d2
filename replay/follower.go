package replay

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"reecho/broker"
)

// Defaults of Config.
const (
	DefaultRecheck = 250 * time.Millisecond
	DefaultSweep   = 30 * time.Second
)

// sweepBatch is how many tails one request to the broker asks for.
const sweepBatch = 1000

// maxFills bounds the reads under way at once after a disturbance, so that
// repair does not starve live traffic.
const maxFills = 64

// Config of a Follower. The zero value is usable.
type Config struct {
	// Recheck is the delay after which a new tail is compared with the
	// stream once, because interest takes time to cross a mesh. 0 is
	// DefaultRecheck.
	Recheck time.Duration
	// Sweep is the period in which all tails are compared with the stream.
	// 0 is DefaultSweep.
	Sweep time.Duration
	// Throttle, if not nil, is called after each live event, without any
	// lock, and may block: back-pressure on the live path. What the broker
	// drops meanwhile is read again.
	Throttle func()
}

// Follower follows channels for a node: it opens tails and repairs their
// holes. It is safe for concurrent use.
type Follower struct {
	broker *broker.Broker
	cfg    Config
	log    *slog.Logger

	ctx   context.Context //nolint:containedctx // the follower's own life, ended by Close
	stop  context.CancelFunc
	tasks sync.WaitGroup
	fills chan struct{} // semaphore

	mu       sync.Mutex
	closed   bool
	tails    map[*Tail]struct{}
	rechecks []recheck // ascending by due
	wake     chan struct{}
}

type recheck struct {
	due  time.Time
	tail *Tail
}

// NewFollower starts a follower over b. Close ends it; b must outlive it.
func NewFollower(b *broker.Broker, cfg Config, log *slog.Logger) *Follower {
	if cfg.Recheck == 0 {
		cfg.Recheck = DefaultRecheck
	}
	if cfg.Sweep == 0 {
		cfg.Sweep = DefaultSweep
	}
	if cfg.Throttle == nil {
		cfg.Throttle = func() {}
	}
	ctx, stop := context.WithCancel(context.Background())
	f := &Follower{
		broker: b, cfg: cfg, log: log, ctx: ctx, stop: stop,
		fills: make(chan struct{}, maxFills),
		tails: make(map[*Tail]struct{}),
		wake:  make(chan struct{}, 1),
	}
	f.tasks.Go(f.run)
	return f
}

// Close ends every fill and closes every tail that is still open.
func (f *Follower) Close() {
	f.mu.Lock()
	f.closed = true
	open := make([]*Tail, 0, len(f.tails))
	for t := range f.tails {
		open = append(open, t)
	}
	f.mu.Unlock()
	f.stop()
	for _, t := range open {
		t.Close()
	}
	f.tasks.Wait()
}

// Open follows a channel from now on: every event stored after Open returned
// reaches sink, and events stored while it runs may.
func (f *Follower) Open(ctx context.Context, app, channel string, sink Sink) (*Tail, error) {
	t := &Tail{follower: f, ref: broker.Ref{App: app, Channel: channel}, sink: sink}
	sub, err := f.broker.Subscribe(ctx, app, channel, t)
	if err != nil {
		return nil, fmt.Errorf("follow channel %q: %w", channel, err)
	}
	t.sub = sub
	// The subscription is in place before the position is read, so nothing
	// falls between the two.
	asked := time.Now()
	last, ok, err := f.broker.Last(ctx, app, channel)
	if err != nil {
		sub.Close()
		return nil, fmt.Errorf("find the end of channel %q: %w", channel, err)
	}
	if !ok {
		last = broker.Event{}
	}
	if !f.remember(t) {
		sub.Close()
		return nil, fmt.Errorf("follow channel %q: %w", channel, broker.ErrClosed)
	}
	t.attach(last, asked)
	return t, nil
}

func (f *Follower) remember(t *Tail) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.tails[t] = struct{}{}
	f.rechecks = append(f.rechecks, recheck{due: time.Now().Add(f.cfg.Recheck), tail: t})
	if len(f.rechecks) == 1 {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
	return true
}

func (f *Follower) forget(t *Tail) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.tails, t)
}

// start runs fill unless the follower is closed.
func (f *Follower) start(fill func(context.Context)) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.tasks.Go(func() {
		select {
		case f.fills <- struct{}{}:
			defer func() { <-f.fills }()
		case <-f.ctx.Done():
		}
		fill(f.ctx)
	})
	return true
}

// run compares tails with the stream: new ones once, all of them every Sweep
// and after each disturbance of the live path.
func (f *Follower) run() {
	sweep := time.NewTicker(f.cfg.Sweep)
	defer sweep.Stop()
	due := time.NewTimer(f.cfg.Recheck)
	defer due.Stop()
	for {
		select {
		case <-f.ctx.Done():
			return
		case <-f.broker.Disturbed():
			f.compare(f.all())
		case <-sweep.C:
			f.compare(f.all())
		case <-due.C:
			tails, next := f.due(time.Now())
			f.compare(tails)
			due.Reset(next)
		case <-f.wake:
			due.Reset(f.cfg.Recheck)
		}
	}
}

// due takes the rechecks whose time has come, and says when to look again.
func (f *Follower) due(now time.Time) (tails []*Tail, next time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for n < len(f.rechecks) && !f.rechecks[n].due.After(now) {
		if _, open := f.tails[f.rechecks[n].tail]; open {
			tails = append(tails, f.rechecks[n].tail)
		}
		n++
	}
	f.rechecks = f.rechecks[n:]
	if len(f.rechecks) == 0 {
		f.rechecks = nil
		return tails, f.cfg.Sweep
	}
	return tails, f.rechecks[0].due.Sub(now)
}

func (f *Follower) all() []*Tail {
	f.mu.Lock()
	defer f.mu.Unlock()
	tails := make([]*Tail, 0, len(f.tails))
	for t := range f.tails {
		tails = append(tails, t)
	}
	return tails
}

// compare nudges each tail with the newest stored sequence of its channel. A
// failed request is left to the next sweep.
func (f *Follower) compare(tails []*Tail) {
	for len(tails) > 0 {
		batch := tails[:min(len(tails), sweepBatch)]
		tails = tails[len(batch):]
		if err := f.compareBatch(batch); err != nil {
			if f.ctx.Err() == nil && f.broker.Failure() == nil {
				f.log.Warn("cannot compare channels with the stream", slog.Any("error", err))
			}
			return
		}
	}
}

func (f *Follower) compareBatch(tails []*Tail) error {
	refs := make([]broker.Ref, len(tails))
	for i, t := range tails {
		refs[i] = t.ref
	}
	asked := time.Now()
	sequences, err := f.broker.Tails(f.ctx, refs)
	if err != nil {
		return err
	}
	states := make(map[int]broker.State)
	for i, t := range tails {
		if !t.compared(sequences[i], asked) {
			continue
		}
		stream := f.broker.Stream(t.ref.App, t.ref.Channel)
		state, known := states[stream]
		if !known {
			if state, err = f.broker.State(f.ctx, t.ref.App, t.ref.Channel); err != nil {
				return err
			}
			states[stream] = state
		}
		t.settle(state, asked)
	}
	return nil
}
