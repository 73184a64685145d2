package broker

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
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
	name   string       // of the stream
	prefix string       // of the subjects
	void   atomic.Int64 // Unix milliseconds, 0: never
	// acknowledge is told of each sequence before it is known to be stored; nil:
	// nobody keeps it.
	acknowledge func(sequence uint64)
}

// StoreConfig describes a Store.
type StoreConfig struct {
	// Name is unique among the stores; letters, digits, - and _.
	Name string
	// MaxAge is how long a value is kept after it was put; 0: for ever.
	MaxAge time.Duration
	// MaxBytes bounds the store; the values put longest ago go first.
	MaxBytes int64
	// Expiring allows PutFor.
	Expiring bool

	perKey int // values of a key; 0 is 1
}

// OpenStore opens a store, or makes it, or brings it in line with cfg.
func (b *Broker) OpenStore(ctx context.Context, cfg StoreConfig) (*Store, error) {
	js, err := b.jetStream(b.publish)
	if err != nil {
		return nil, err
	}
	s := &Store{broker: b, js: js, name: tableStreams + cfg.Name, prefix: storeRoot + "." + cfg.Name + "."}
	if err := s.open(ctx, cfg); err != nil {
		return nil, fmt.Errorf("open store %s: %w", cfg.Name, err)
	}
	b.storesMu.Lock()
	defer b.storesMu.Unlock()
	b.stores = append(b.stores, s)
	return s, nil
}

func (s *Store) open(ctx context.Context, cfg StoreConfig) error {
	b, name := s.broker, s.name
	if b.cfg.Relay != "" {
		return s.find(ctx, name)
	}
	have, err := findAgain(ctx, s.js, name)
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
	// Changed by a command alone; what is configured is for a new one.
	replicas := cmp.Or(have.Config.Replicas, b.stored, b.cfg.Replicas)
	want := jetstream.StreamConfig{
		Name: name, Description: "reecho: table of " + cfg.Name,
		Subjects: []string{s.prefix + "*"}, Storage: jetstream.FileStorage, Replicas: replicas,
		MaxMsgsPerSubject: int64(cmp.Or(cfg.perKey, 1)), MaxAge: cfg.MaxAge, MaxBytes: cfg.MaxBytes, Discard: jetstream.DiscardOld,
		AllowMsgTTL: cfg.Expiring,
		// A replica that is behind would answer with an old value.
		AllowDirect: replicas == 1,
		Metadata:    map[string]string{metadataVoid: void},
	}
	err = again(ctx, func(ctx context.Context) (err error) {
		s.stream, err = s.js.CreateOrUpdateStream(ctx, want)
		return err
	})
	if err != nil {
		return err
	}
	s.void.Store(voidOf(void))
	if b.witness != nil {
		s.acknowledge, err = b.witness.Watch(name, have.State.LastSeq)
	}
	return err
}

// find waits until a server with storage has made the store.
func (s *Store) find(ctx context.Context, name string) error {
	return again(ctx, func(ctx context.Context) (err error) {
		s.stream, err = s.js.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return unanswered(errNotMade) // the answer itself is final
		}
		if err != nil {
			return err
		}
		s.void.Store(voidOf(s.stream.CachedInfo().Config.Metadata[metadataVoid]))
		return nil
	})
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
func (s *Store) Void() time.Time {
	ms := s.void.Load()
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// voidOf reads what metadata have of it, 0 if they have nothing.
func voidOf(text string) int64 {
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return ms
}

// renew takes over what the stream says of itself, which a command may have changed.
func (s *Store) renew(ctx context.Context) error {
	var answer struct {
		Config struct {
			Metadata map[string]string `json:"metadata"`
		} `json:"config"`
	}
	err := again(ctx, func(ctx context.Context) error {
		return s.broker.askInfo(ctx, s.name, struct{}{}, &answer)
	})
	if err == nil {
		s.void.Store(voidOf(answer.Config.Metadata[metadataVoid]))
	}
	return err
}

// allStores are the stores that are open.
func (b *Broker) allStores() []*Store {
	b.storesMu.Lock()
	defer b.storesMu.Unlock()
	return slices.Clone(b.stores)
}

// Value is what a Store has of a key.
type Value struct {
	Text []byte
	// Put is when it was put, by the clock of the server that stored it.
	Put time.Time
	// Revision is another, and higher, for each value that is put. 0: there is no value.
	Revision uint64
}

// AnyRevision is the revision that Put expects which does not care.
const AnyRevision = math.MaxUint64

// headerWrite names one call of Put, so that a caller who got no answer knows its own
// value again.
const headerWrite = "Reecho-Write"

// codeWrongSequence is the answer that a key has another revision (nats-server,
// errors.json, JSStreamWrongLastSequenceErrF).
const codeWrongSequence jetstream.ErrorCode = 10071

// Put stores a value in the place of that with a revision, 0 for none, and returns its
// own revision when it is stored. key is any text. Answers that mean "not now" are
// waited out. The error is ErrConflict if the key has another revision, or has none any
// more; ErrUnavailable, at once, while the log has failed, which is logged once by the
// broker; or that of ctx, and then the value may be stored.
func (s *Store) Put(ctx context.Context, key string, text []byte, expected uint64) (revision uint64, err error) {
	return s.PutFor(ctx, key, text, expected, 0)
}

// PutFor is Put of a value that is forgotten after some whole seconds, 0 for never.
// After that the key has none.
func (s *Store) PutFor(ctx context.Context, key string, text []byte, expected uint64, keep time.Duration) (revision uint64, err error) {
	p := put{store: s, key: key, text: text, expected: expected, keep: keep, write: rand.Text()[:13]}
	if err = again(ctx, p.try); err != nil {
		return 0, fmt.Errorf("store a value: %w", err)
	}
	if s.acknowledge != nil {
		s.acknowledge(p.revision)
	}
	return p.revision, nil
}

// put is one call of Put.
type put struct {
	store    *Store
	key      string
	text     []byte
	expected uint64
	keep     time.Duration
	write    string
	// sent: a try may have stored it, and its answer is lost.
	sent     bool
	revision uint64
}

func (p *put) try(ctx context.Context) error {
	s := p.store
	if err := s.broker.health.failure(); err != nil {
		return finalError{err}
	}
	m := &nats.Msg{Subject: s.prefix + Token(p.key), Data: p.text}
	var opts []jetstream.PublishOpt
	if p.expected != AnyRevision {
		m.Header = nats.Header{headerWrite: {p.write}}
		opts = append(opts, jetstream.WithExpectLastSequencePerSubject(p.expected))
	}
	if p.keep > 0 {
		opts = append(opts, jetstream.WithMsgTTL(p.keep))
	}
	ack, err := s.js.PublishMsg(ctx, m, opts...)
	if err == nil {
		p.revision = ack.Sequence
		return nil
	}
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == codeWrongSequence {
		if p.sent {
			return p.readBack(ctx)
		}
		return fmt.Errorf("%w: %w", ErrConflict, err)
	}
	p.sent = true
	// A store that breaks answers nothing; the log has failed meanwhile.
	if failure := s.broker.health.failure(); failure != nil {
		return finalError{errors.Join(failure, err)}
	}
	return err
}

// readBack finds out whether it is this call's own value that is in the way.
func (p *put) readBack(ctx context.Context) error {
	m, err := p.store.last(ctx, p.key)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return ErrConflict
	case err != nil:
		return err
	case value(m.Header, headerWrite) != p.write:
		return ErrConflict
	}
	p.revision = m.Sequence
	return nil
}

func (s *Store) last(ctx context.Context, key string) (*jetstream.RawStreamMsg, error) {
	asked := time.Now()
	m, err := s.stream.GetLastMsgForSubject(ctx, s.prefix+Token(key))
	if blind := s.broker.believe(asked); blind != nil {
		return nil, blind
	}
	return m, err
}

// Get returns the newest value; Value.Revision is 0 if there is none. Answers that mean
// "not now" are waited out. A server that was the leader and does not know yet that
// it is cut off may answer with an older one: who decides by it has to put.
func (s *Store) Get(ctx context.Context, key string) (Value, error) {
	var m *jetstream.RawStreamMsg
	err := again(ctx, func(ctx context.Context) (err error) {
		m, err = s.last(ctx, key)
		return err
	})
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return Value{}, nil
	case err != nil:
		return Value{}, fmt.Errorf("read a stored value: %w", err)
	}
	return Value{Text: m.Data, Put: m.Time, Revision: m.Sequence}, nil
}

// Size is how many bytes the store has on the disk of each server, as its leader
// counts them. The error is ErrUnavailable, or that of ctx.
func (s *Store) Size(ctx context.Context) (int64, error) {
	var answer struct {
		State struct {
			Bytes int64 `json:"bytes"`
		} `json:"state"`
	}
	if err := s.broker.askInfo(ctx, s.name, struct{}{}, &answer); err != nil {
		return 0, fmt.Errorf("ask for the size of a store: %w", err)
	}
	return answer.State.Bytes, nil
}

// Keys are all keys that have a value, in no order. It reads the names of all.
func (s *Store) Keys(ctx context.Context) ([]string, error) {
	var info *jetstream.StreamInfo
	err := again(ctx, func(ctx context.Context) (err error) {
		info, err = s.stream.Info(ctx, jetstream.WithSubjectFilter(s.prefix+"*"))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list a store: %w", err)
	}
	keys := make([]string, 0, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		if key, err := Untoken(strings.TrimPrefix(subject, s.prefix)); err == nil {
			keys = append(keys, key)
		}
	}
	return keys, nil
}
