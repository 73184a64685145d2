package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// tryTimeout bounds one try to ask the API of JetStream in a cluster: without a
	// leader nobody answers, and who asks again gets its answer when there is one.
	tryTimeout = time.Second
	tryPause   = 50 * time.Millisecond
	// sayPeriod is how often the start says what it waits for.
	sayPeriod = 10 * time.Second
)

// again does what may be done again, until it works, or fails for good, or ctx ends.
func again(ctx context.Context, do func(ctx context.Context) error) error {
	for {
		try, cancel := context.WithTimeout(ctx, tryTimeout)
		err := do(try)
		cancel()
		if err == nil || !Passing(err) {
			return err
		}
		if ended := Pause(ctx, tryPause); ended != nil {
			return fmt.Errorf("%w: %w", err, ended)
		}
	}
}

// again is the one for a stream, which now and then says why it goes on.
func (s *start) again(ctx context.Context, l *lane, do func(ctx context.Context) error) error {
	said := time.Now()
	return again(ctx, func(ctx context.Context) error {
		err := do(ctx)
		if err != nil && Passing(err) && time.Since(said) >= sayPeriod {
			said = time.Now()
			s.broker.log.Warn("a stream cannot be opened yet, trying again", slog.String("stream", l.stream), slog.Any("error", err))
		}
		return err
	})
}

// finalError is one after which it is not tried again.
type finalError struct{ error }

// Unwrap is for package errors.
func (e finalError) Unwrap() error { return e.error }

// passingCodes are answers of JetStream (nats-server, errors.json) that are not about
// the question but about now: there is no leader, or another one, or not all servers
// are known yet, or one is asked the same at this time.
var passingCodes = map[jetstream.ErrorCode]bool{
	10005: true, // JSClusterNoPeersErrF
	10008: true, // JSClusterNotAvailErr
	10009: true, // JSClusterNotLeaderErr
	10023: true, // JSInsufficientResourcesErr
	10077: true, // JSStreamStoreFailedF
	10096: true, // JSStreamInvalidErr
	10118: true, // JSStreamOfflineErr
	10164: true, // JSStreamWrongLastSequenceConstantErr: somebody is storing a value of the key
	10158: true, // JSStreamDuplicateMessageConflict
	10167: true, // JSStreamTooManyRequests
}

// Passing reports whether an error of a request to JetStream may be gone when the same
// is done again.
func Passing(err error) bool {
	var (
		api   *jetstream.APIError
		final finalError
	)
	if errors.As(err, &final) {
		return false
	}
	if errors.As(err, &api) {
		return passingCodes[api.ErrorCode]
	}
	for _, is := range []error{
		context.DeadlineExceeded, ErrUnavailable, nats.ErrNoResponders, nats.ErrTimeout, jetstream.ErrNoStreamResponse,
	} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// openReplicated makes a stream of a cluster or goes on with it. Whoever of the
// servers comes first makes it; what is stored is right, and read back, because the
// answer to one of several that make the same at once is lost.
func (s *start) openReplicated(ctx context.Context, l *lane) error {
	for {
		var have *jetstream.StreamInfo
		err := s.again(ctx, l, func(ctx context.Context) (err error) {
			have, err = findStream(ctx, s.js, l.stream)
			if err == nil && have == nil && s.broker.cfg.Relay != "" {
				return unanswered(errNotMade)
			}
			return err
		})
		if err != nil {
			return err
		}
		if have != nil {
			done, err := s.adopt(ctx, l, have)
			if done || err != nil {
				return err
			}
			continue
		}
		l.epoch, l.runs = newEpoch(), Runs{{Token: s.run, First: 1}}
		err = s.again(ctx, l, func(ctx context.Context) error {
			_, err := s.js.CreateStream(ctx, s.broker.streamConfig(l))
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
				return nil // by another server, with its own epoch
			}
			return err
		})
		if err != nil {
			return err
		}
	}
}

// errNotMade is what a broker waits for whose server keeps nothing.
var errNotMade = errors.New("no server with storage has made it: they are starting, or have other partitions or retention rules")

// lookAround finds out how many copies the streams of no rule have: after a command has
// changed that, what is made anew takes the same.
func (s *start) lookAround(ctx context.Context) error {
	for l := range s.broker.retainedLanes() {
		if l.rule != nil {
			continue
		}
		have, err := findAgain(ctx, s.js, l.stream)
		if err != nil {
			return err
		}
		if have != nil {
			s.broker.keepOn(have.Config.Replicas)
			return nil
		}
	}
	return nil
}

// keepOn has what is made anew kept on so many servers, where no rule says how many.
func (b *Broker) keepOn(replicas int) {
	b.stored = replicas
	for _, l := range b.lanes {
		if !l.ownReplicas() {
			l.replicas.Store(int32(replicas))
		}
	}
}

// findAgain is findStream that waits out what passes.
func findAgain(ctx context.Context, js jetstream.JetStream, name string) (have *jetstream.StreamInfo, err error) {
	err = again(ctx, func(ctx context.Context) error {
		have, err = findStream(ctx, js, name)
		return err
	})
	return have, err
}

// adopt takes over what is stored of a stream, after it was brought in line with the
// configuration if it has to be: done is false if it has to be read back.
func (s *start) adopt(ctx context.Context, l *lane, have *jetstream.StreamInfo) (done bool, err error) {
	if err := s.broker.mayOpen(l, &have.Config); err != nil {
		return false, err
	}
	m := have.Config.Metadata
	if l.runs, err = parseRuns(m[metadataRuns]); err != nil {
		return false, err
	}
	l.epoch, l.moves = m[metadataEpoch], nil
	l.found = have.State.LastSeq
	s.broker.replicate(l, have.Config.Replicas)
	l.maxMessage = int(min(s.broker.publish.MaxPayload(), l.retention.MaxBytes))
	same := l.retention.equals(&have.Config)
	switch relay := s.broker.cfg.Relay != ""; {
	case relay && !same:
		return false, fmt.Errorf("%w: the servers with storage keep events for %v, %d of a channel, %d bytes in a stream, and here %v, %d and %d are configured: set the same on all", ErrRules,
			have.Config.MaxAge, have.Config.MaxMsgsPerSubject, have.Config.MaxBytes, l.retention.MaxAge, l.retention.EventsPerChannel, l.retention.MaxBytes)
	case relay:
		return true, nil
	}
	want := s.broker.streamConfig(l)
	if same && maps.Equal(ours(want.Metadata), ours(m)) {
		return true, nil
	}
	if l.epoch == "" || l.retention.raised(&have.Config) || want.Metadata[metadataRules] != m[metadataRules] {
		s.void(l, "what is retained has changed")
		l.epoch, l.runs = newEpoch(), Runs{{Token: s.run, First: have.State.LastSeq + 1, Began: s.now}}
		want.Metadata = s.broker.streamConfig(l).Metadata
	}
	return false, s.again(ctx, l, func(ctx context.Context) error {
		_, err := s.js.UpdateStream(ctx, want)
		return err
	})
}

// ours are the metadata that are not NATS' own.
func ours(metadata map[string]string) map[string]string {
	kept := make(map[string]string)
	for _, key := range []string{metadataPartitions, metadataEpoch, metadataRuns, metadataRules} {
		kept[key] = metadata[key]
	}
	return kept
}

// equals reports that r keeps what the stream does.
func (r Retention) equals(have *jetstream.StreamConfig) bool {
	return r.MaxAge == have.MaxAge && r.EventsPerChannel == have.MaxMsgsPerSubject && r.MaxBytes == have.MaxBytes
}

// replicate notes on how many servers a stream is kept, which is changed by a command
// alone: what is configured is for streams that are new.
func (b *Broker) replicate(l *lane, replicas int) {
	if before := l.replicas.Swap(int32(replicas)); int(before) != replicas {
		b.log.Warn("a stream is kept on another number of servers than it was, or than is configured for a new one",
			slog.String("stream", l.stream), slog.Int("servers", replicas), slog.Int("before", int(before)))
	}
}
