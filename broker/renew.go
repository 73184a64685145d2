package broker

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// life is what names the sequences of a stream.
type life struct {
	epoch string
	runs  Runs
}

// lifePeriod is how often a shared stream is asked for its epoch when nothing else
// makes it worth asking.
const lifePeriod = 30 * time.Second

// lifeNow is what the stream of a lane was last found to say of itself.
func (l *lane) lifeNow() life {
	if found := l.renewed.Load(); found != nil {
		return *found
	}
	return life{l.epoch, l.runs}
}

// watchLives notices that a shared stream has got another epoch, for it was made anew
// or another broker keeps more than was kept, until ctx ends. No broker decides on the
// epoch of a shared stream for itself: it is what the stream says.
func (b *Broker) watchLives(ctx context.Context) {
	ticker := time.NewTicker(lifePeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-b.doubted:
		case <-ctx.Done():
			return
		}
		for l := range b.retainedLanes() {
			b.tellRenewal(ctx, l.stream, b.renew(ctx, l))
		}
		for _, s := range b.allStores() {
			b.tellRenewal(ctx, s.name, s.renew(ctx))
		}
	}
}

// tellRenewal logs that a stream did not say what it is; it is asked again.
func (b *Broker) tellRenewal(ctx context.Context, stream string, err error) {
	if err != nil && ctx.Err() == nil {
		b.log.Debug("cannot ask a stream for what it is", slog.String("stream", stream), slog.Any("error", err))
	}
}

// doubtLives has watchLives ask now.
func (b *Broker) doubtLives() {
	select {
	case b.doubted <- struct{}{}:
	default:
	}
}

// renew asks for the epoch of a stream, and tells if it is another one.
func (b *Broker) renew(ctx context.Context, l *lane) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var answer struct {
		Config struct {
			Metadata map[string]string `json:"metadata"`
			Replicas int               `json:"num_replicas"`
		} `json:"config"`
	}
	err := again(ctx, func(ctx context.Context) error {
		return b.askInfo(ctx, l.stream, struct{}{}, &answer)
	})
	if err != nil {
		return err
	}
	if answer.Config.Replicas > 0 {
		b.replicate(l, answer.Config.Replicas)
	}
	found := life{epoch: answer.Config.Metadata[metadataEpoch]}
	before := l.lifeNow().epoch
	if found.epoch == "" || found.epoch == before {
		return nil
	}
	if found.runs, err = parseRuns(answer.Config.Metadata[metadataRuns]); err != nil {
		return fmt.Errorf("read what stream %s says of itself: %w", l.stream, err)
	}
	// Before anybody is told the epoch: what another broker has removed from what the
	// stream is now is not known here.
	l.purged.Store(l.rule == nil)
	l.share.renew()
	l.renewed.Store(&found)
	b.log.Error("a stream was made anew: clients are told of a gap, positions from before are void",
		slog.String("stream", l.stream), slog.String("epoch", found.epoch), slog.String("before", before))
	b.disturb(l.index)
	return nil
}
