// Package broker is the retained log and the bus: events are stored in
// JetStream before they are acknowledged, and reach every node that follows
// their channel. It knows apps as ids and channels as names.
package broker

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Defaults of Config.
const (
	DefaultPartitions        = 4
	DefaultReplicas          = 1
	DefaultMaxAge            = time.Hour
	MinAge                   = 100 * time.Millisecond // JetStream keeps nothing for less
	DefaultEventsPerChannel  = 1000
	DefaultMaxBytes          = 1 << 30 // all partitions together
	DefaultPublishWindow     = 256     // unacknowledged events per partition
	DefaultPublishQueueBytes = 16 << 20
	DefaultPublishTimeout    = 10 * time.Second
)

// readConnections is the number of connections that reads are spread over. A
// read runs in the read loop of its connection and would hold up publishes.
const readConnections = 4

// duplicateWindow is how long the stream knows message ids. It only has to
// outlast the retries of one publish; at 30,000 events a second each second
// of it costs about 4 MB.
const duplicateWindow = 30 * time.Second

// Config of a Broker. The zero value is usable.
type Config struct {
	// Partitions is the number of streams. It is fixed when the data is
	// created.
	Partitions int
	// Replicas of each stream: 1, 3 or 5.
	Replicas int
	// MaxAge, EventsPerChannel and MaxBytes bound what is retained; the
	// oldest events go first.
	MaxAge           time.Duration
	EventsPerChannel int64
	MaxBytes         int64
	// PublishWindow is the number of unacknowledged events of a partition.
	PublishWindow int
	// PublishQueueBytes bounds what waits for the window of a partition.
	PublishQueueBytes int
	// PublishTimeout is how long storing an event is tried.
	PublishTimeout time.Duration
	// Rules are exceptions from what is retained. Each that is not Off has
	// streams of its own, so moving a channel to another rule begins a new
	// epoch for it.
	Rules []Rule
	// Apps are those that share the streams of no rule. With more than one,
	// none can push out the events of others that are within their part.
	Apps []AppShare
}

func (c Config) withDefaults() Config {
	c.Partitions = cmp.Or(c.Partitions, DefaultPartitions)
	c.Replicas = cmp.Or(c.Replicas, DefaultReplicas)
	c.MaxAge = cmp.Or(c.MaxAge, DefaultMaxAge)
	c.EventsPerChannel = cmp.Or(c.EventsPerChannel, DefaultEventsPerChannel)
	c.MaxBytes = cmp.Or(c.MaxBytes, DefaultMaxBytes)
	c.PublishWindow = cmp.Or(c.PublishWindow, DefaultPublishWindow)
	c.PublishQueueBytes = cmp.Or(c.PublishQueueBytes, DefaultPublishQueueBytes)
	c.PublishTimeout = cmp.Or(c.PublishTimeout, DefaultPublishTimeout)
	return c
}

// Dialer opens connections to NATS: the embedded server or another.
type Dialer interface {
	Connect(opts ...nats.Option) (*nats.Conn, error)
}

// Event is one event of a channel.
type Event struct {
	// Sequence is the event's place in its stream, ascending and not
	// contiguous within a channel. 0: an ephemeral event, not stored.
	Sequence uint64
	// Previous is the sequence of the event before it on the channel that was
	// still stored when this one was; 0: none. Only live events have it.
	Previous uint64
	// Time is when the event was stored, in nanoseconds since 1970.
	Time int64
	// Exclude is the socket id that does not get the event, "" none.
	Exclude string
	// Frame is the finished JSON text. It must not be changed.
	Frame []byte
}

// Ref names a channel.
type Ref struct{ App, Channel string }

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
	health     *health

	run       context.Context //nolint:containedctx // the broker's own life, ended by Close
	stop      context.CancelFunc
	tasks     sync.WaitGroup
	disturbed chan struct{}
}

// New connects to NATS and creates or updates the streams. newEpoch says that
// the sequences of existing data cannot be trusted, so positions held by
// clients must not be compared with them. The context bounds the start only.
// If d is a Keeper, the broker restarts its server when that has failed. Close
// ends the broker; the server behind d must outlive it. The error is
// ErrPartitions if the data has another number of partitions, ErrRules if the
// rules cannot be applied to it.
func New(ctx context.Context, cfg Config, d Dialer, newEpoch bool, log *slog.Logger) (*Broker, error) {
	b := &Broker{cfg: cfg.withDefaults(), log: log, disturbed: make(chan struct{}, 1)}
	if err := checkRules(b.cfg.Rules); err != nil {
		return nil, err
	}
	b.makeLanes()
	b.run, b.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := b.open(ctx, d, newEpoch); err != nil {
		return nil, errors.Join(err, b.Close(ctx))
	}
	return b, nil
}

func (b *Broker) open(ctx context.Context, d Dialer, newEpoch bool) error {
	var err error
	if b.publish, err = d.Connect(nats.Name("publish")); err != nil {
		return err
	}
	if err := b.openStreams(ctx, newEpoch); err != nil {
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
	b.openHealth(d)
	return nil
}

// Close ends all subscriptions and fails publishes under way with ErrClosed.
func (b *Broker) Close(context.Context) error {
	b.stop()
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

// Disturbed receives when live events may have been dropped: after a reconnect
// or when this node was too slow. Tails should be compared with the streams
// then. It has one reader.
func (b *Broker) Disturbed() <-chan struct{} { return b.disturbed }

func (b *Broker) disturb() {
	select {
	case b.disturbed <- struct{}{}:
	default:
	}
}

// Metadata keys of the streams.
const (
	metadataEpoch      = "reecho-epoch"
	metadataPartitions = "reecho-partitions"
)

// unretainedEpoch is the epoch of channels of which nothing is retained.
const unretainedEpoch = "none"

// newEpoch names a life of a stream.
func newEpoch() string { return rand.Text()[:10] }

// openStreams creates the streams or brings them in line with the
// configuration; again gives each a new epoch.
func (b *Broker) openStreams(ctx context.Context, again bool) error {
	js, err := jetstream.New(b.publish)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	for _, l := range b.lanes {
		l.epoch, l.maxMessage = unretainedEpoch, int(b.publish.MaxPayload())
		if !l.retained() {
			continue
		}
		if err := b.openStream(ctx, js, l, again); err != nil {
			return fmt.Errorf("open stream %s, %s: %w", l.stream, l.description(), err)
		}
	}
	return nil
}

func (b *Broker) openStream(ctx context.Context, js jetstream.JetStream, l *lane, again bool) error {
	cfg := b.streamConfig(l)
	existing, err := js.Stream(ctx, cfg.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		l.epoch = newEpoch()
	case err != nil:
		return err
	default:
		have := existing.CachedInfo().Config
		if have.Metadata[metadataPartitions] != cfg.Metadata[metadataPartitions] {
			return fmt.Errorf("%w: the data has %s partitions, %s are configured; keep the number or start with an empty data folder",
				ErrPartitions, have.Metadata[metadataPartitions], cfg.Metadata[metadataPartitions])
		}
		if have.Storage != cfg.Storage {
			return fmt.Errorf("%w: the rule for %q of app %q has events in %s storage, %s is configured; keep the storage or write the pattern another way, which starts an empty log",
				ErrRules, l.rule.Channels, l.rule.App, have.Storage, cfg.Storage)
		}
		l.epoch = have.Metadata[metadataEpoch]
		if again || l.epoch == "" {
			l.epoch = newEpoch()
		}
	}
	cfg.Metadata[metadataEpoch] = l.epoch
	_, err = js.CreateOrUpdateStream(ctx, cfg)
	l.maxMessage = int(min(b.publish.MaxPayload(), l.retention.MaxBytes))
	return err
}

// reopenStreams sees to it that after a restart of the server every stream goes
// on above what it has promised, so that the epochs stay true.
func (b *Broker) reopenStreams(ctx context.Context) error {
	js, err := jetstream.New(b.publish)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	for _, l := range b.lanes {
		if !l.retained() {
			continue
		}
		if err := b.reopenStream(ctx, js, l); err != nil {
			return fmt.Errorf("open stream %s again: %w", l.stream, err)
		}
	}
	return nil
}

// reopenStream moves a stream that has lost its newest events on. It drops
// those before too: who has some of them but not all must be told of a gap, and
// is when nothing is there. A stream in memory has lost all.
func (b *Broker) reopenStream(ctx context.Context, js jetstream.JetStream, l *lane) error {
	newest := max(b.publishers[l.index].newestAcknowledged(), l.seen.Load())
	stream, err := js.Stream(ctx, l.stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) && l.rule != nil && l.rule.Memory {
		cfg := b.streamConfig(l)
		cfg.Metadata[metadataEpoch], cfg.FirstSeq = l.epoch, newest+1
		_, err = js.CreateStream(ctx, cfg)
		return err
	}
	if err != nil || stream.CachedInfo().State.LastSeq >= newest {
		return err
	}
	b.log.Error("a stream has lost events that were stored: all of its events are dropped, clients that come back are told of a gap",
		slog.String("stream", l.stream), slog.Uint64("last", stream.CachedInfo().State.LastSeq), slog.Uint64("stored", newest))
	return stream.Purge(ctx, jetstream.WithPurgeSequence(newest+1))
}

func (b *Broker) streamConfig(l *lane) jetstream.StreamConfig {
	cfg := jetstream.StreamConfig{
		Name:              l.stream,
		Description:       "reecho: " + l.description(),
		Subjects:          []string{l.subjects(storedRoot)},
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardOld,
		Storage:           jetstream.FileStorage,
		Replicas:          b.cfg.Replicas,
		MaxAge:            l.retention.MaxAge,
		MaxMsgsPerSubject: l.retention.EventsPerChannel,
		MaxBytes:          l.retention.MaxBytes,
		AllowDirect:       true,
		Duplicates:        min(duplicateWindow, l.retention.MaxAge),
		RePublish: &jetstream.RePublish{
			Source:      l.subjects(storedRoot),
			Destination: fmt.Sprintf("%s.%s.{{wildcard(1)}}.{{wildcard(2)}}", liveRoot, l.token),
		},
		Metadata: map[string]string{metadataPartitions: fmt.Sprint(b.cfg.Partitions)},
	}
	if r := l.rule; r != nil {
		cfg.Replicas = cmp.Or(r.Replicas, cfg.Replicas)
		if r.Memory {
			cfg.Storage = jetstream.MemoryStorage
		}
	}
	return cfg
}
