package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Metadata keys of the streams: what is true of the data, whatever is configured.
const (
	metadataEpoch      = "reecho-epoch"
	metadataRuns       = "reecho-runs"
	metadataMoves      = "reecho-moves"
	metadataRules      = "reecho-rules" // of the first stream alone
	metadataPartitions = "reecho-partitions"
	metadataVoid       = "reecho-void" // of a Store: Unix milliseconds
)

// duplicateWindow is how long the stream knows message ids. It only has to
// outlast the retries of one publish; at 30,000 events a second each second
// of it costs about 4 MB.
const duplicateWindow = 30 * time.Second

// unretainedEpoch is the epoch of channels of which nothing is retained.
const unretainedEpoch = "none"

// newEpoch names a life of a stream.
func newEpoch() string { return rand.Text()[:10] }

// findPartitions makes the number of partitions that of the data, unless one is
// configured. Any stream of no rule says it: one may be damaged, or not made yet, because
// the first start was broken off.
func (b *Broker) findPartitions(ctx context.Context) error {
	if b.cfg.Partitions != 0 {
		return nil
	}
	js, err := b.jetStream(b.publish)
	if err != nil {
		return err
	}
	find := findStream
	if b.cfg.Shared {
		find = findAgain
	}
	for p := range DefaultPartitions {
		have, err := find(ctx, js, eventStreams+strconv.Itoa(p))
		if err != nil {
			return fmt.Errorf("look how many partitions the data has: %w", err)
		}
		if have == nil {
			continue
		}
		text := have.Config.Metadata[metadataPartitions]
		if b.cfg.Partitions, err = strconv.Atoi(text); err != nil || b.cfg.Partitions <= 0 {
			return fmt.Errorf("%w: stream %s says that the data has %q partitions", ErrPartitions, have.Config.Name, text)
		}
		return nil
	}
	b.cfg.Partitions = DefaultPartitions
	return nil
}

// openStreams creates the streams or brings them in line with the
// configuration, and begins a run in each.
func (b *Broker) openStreams(ctx context.Context) error {
	js, err := b.jetStream(b.publish)
	if err != nil {
		return err
	}
	s := &start{broker: b, js: js, run: newRun(), now: time.Now()}
	look := s.lookBack
	if b.cfg.Shared {
		look = s.lookAround
	}
	if err := look(ctx); err != nil {
		return err
	}
	lanes := slices.Backward(b.lanes) // the first comes last: it says what the others have been told
	if b.cfg.Relay != "" {
		lanes = slices.All(b.lanes) // the first is there in any case: it says what there is
	}
	for _, l := range lanes {
		l.epoch, l.maxMessage = unretainedEpoch, int(b.publish.MaxPayload())
		if !l.retained() {
			continue
		}
		if err := s.open(ctx, l); err != nil {
			return fmt.Errorf("open stream %s, %s: %w", l.stream, l.description(), err)
		}
	}
	return nil
}

// reopenStreams sees to it that after a restart of the server every stream goes
// on above what it has promised, so that the epochs stay true.
func (b *Broker) reopenStreams(ctx context.Context) error {
	if b.cfg.Shared {
		return nil // the other servers have what this one has lost
	}
	js, err := b.jetStream(b.publish)
	if err != nil {
		return err
	}
	for l := range b.retainedLanes() {
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
		cfg.FirstSeq = newest + 1
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
		Subjects:          []string{l.stored()},
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardOld,
		Storage:           jetstream.FileStorage,
		Replicas:          int(l.replicas.Load()),
		MaxAge:            l.retention.MaxAge,
		MaxMsgsPerSubject: l.retention.EventsPerChannel,
		MaxBytes:          l.retention.MaxBytes,
		AllowDirect:       true,
		Duplicates:        min(duplicateWindow, l.retention.MaxAge), // JetStream takes no more than the age
		RePublish: &jetstream.RePublish{
			Source:      l.stored(),
			Destination: fmt.Sprintf("%s.%s.{{wildcard(1)}}.{{wildcard(2)}}", liveRoot, l.token),
		},
		Metadata: map[string]string{
			metadataPartitions: fmt.Sprint(b.cfg.Partitions), metadataEpoch: l.epoch, metadataRuns: l.runs.String(),
		},
	}
	if text := movesText(l.moves); text != "" {
		cfg.Metadata[metadataMoves] = text
	}
	if l.index == 0 {
		cfg.Metadata[metadataRules] = patternsText(b.cfg.Rules)
	}
	if l.rule != nil && l.rule.Memory {
		cfg.Storage = jetstream.MemoryStorage
	}
	return cfg
}
