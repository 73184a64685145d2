package broker

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Metadata keys of the streams: what is true of the data, whatever is configured.
const (
	metadataEpoch      = "reecho-epoch"
	metadataPartitions = "reecho-partitions"
)

// duplicateWindow is how long the stream knows message ids. It only has to
// outlast the retries of one publish; at 30,000 events a second each second
// of it costs about 4 MB.
const duplicateWindow = 30 * time.Second

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

// openStream finds or makes the epoch of a stream. Data of another number of
// partitions is refused, because channels would be looked for where they are
// not, and of another storage, because JetStream cannot change that.
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

// streamConfig is how a lane's stream is to be. The stream itself sends what it
// has stored to who follows a channel, not who publishes: so what is delivered
// is stored, and comes with its sequence and with that of the event before it.
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
		Duplicates:        min(duplicateWindow, l.retention.MaxAge), // JetStream takes no more than the age
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
