// Package broker is the retained log and the bus: events are stored in
// JetStream before they are acknowledged, and reach every node that follows
// their channel. It knows apps as ids and channels as names.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// Defaults of Config.
const (
	DefaultPartitions        = 4
	DefaultReplicas          = 1
	DefaultMaxAge            = time.Hour
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
}

func (c Config) withDefaults() Config {
	setDefault(&c.Partitions, DefaultPartitions)
	setDefault(&c.Replicas, DefaultReplicas)
	setDefault(&c.MaxAge, DefaultMaxAge)
	setDefault(&c.EventsPerChannel, DefaultEventsPerChannel)
	setDefault(&c.MaxBytes, DefaultMaxBytes)
	setDefault(&c.PublishWindow, DefaultPublishWindow)
	setDefault(&c.PublishQueueBytes, DefaultPublishQueueBytes)
	setDefault(&c.PublishTimeout, DefaultPublishTimeout)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
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
	cfg    Config
	log    *slog.Logger
	epochs []string // by partition

	publishers []*publisher
	live       *live
	reads      []*nats.Conn
	publish    *nats.Conn

	stop      context.CancelFunc
	tasks     sync.WaitGroup
	disturbed chan struct{}
}

// New connects to NATS and creates or updates the streams. newEpoch says that
// the sequences of existing data cannot be trusted, so positions held by
// clients must not be compared with them. The context bounds the start only.
// Close ends the broker; the server behind d must outlive it. The error is
// ErrPartitions if the data has another number of partitions.
func New(ctx context.Context, cfg Config, d Dialer, newEpoch bool, log *slog.Logger) (*Broker, error) {
	b := &Broker{cfg: cfg.withDefaults(), log: log, disturbed: make(chan struct{}, 1)}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	b.stop = stop
	if err := b.open(ctx, run, d, newEpoch); err != nil {
		return nil, errors.Join(err, b.Close(ctx))
	}
	return b, nil
}

func (b *Broker) open(ctx, run context.Context, d Dialer, newEpoch bool) error {
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
	if err := b.openPublishers(run); err != nil {
		return err
	}
	b.live, err = b.openLive(run, d)
	return err
}

// Close ends all subscriptions and fails publishes under way with ErrClosed.
func (b *Broker) Close(context.Context) error {
	b.stop()
	b.tasks.Wait()
	for _, p := range b.publishers {
		p.close()
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

// Ready returns nil if a stream answers.
func (b *Broker) Ready(ctx context.Context) error {
	if _, err := b.lastSequences(ctx, 0, []string{subject(storedRoot, 0, "", "")}); err != nil {
		return fmt.Errorf("ask the event log: %w", err)
	}
	return nil
}

// Epoch names the life of the sequences of a channel: when it changes,
// sequences from before mean nothing.
func (b *Broker) Epoch(app, channel string) string {
	return b.epochs[Partition(app, channel, b.cfg.Partitions)]
}

// Metadata keys of the streams.
const (
	metadataEpoch      = "reecho-epoch"
	metadataPartitions = "reecho-partitions"
)

func streamName(partition int) string { return fmt.Sprintf("EVENTS-%d", partition) }

// openStreams creates the streams or brings them in line with the
// configuration.
func (b *Broker) openStreams(ctx context.Context, newEpoch bool) error {
	js, err := jetstream.New(b.publish)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	for p := range b.cfg.Partitions {
		epoch, err := b.openStream(ctx, js, p, newEpoch)
		if err != nil {
			return fmt.Errorf("open stream %s: %w", streamName(p), err)
		}
		b.epochs = append(b.epochs, epoch)
	}
	return nil
}

func (b *Broker) openStream(ctx context.Context, js jetstream.JetStream, p int, newEpoch bool) (epoch string, err error) {
	cfg := b.streamConfig(p)
	existing, err := js.Stream(ctx, cfg.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		epoch = nuid.Next()
	case err != nil:
		return "", err
	default:
		metadata := existing.CachedInfo().Config.Metadata
		if have, want := metadata[metadataPartitions], cfg.Metadata[metadataPartitions]; have != want {
			return "", fmt.Errorf("%w: the data has %s partitions, %s are configured; keep the number or start with an empty data folder",
				ErrPartitions, have, want)
		}
		epoch = metadata[metadataEpoch]
		if newEpoch || epoch == "" {
			epoch = nuid.Next()
		}
	}
	cfg.Metadata[metadataEpoch] = epoch
	if _, err := js.CreateOrUpdateStream(ctx, cfg); err != nil {
		return "", err
	}
	return epoch, nil
}

func (b *Broker) streamConfig(p int) jetstream.StreamConfig {
	all := func(root string) string { return fmt.Sprintf("%s.%d.*.*", root, p) }
	return jetstream.StreamConfig{
		Name:              streamName(p),
		Description:       "reecho: retained events",
		Subjects:          []string{all(storedRoot)},
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardOld,
		Storage:           jetstream.FileStorage,
		Replicas:          b.cfg.Replicas,
		MaxAge:            b.cfg.MaxAge,
		MaxMsgsPerSubject: b.cfg.EventsPerChannel,
		MaxBytes:          max(b.cfg.MaxBytes/int64(b.cfg.Partitions), 1<<20),
		AllowDirect:       true,
		Duplicates:        min(duplicateWindow, b.cfg.MaxAge),
		RePublish: &jetstream.RePublish{
			Source:      all(storedRoot),
			Destination: fmt.Sprintf("%s.%d.{{wildcard(1)}}.{{wildcard(2)}}", liveRoot, p),
		},
		Metadata: map[string]string{metadataPartitions: fmt.Sprint(b.cfg.Partitions)},
	}
}
