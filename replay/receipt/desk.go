// Package receipt has publishes that come with a key happen once, however often they are
// tried: a receipt of each is kept for a time, by all nodes of a cluster together.
//
// A receipt is stored before the events, with the ids that they are stored under and
// where their streams end; it is put only in the place of the one that was read, so one
// node is at work on a key at a time. When all events are stored the receipt gets the
// answer, and then the caller does. A receipt that nobody is at work on any more is
// gone on with by who tries again: events are looked for by their ids behind the
// places in the receipt, and what is not found is stored. What a node that was believed
// dead may store meanwhile is under the same ids, which the streams know for a while.
package receipt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"reecho/broker"
	"reecho/broker/cluster"
)

// Errors that callers decide on; with any other, which is one of the broker's, trying
// again helps, too.
var (
	// ErrContent: something else was published with the key. Nothing is stored.
	ErrContent = errors.New("the key was used for something else")
	// ErrFull: there is no room for another key. Nothing is stored.
	ErrFull = errors.New("there is no room for another key")
	// ErrBusy: an earlier try with the key is under way, and has not ended in time.
	ErrBusy = errors.New("an earlier try with the key is under way")
	// ErrUncertain: an earlier try was broken off, and the channel has lost so many
	// events since that nobody can tell which of its were stored.
	ErrUncertain = errors.New("what an earlier try with the key has stored cannot be told any more")
)

// Publish is a call with a key.
type Publish struct {
	App, Key string
	Content  Content
	// Records are what is stored. Publish sets their Sequence.
	Records []broker.Record
	// Answer is called when all is stored, at most once, and makes the answer.
	Answer func() []byte
}

// Desk keeps the receipts. It is safe for concurrent use.
type Desk struct {
	cfg    Config
	broker *broker.Broker
	store  *broker.Store
	line   *cluster.Line

	stop  context.CancelFunc
	tasks sync.WaitGroup
	used  atomic.Int64 // bytes of the store, when that was asked
	added atomic.Int64 // by this node since

	mu   sync.Mutex
	work map[string]chan struct{} // by key: closed when the call that has it is over
}

const (
	// workTimeout bounds what is done beside storing the events: finding out what
	// there is of a key, waiting for others, keeping the answer.
	workTimeout = 10 * time.Second
	// askPause is between two questions to the node that is at work.
	askPause = 20 * time.Millisecond
	// measurePeriod is how often the store is asked for its size, if there was anything new.
	measurePeriod = time.Second
	// overhead is more than a receipt costs beside its text.
	overhead = 200
)

// Open opens the receipts of a broker, whose Nodes are started after it and which must
// outlive the Desk. Close ends it. The context bounds the start only.
func Open(ctx context.Context, cfg Config, b *broker.Broker) (*Desk, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := &Desk{cfg: cfg.withDefaults(), broker: b, line: b.Nodes().Line("receipts"), work: make(map[string]chan struct{})}
	var err error
	d.store, err = b.OpenStore(ctx, broker.StoreConfig{Name: "receipts", MaxAge: d.cfg.Window, MaxBytes: int64(d.cfg.Bytes)})
	if err != nil {
		return nil, fmt.Errorf("open the store of receipts: %w", err)
	}
	d.line.Answer(d.answer)
	d.added.Store(1) // so that it is asked at first
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	d.tasks.Go(func() { d.measure(life) })
	return d, nil
}

// Close stops what Open has started. Calls under way end with the broker.
func (d *Desk) Close() {
	d.stop()
	d.tasks.Wait()
}

// Publish stores p once, and answers what it answered when it was stored. ctx is not
// asked, for what was begun is finished. Errors: those above, and those of
// broker.Publish, after which it may be tried again with the same key.
func (d *Desk) Publish(ctx context.Context, p *Publish) (answer []byte, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workTimeout)
	defer cancel()
	key := keyOf(p.App, p.Key)
	leave, err := d.enter(ctx, key)
	if err != nil {
		return nil, err
	}
	defer leave()
	c := call{desk: d, Publish: p, key: key}
	if !d.full() {
		return c.first(ctx)
	}
	// Keys that are known need no room.
	v, err := d.get(ctx, key)
	if err == nil && v.Revision == 0 {
		err = ErrFull
	}
	if err != nil {
		return nil, err
	}
	return c.again(ctx)
}

// enter waits until no other call on this node is at work on a key.
func (d *Desk) enter(ctx context.Context, key string) (leave func(), err error) {
	for {
		d.mu.Lock()
		other := d.work[key]
		if other == nil {
			over := make(chan struct{})
			d.work[key] = over
			d.mu.Unlock()
			return func() { d.leave(key, over) }, nil
		}
		d.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ErrBusy
		}
	}
}

func (d *Desk) leave(key string, over chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.work, key)
	close(over)
}

// Answers to whether a node is at work on a key.
const (
	answerBusy = "busy"
	answerIdle = "idle"
)

// answer answers other nodes.
func (d *Desk) answer(key []byte) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.work[string(key)] != nil {
		return []byte(answerBusy), nil
	}
	return []byte(answerIdle), nil
}

// atWork reports whether a node may be at work on a key. One that does not answer may
// be, until nobody is there any more. To be wrong costs time, and nothing else: two that
// are at work store the same events under the same ids.
func (d *Desk) atWork(ctx context.Context, life, key string) bool {
	if life == d.line.Life() {
		return false // but for the one who asks
	}
	answer, there, err := d.line.Ask(ctx, life, []byte(key))
	return there && (err != nil || string(answer) == answerBusy)
}

func (d *Desk) get(ctx context.Context, key string) (broker.Value, error) {
	v, err := d.store.Get(ctx, key)
	return v, outage(err)
}

func (d *Desk) put(ctx context.Context, key string, r *receipt, expected uint64) (uint64, error) {
	text := r.text()
	revision, err := d.store.Put(ctx, key, text, expected)
	if err == nil {
		d.added.Add(int64(len(key) + len(text) + overhead))
	}
	return revision, outage(err)
}

// outage makes what is not the last word of a store what it is for a caller of the log.
func outage(err error) error {
	if err == nil || errors.Is(err, broker.ErrConflict) || errors.Is(err, broker.ErrUnavailable) || errors.Is(err, broker.ErrClosed) {
		return err
	}
	return fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
}

// full reports that there is no room for new keys: the store would forget the oldest,
// though they are younger than the window. An eighth is left for what all nodes add until it
// is asked again, and for answers.
func (d *Desk) full() bool {
	return d.used.Load()+d.added.Load() > int64(d.cfg.Bytes)/8*7
}

// Bytes is about how many bytes of keys are kept, on all nodes, and how many may be.
func (d *Desk) Bytes() (used, limit int64) {
	return d.used.Load() + d.added.Load(), int64(d.cfg.Bytes)
}

// measure keeps used until ctx ends.
func (d *Desk) measure(ctx context.Context) {
	ticker := time.NewTicker(measurePeriod)
	defer ticker.Stop()
	for {
		if added := d.added.Load(); added > 0 || d.used.Load() > int64(d.cfg.Bytes)/2 {
			d.measureOnce(ctx, added)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (d *Desk) measureOnce(ctx context.Context, added int64) {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	// While it does not answer nothing is stored either.
	if bytes, err := d.store.Size(ctx); err == nil {
		d.used.Store(bytes)
		d.added.Add(-added)
	}
}
