package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Store is a durable table of small values that are replaced often and
// forgotten after a time. It is safe for concurrent use.
//
// It is a stream with one message per subject, and not a bucket of NATS' own
// key-value layer: that refuses new values when it is full.
type Store struct {
	broker *Broker
	js     jetstream.JetStream
	stream jetstream.Stream
	prefix string // of the subjects
}

// StoreConfig describes a Store.
type StoreConfig struct {
	// Name is unique among the stores; letters, digits, - and _.
	Name string
	// MaxAge is how long a value is kept after it was put.
	MaxAge time.Duration
	// MaxBytes bounds the store; the values put longest ago go first.
	MaxBytes int64
}

// OpenStore opens a store, or makes it, or brings it in line with cfg.
func (b *Broker) OpenStore(ctx context.Context, cfg StoreConfig) (*Store, error) {
	js, err := jetstream.New(b.publish)
	if err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	prefix := storeRoot + "." + cfg.Name + "."
	stream, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: "STORE-" + cfg.Name, Description: "reecho: table of " + cfg.Name,
		Subjects: []string{prefix + "*"}, Storage: jetstream.FileStorage, Replicas: b.cfg.Replicas,
		MaxMsgsPerSubject: 1, MaxAge: cfg.MaxAge, MaxBytes: cfg.MaxBytes, Discard: jetstream.DiscardOld,
		// A replica that is behind would answer with an old value.
		AllowDirect: b.cfg.Replicas == 1,
	})
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", cfg.Name, err)
	}
	return &Store{broker: b, js: js, stream: stream, prefix: prefix}, nil
}

// Put stores a value and returns when it is stored. key is any text. The error
// is ErrUnavailable, at once, while the log has failed; that is logged once by
// the broker.
func (s *Store) Put(ctx context.Context, key string, value []byte) error {
	if err := s.broker.health.failure(); err != nil {
		return err
	}
	if _, err := s.js.Publish(ctx, s.prefix+Token(key), value); err != nil {
		// A store that breaks answers nothing; the log has failed meanwhile.
		return fmt.Errorf("store a value: %w", errors.Join(s.broker.health.failure(), err))
	}
	return nil
}

// Get returns the newest value and when it was put; ok is false if there is
// none.
func (s *Store) Get(ctx context.Context, key string) (value []byte, put time.Time, ok bool, err error) {
	m, err := s.stream.GetLastMsgForSubject(ctx, s.prefix+Token(key))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, time.Time{}, false, nil
	case err != nil:
		return nil, time.Time{}, false, fmt.Errorf("read a stored value: %w", err)
	}
	return m.Data, m.Time, true, nil
}
