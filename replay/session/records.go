package session

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"reecho/broker"
)

// Records is where sessions are stored: those of a broker, or a model of them in
// tests. It is used by several goroutines at once, and by all nodes of a cluster.
type Records interface {
	// Get returns the newest value of a key; its Revision is 0 if there is none, or it
	// was forgotten for its age or for others.
	Get(ctx context.Context, key string) (broker.Value, error)
	// Put stores a value in the place of that with a revision, 0 for none, or of any
	// for broker.AnyRevision, and returns its own, which is higher than all before,
	// when it is sure to outlive a crash. It is a broker.ErrConflict if the key has
	// another revision; with any other error the value may be stored. The value is not
	// changed afterwards.
	Put(ctx context.Context, key string, value []byte, expected uint64) (revision uint64, err error)
	// List returns the keys that begin with a prefix and have a value.
	List(ctx context.Context, prefix string) ([]string, error)
	// Void is until when records may have been lost, zero if never: what was put
	// before may be missing, or older than what was put last.
	Void() time.Time
}

// tables are the records of a broker. The ids have a table of their own: what
// pushes a session out of its table leaves its id.
type tables struct{ sessions, ids *broker.Store }

var _ Records = (*tables)(nil)

func (t *tables) of(key string) *broker.Store {
	if strings.HasPrefix(key, idsPrefix) {
		return t.ids
	}
	return t.sessions
}

// Get implements Records.
func (t *tables) Get(ctx context.Context, key string) (broker.Value, error) {
	return t.of(key).Get(ctx, key)
}

// Put implements Records.
func (t *tables) Put(ctx context.Context, key string, value []byte, expected uint64) (revision uint64, err error) {
	return t.of(key).Put(ctx, key, value, expected)
}

// List implements Records.
func (t *tables) List(ctx context.Context, prefix string) ([]string, error) {
	keys, err := t.of(prefix).Keys(ctx)
	return slices.DeleteFunc(keys, func(key string) bool { return !strings.HasPrefix(key, prefix) }), err
}

// Void implements Records.
func (t *tables) Void() time.Time {
	sessions, ids := t.sessions.Void(), t.ids.Void()
	if sessions.After(ids) {
		return sessions
	}
	return ids
}

// OpenRecords opens the records of cfg on a broker.
func OpenRecords(ctx context.Context, cfg Config, b *broker.Broker) (Records, error) {
	cfg = cfg.withDefaults()
	// A record is renewed that often while its client is there: its time begins
	// when the client is lost.
	sessions, err := b.OpenStore(ctx, broker.StoreConfig{Name: "sessions", MaxAge: cfg.Memory + 2*cfg.refresh(), MaxBytes: int64(cfg.Bytes)})
	if err != nil {
		return nil, fmt.Errorf("open the store of sessions: %w", err)
	}
	ids, err := b.OpenStore(ctx, broker.StoreConfig{Name: "session-ids", MaxAge: 2*cfg.Memory + 2*cfg.refresh(), MaxBytes: idsBytes(cfg.IDs)})
	if err != nil {
		return nil, fmt.Errorf("open the store of session ids: %w", err)
	}
	return &tables{sessions: sessions, ids: ids}, nil
}
