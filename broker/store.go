package broker

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// StoreConfig describes a Store.
type StoreConfig struct {
	// Name is unique among the stores; letters, digits, - and _.
	Name string
	// MaxAge is how long a value is kept after it was put.
	MaxAge time.Duration
	// MaxBytes bounds the store; the values put longest ago go first.
	MaxBytes int64
}

// Store is a durable table of small values that are replaced often and
// forgotten after a time. It is safe for concurrent use.
type Store struct{ kv jetstream.KeyValue }

// OpenStore opens a store, or makes it, or brings it in line with cfg.
func (b *Broker) OpenStore(ctx context.Context, cfg StoreConfig) (*Store, error) {
	js, err := jetstream.New(b.publish)
	if err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	kv, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: "reecho-" + cfg.Name, History: 1, TTL: cfg.MaxAge, MaxBytes: cfg.MaxBytes,
		Storage: jetstream.FileStorage, Replicas: b.cfg.Replicas,
	})
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", cfg.Name, err)
	}
	return &Store{kv: kv}, nil
}

// storeKey makes a valid key of any text, and different keys of different ones.
func storeKey(key string) string { return base64.RawURLEncoding.EncodeToString([]byte(key)) }

// Put stores a value and returns when it is stored. key is any text but "".
func (s *Store) Put(ctx context.Context, key string, value []byte) error {
	if _, err := s.kv.Put(ctx, storeKey(key), value); err != nil {
		return fmt.Errorf("store a value: %w", err)
	}
	return nil
}

// Get returns the newest value and when it was put; ok is false if there is
// none.
func (s *Store) Get(ctx context.Context, key string) (value []byte, put time.Time, ok bool, err error) {
	entry, err := s.kv.Get(ctx, storeKey(key))
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return nil, time.Time{}, false, nil
	case err != nil:
		return nil, time.Time{}, false, fmt.Errorf("read a stored value: %w", err)
	}
	return entry.Value(), entry.Created(), true, nil
}
