package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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
	void   time.Time
	// acknowledge is told of each sequence before it is known to be stored; nil:
	// nobody keeps it.
	acknowledge func(sequence uint64)
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
	js, err := b.jetStream(b.publish)
	if err != nil {
		return nil, err
	}
	s := &Store{broker: b, js: js, prefix: storeRoot + "." + cfg.Name + "."}
	if err := s.open(ctx, cfg); err != nil {
		return nil, fmt.Errorf("open store %s: %w", cfg.Name, err)
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, cfg StoreConfig) error {
	b, name := s.broker, "STORE-"+cfg.Name
	var have *jetstream.StreamInfo
	err := again(ctx, func(ctx context.Context) (err error) {
		have, err = findStream(ctx, s.js, name)
		return err
	})
	if err != nil {
		return err
	}
	if have == nil {
		have = &jetstream.StreamInfo{}
	}
	void := have.Config.Metadata[metadataVoid]
	if b.storeLost(name, have.State.LastSeq) {
		void = strconv.FormatInt(time.Now().UnixMilli(), 10)
	}
	want := jetstream.StreamConfig{
		Name: name, Description: "reecho: table of " + cfg.Name,
		Subjects: []string{s.prefix + "*"}, Storage: jetstream.FileStorage, Replicas: b.cfg.Replicas,
		MaxMsgsPerSubject: 1, MaxAge: cfg.MaxAge, MaxBytes: cfg.MaxBytes, Discard: jetstream.DiscardOld,
		// A replica that is behind would answer with an old value.
		AllowDirect: b.cfg.Replicas == 1,
		Metadata:    map[string]string{metadataVoid: void},
	}
	err = again(ctx, func(ctx context.Context) (err error) {
		s.stream, err = s.js.CreateOrUpdateStream(ctx, want)
		return err
	})
	if err != nil {
		return err
	}
	if ms, err := strconv.ParseInt(void, 10, 64); err == nil {
		s.void = time.UnixMilli(ms)
	}
	if b.witness != nil {
		s.acknowledge, err = b.witness.Watch(name, have.State.LastSeq)
	}
	return err
}

// storeLost reports, and tells, that values of a store may be missing, or older than
// what was there: of copies and after a power cut nobody knows what is.
func (b *Broker) storeLost(stream string, last uint64) bool {
	loss, lost := lossOf(b.witness, stream, last)
	if lost {
		b.log.Error("a table has lost values that were stored: clients with sessions that come back are told of a gap", loss.attributes()...)
	}
	return lost || b.again
}

// Void is until when values may have been lost, zero if never: what was put before
// may be missing, or older than what was put last.
func (s *Store) Void() time.Time { return s.void }

// Put stores a value and returns when it is stored. key is any text. The error
// is ErrUnavailable, at once, while the log has failed; that is logged once by
// the broker.
func (s *Store) Put(ctx context.Context, key string, value []byte) error {
	if err := s.broker.health.failure(); err != nil {
		return err
	}
	ack, err := s.js.Publish(ctx, s.prefix+Token(key), value)
	if err != nil {
		// A store that breaks answers nothing; the log has failed meanwhile.
		return fmt.Errorf("store a value: %w", errors.Join(s.broker.health.failure(), err))
	}
	if s.acknowledge != nil {
		s.acknowledge(ack.Sequence)
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
