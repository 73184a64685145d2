// Package session keeps what clients that gave themselves a session id have
// confirmed (DESIGN §6, way 2): the channels and how far each has got. It
// outlives connections, and the node, in a store of records. It knows no client
// and no wire: a connection claims a session and tells it what was confirmed.
package session

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"reecho/broker"
)

const (
	// writers is how many sessions are saved at once.
	writers = 8
	// alivePeriod is how often the node says in the store that it runs: after
	// it was killed that is when its clients' connections were lost.
	alivePeriod = 5 * time.Second
	// saveTimeout bounds one write.
	saveTimeout = 5 * time.Second
)

// Defaults of Config.
const (
	DefaultTime        = 2 * time.Minute
	DefaultMemory      = 24 * time.Hour
	DefaultBytes       = 64 << 20
	DefaultChannels    = 256
	DefaultAckInterval = time.Second
	DefaultSaves       = 20 // per second
	// DefaultPerAddress: behind a proxy that is not trusted many clients have
	// one address, but an address has no more ports than this.
	DefaultPerAddress = 60_000
)

// MinBytes is room for a few sessions of many channels.
const MinBytes = 1 << 20

// Config of a Store. The zero value is usable.
type Config struct {
	// Time is how long after the connection was lost a client gets what it
	// missed. 0 is DefaultTime.
	Time time.Duration
	// Memory is how long the id is remembered, so that a client that comes
	// back later is told of the gap. 0 is DefaultMemory.
	Memory time.Duration
	// Bytes bounds the store; the sessions changed longest ago go first. 0 is
	// DefaultBytes.
	Bytes int
	// Channels is how many channels of one client are followed; of those above
	// it is told of a gap when it comes back. 0 is DefaultChannels.
	Channels int
	// PerAddress is how many sessions of connected clients one address may have.
	// 0 is DefaultPerAddress.
	PerAddress int
	// SavesPerSecond is how many new subscriptions of one session are stored in a
	// second, after the first few hundred; later ones wait. 0 is DefaultSaves.
	SavesPerSecond int
	// AckInterval is the pause between two questions to a client of what has
	// arrived. 0 is DefaultAckInterval; less than a second is taken as a second.
	AckInterval time.Duration
	// Retention is how long events are kept at least; confirmations are
	// renewed four times in it. 0 is broker.DefaultMaxAge.
	Retention time.Duration
}

func (c Config) withDefaults() Config {
	c.Time = cmp.Or(c.Time, DefaultTime)
	c.Memory = cmp.Or(c.Memory, DefaultMemory)
	c.Bytes = cmp.Or(c.Bytes, DefaultBytes)
	c.Channels = cmp.Or(c.Channels, DefaultChannels)
	c.PerAddress = cmp.Or(c.PerAddress, DefaultPerAddress)
	c.SavesPerSecond = cmp.Or(c.SavesPerSecond, DefaultSaves)
	c.AckInterval = cmp.Or(c.AckInterval, DefaultAckInterval)
	c.Retention = cmp.Or(c.Retention, broker.DefaultMaxAge)
	return c
}

// refresh is how old a confirmation may become while the client is there.
func (c Config) refresh() time.Duration {
	return min(max(c.Retention/4, c.AckInterval), 10*time.Minute)
}

// Records is where sessions are stored: a broker.Store, or a model of one in
// tests.
type Records interface {
	Get(ctx context.Context, key string) (value []byte, put time.Time, ok bool, err error)
	Put(ctx context.Context, key string, value []byte) error
}

// Store keeps the sessions of a node: those of connected clients here, all of
// them in its records. It is safe for concurrent use.
type Store struct {
	cfg     Config
	records Records
	log     *slog.Logger
	run     string // names this run of the node

	stop    context.CancelFunc
	tasks   sync.WaitGroup
	failing atomic.Bool // saving does not work, and that is logged
	closing atomic.Bool // nothing is put off any more

	mu        sync.Mutex
	live      map[string]*session // with an owner, or not yet saved without
	apps      map[string]int      // how many of them, by app
	addresses map[netip.Addr]int  // and by address
	queue     []*session
	ready     sync.Cond // queue or closed changed
	busy      int       // writers at work
	idle      sync.Cond // queue is empty and nobody busy
	closed    bool
}

// OpenRecords opens the records of cfg on a broker.
func OpenRecords(ctx context.Context, cfg Config, b *broker.Broker) (*broker.Store, error) {
	cfg = cfg.withDefaults()
	records, err := b.OpenStore(ctx, broker.StoreConfig{Name: "sessions", MaxAge: cfg.Memory, MaxBytes: int64(cfg.Bytes)})
	if err != nil {
		return nil, fmt.Errorf("open the store of sessions: %w", err)
	}
	return records, nil
}

// Open starts a store over records. Close ends it.
func Open(cfg Config, records Records, log *slog.Logger) *Store {
	st := &Store{
		cfg: cfg.withDefaults(), records: records, log: log, run: rand.Text(),
		live: make(map[string]*session), apps: make(map[string]int), addresses: make(map[netip.Addr]int),
	}
	st.ready.L, st.idle.L = &st.mu, &st.mu
	ctx, stop := context.WithCancel(context.Background())
	st.stop = stop
	st.tasks.Go(func() { st.alive(ctx) })
	for range writers {
		st.tasks.Go(st.write)
	}
	return st
}

// Close saves what is not saved, at most until ctx ends, and stops.
func (st *Store) Close(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		st.mu.Lock()
		defer st.mu.Unlock()
		st.queue = nil
		st.idle.Broadcast()
	})
	defer stop()
	st.closing.Store(true)
	st.mu.Lock()
	for _, s := range st.live {
		if s.hurry() {
			st.queue = append(st.queue, s)
		}
	}
	st.ready.Broadcast()
	for len(st.queue) > 0 || st.busy > 0 {
		if ctx.Err() != nil && len(st.queue) == 0 {
			break
		}
		st.idle.Wait()
	}
	st.closed = true
	st.ready.Broadcast()
	st.mu.Unlock()
	st.stop()
	st.tasks.Wait()
}

// Who claims a session.
type Who struct {
	App     string // its id
	ID      string // of the session, without a slash
	Socket  string // the socket id of the connection
	Address netip.Addr
	// Most is how many sessions the app may have at once, 0 any number.
	Most int
}

// FullError is that there are as many sessions as there may be.
type FullError struct {
	OfAddress bool // of the client's address, else of the app
	Limit     int
}

// Error implements error.
func (e *FullError) Error() string {
	whose := "the app has"
	if e.OfAddress {
		whose = "clients of the address have"
	}
	return fmt.Sprintf("%s %d sessions already", whose, e.Limit)
}

// Claim makes h, which must be zero and stay where it is, the session's one
// hold. takeover is called, without a lock, when a newer one claims the session:
// the client has lost the connection without our knowing. The error is a
// *FullError.
func (st *Store) Claim(h *Hold, who Who, takeover func()) error {
	h.store, h.opened, h.takeover = st, time.Now(), takeover
	st.mu.Lock()
	s, err := st.admitLocked(who)
	if err != nil {
		st.mu.Unlock()
		return err
	}
	h.session = s
	before := s.claim(h, who.Socket)
	st.mu.Unlock()
	if before != nil {
		before.takeover()
	}
	return nil
}

// admitLocked finds or makes a session, unless there are too many of the app or
// of the client's address.
func (st *Store) admitLocked(who Who) (*session, error) {
	key := who.App + "/" + who.ID
	s := st.live[key]
	switch {
	case s == nil && who.Most > 0 && st.apps[who.App] >= who.Most:
		return nil, &FullError{Limit: who.Most}
	case s != nil && s.address == who.Address:
		return s, nil
	case st.addresses[who.Address] >= st.cfg.PerAddress:
		return nil, &FullError{OfAddress: true, Limit: st.cfg.PerAddress}
	}
	st.addresses[who.Address]++
	if s == nil {
		s = newSession(key, who.App)
		st.live[key] = s
		st.apps[s.app]++
	} else {
		decrement(st.addresses, s.address)
	}
	s.address = who.Address
	return s, nil
}

// removeLocked forgets a session here.
func (st *Store) removeLocked(s *session) {
	if st.live[s.key] != s {
		return
	}
	delete(st.live, s.key)
	decrement(st.addresses, s.address)
	decrement(st.apps, s.app)
}

func decrement[K comparable](counts map[K]int, key K) {
	if counts[key]--; counts[key] <= 0 {
		delete(counts, key)
	}
}

// discard forgets a session that nobody has and that is in the records as it is.
func (st *Store) discard(s *session) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if s.unused() {
		st.removeLocked(s)
	}
}

// read takes over what the records have of a session.
func (st *Store) read(ctx context.Context, s *session) error {
	text, put, found, err := st.records.Get(ctx, s.key)
	if err != nil {
		return fmt.Errorf("load a session: %w", err)
	}
	if !found {
		return nil
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("read a stored session: %w", err)
	}
	chunks, err := st.readChunks(ctx, s.key, &r)
	if err != nil {
		return err
	}
	chunks[0] = storedChunk{record: r.chunkRecord, put: put, found: true}
	dropped := time.UnixMilli(r.Dropped)
	if r.Dropped == 0 {
		if dropped, err = st.lastAlive(ctx, r.Node); err != nil {
			return err
		}
	}
	return s.restore(&r, chunks, time.Since(dropped) > st.cfg.Time)
}

// readChunks reads the chunks of a session but the first.
func (st *Store) readChunks(ctx context.Context, key string, r *record) ([]storedChunk, error) {
	chunks := make([]storedChunk, max(r.Chunks, 1))
	for n := 1; n < len(chunks); n++ {
		text, put, found, err := st.records.Get(ctx, chunkKey(key, n))
		if err != nil {
			return nil, fmt.Errorf("load a session: %w", err)
		}
		if !found {
			continue
		}
		chunks[n].put, chunks[n].found = put, true
		if err := json.Unmarshal(text, &chunks[n].record); err != nil {
			return nil, fmt.Errorf("read a stored session: %w", err)
		}
	}
	return chunks, nil
}

// lastAlive is when a run of a node said for the last time that it runs.
func (st *Store) lastAlive(ctx context.Context, run string) (time.Time, error) {
	if run == st.run {
		return time.Now(), nil
	}
	_, at, _, err := st.records.Get(ctx, aliveKey(run))
	if err != nil {
		return time.Time{}, fmt.Errorf("ask when a node was last alive: %w", err)
	}
	return at.Add(alivePeriod), nil
}

func aliveKey(run string) string { return "node " + run }

// alive tells the records that this node runs, until ctx ends.
func (st *Store) alive(ctx context.Context) {
	ticker := time.NewTicker(alivePeriod)
	defer ticker.Stop()
	for {
		putting, cancel := context.WithTimeout(ctx, saveTimeout)
		err := st.records.Put(putting, aliveKey(st.run), []byte{})
		if ctx.Err() == nil {
			st.tell(err)
		}
		cancel()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
