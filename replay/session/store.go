// Package session keeps what clients that gave themselves a session id have
// confirmed (DESIGN §6, way 2): the channels and how far each has got. It
// outlives connections, and the node, in a store of records. It knows no client
// and no wire: a connection claims a session and tells it what was confirmed.
package session

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Store keeps the sessions of a node: those of connected clients here, all of
// them in its records. It is safe for concurrent use.
type Store struct {
	cfg     Config
	records Records
	log     *slog.Logger
	others  Others // nil: the node is alone
	run     string // names this run of the node
	opened  time.Time

	stop    context.CancelFunc
	tasks   sync.WaitGroup
	failing atomic.Bool // saving does not work, and that is logged
	closing atomic.Bool // nothing is put off any more
	ids     *ids
	wrote   atomic.Int64 // bytes, since the ids were stored
	shares  shares

	mu        sync.Mutex
	live      map[string]*session // with an owner, or not yet saved without
	apps      map[string]int      // how many of them, by app
	addresses map[netip.Addr]int  // and by address
	queue     []*session
	ready     sync.Cond // queue or closed changed
	busy      int       // writers at work
	waited    atomic.Uint64
	idle      sync.Cond // queue is empty and nobody busy
	closed    bool
}

// Open starts a store over records. Close ends it. others are those that use the same
// records; nil: nobody does.
func Open(cfg Config, records Records, others Others, log *slog.Logger) *Store {
	st := &Store{
		cfg: cfg.withDefaults(), records: records, others: others, log: log, run: rand.Text(), opened: time.Now(),
		live: make(map[string]*session), apps: make(map[string]int), addresses: make(map[netip.Addr]int),
	}
	st.ready.L, st.idle.L = &st.mu, &st.mu
	name := ""
	if others != nil {
		name, st.run = others.Name(), others.Life()
		others.Answer(st.answer)
	}
	st.ids = newIDs(st.cfg, records, name)
	st.shares = newShares(st.cfg)
	ctx, stop := context.WithCancel(context.Background())
	st.stop = stop
	st.tasks.Go(func() { st.alive(ctx) })
	st.tasks.Go(func() { st.saveIDs(ctx) })
	for range writers {
		st.tasks.Go(st.write)
	}
	return st
}

// Close saves what is not saved, at most until ctx ends, and stops. When ctx ends
// it still waits for what is being written, for saveTimeout at most. Saves that are
// asked for later are not done, and who waits for one waits until its context ends.
// It must be called once.
func (st *Store) Close(ctx context.Context) {
	st.closing.Store(true)
	st.mu.Lock()
	// Under the lock: also if ctx has ended already, it comes when the queue is filled.
	defer context.AfterFunc(ctx, st.giveUp)()
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
	st.flushIDs(ctx)
	st.stop()
	st.tasks.Wait()
}

// giveUp drops what is to be saved.
func (st *Store) giveUp() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.queue = nil
	st.idle.Broadcast()
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

// Claim makes h, which must be zero and stay where it is, a hold on a session. If a
// connection has it already, that is asked whether its client is there: if it is,
// the two are different pages, and h gets a session of its own that is told of a
// gap; if it is not within askTime, it is taken over. Load waits for that. The error
// is a *FullError.
func (st *Store) Claim(h *Hold, who Who, conn Connection) error {
	h.store, h.opened, h.conn, h.socket, h.decided = st, time.Now(), conn, who.Socket, make(chan struct{})
	st.mu.Lock()
	s, err := st.admitLocked(who)
	if err != nil {
		st.mu.Unlock()
		return err
	}
	h.session = s
	ask := s.claim(h)
	st.mu.Unlock()
	if len(ask) == 0 {
		return nil
	}
	for _, owner := range ask {
		owner.conn.Ask()
	}
	time.AfterFunc(askTime, func() { st.settle(s) })
	return nil
}

// Stats is how many sessions connections of this node have, and how many subscriptions
// had to wait for Config.SavesPerSecond.
func (st *Store) Stats() (sessions int, waited uint64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	return len(st.live), st.waited.Load()
}

// settle decides on the connections that claim a session, and takes over those
// that are gone.
func (st *Store) settle(s *session) {
	gone, decided := s.settle(time.Now())
	for _, h := range gone {
		h.conn.TakenOver()
	}
	if decided && s.loading.Done() {
		st.saveSoon(s)
	}
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
