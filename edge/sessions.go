package edge

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"reecho/broker"
	"reecho/edge/pusher"
)

const (
	// sessionWriters is how many sessions are saved at once.
	sessionWriters = 8
	// alivePeriod is how often the node says in the store that it runs: after
	// it was killed that is when its clients' connections were lost.
	alivePeriod = 5 * time.Second
	// sessionSaveTimeout bounds one write.
	sessionSaveTimeout = 5 * time.Second
)

// Defaults of SessionConfig.
const (
	DefaultSessionTime     = 2 * time.Minute
	DefaultSessionMemory   = 24 * time.Hour
	DefaultSessionBytes    = 64 << 20
	DefaultSessionChannels = 256
	DefaultAckInterval     = time.Second
)

// MinSessionBytes is room for a few sessions of many channels.
const MinSessionBytes = 1 << 20

// SessionConfig is about clients that come with a session id. The zero value is
// usable.
type SessionConfig struct {
	// Time is how long after the connection was lost a client gets what it
	// missed. 0 is DefaultSessionTime.
	Time time.Duration
	// Memory is how long the id is remembered, so that a client that comes
	// back later is told of the gap. 0 is DefaultSessionMemory.
	Memory time.Duration
	// Bytes bounds the store; the sessions changed longest ago go first. 0 is
	// DefaultSessionBytes.
	Bytes int64
	// Channels is how many channels of one client are followed; of those above
	// it is told reecho:gap when it comes back. 0 is DefaultSessionChannels.
	Channels int
	// AckInterval is the pause between two pings that ask what has arrived. 0
	// is DefaultAckInterval; less than a second is taken as a second.
	AckInterval time.Duration
	// Retention is how long events are kept at least; confirmations are
	// renewed four times in it.
	Retention time.Duration
}

func (c SessionConfig) withDefaults() SessionConfig {
	c.Time = cmp.Or(c.Time, DefaultSessionTime)
	c.Memory = cmp.Or(c.Memory, DefaultSessionMemory)
	c.Bytes = cmp.Or(c.Bytes, DefaultSessionBytes)
	c.Channels = cmp.Or(c.Channels, DefaultSessionChannels)
	c.AckInterval = cmp.Or(c.AckInterval, DefaultAckInterval)
	c.Retention = cmp.Or(c.Retention, broker.DefaultMaxAge)
	return c
}

// refresh is how old a confirmation may become while the client is there.
func (c SessionConfig) refresh() time.Duration {
	return min(max(c.Retention/4, c.AckInterval), 10*time.Minute)
}

// sessions keeps the sessions of a node: those of connected clients here, all of
// them in the store.
type sessions struct {
	cfg   SessionConfig
	store *broker.Store
	log   *slog.Logger
	run   string // names this run of the node

	tasks   sync.WaitGroup
	failing atomic.Bool // saving does not work, and that is logged

	mu     sync.Mutex
	live   map[string]*session // with an owner, or not yet saved without
	queue  []*session
	ready  sync.Cond // queue or closed changed
	busy   int       // writers at work
	idle   sync.Cond // queue is empty and nobody busy
	closed bool
}

func openSessions(ctx context.Context, cfg SessionConfig, b *broker.Broker, log *slog.Logger) (*sessions, error) {
	cfg = cfg.withDefaults()
	store, err := b.OpenStore(ctx, broker.StoreConfig{Name: "sessions", MaxAge: cfg.Memory, MaxBytes: cfg.Bytes})
	if err != nil {
		return nil, fmt.Errorf("open the store of sessions: %w", err)
	}
	ss := &sessions{cfg: cfg, store: store, log: log, run: rand.Text(), live: make(map[string]*session)}
	ss.ready.L, ss.idle.L = &ss.mu, &ss.mu
	for range sessionWriters {
		ss.tasks.Go(ss.write)
	}
	return ss, nil
}

// close saves what is not saved, at most until ctx ends, and stops the writers.
func (ss *sessions) close(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		ss.mu.Lock()
		defer ss.mu.Unlock()
		ss.queue = nil
		ss.idle.Broadcast()
	})
	defer stop()
	ss.mu.Lock()
	for len(ss.queue) > 0 || ss.busy > 0 {
		if ctx.Err() != nil && len(ss.queue) == 0 {
			break
		}
		ss.idle.Wait()
	}
	ss.closed = true
	ss.ready.Broadcast()
	ss.mu.Unlock()
	ss.tasks.Wait()
}

// attach makes c the session's one connection. An older one, which the client
// has lost without our knowing, is closed.
func (ss *sessions) attach(c *client, appID, id string) *sessionConn {
	key := appID + "/" + id
	sc := &sessionConn{sessions: ss, client: c, opened: time.Now()}
	ss.mu.Lock()
	s := ss.live[key]
	if s == nil {
		s = &session{key: key, marks: make(map[string]mark)}
		ss.live[key] = s
	}
	s.mu.Lock()
	ss.mu.Unlock()
	before := s.owner
	if before == nil && !s.dropped.IsZero() && time.Since(s.dropped) > ss.cfg.Time {
		s.expireLocked()
	}
	s.owner, s.dropped, sc.session = sc, time.Time{}, s
	s.crowded = s.crowded || s.crowding
	s.rememberLocked(s.sockets, []string{c.id.String()})
	s.mu.Unlock()
	if before != nil {
		before.client.closeWith(pusher.Errorf(pusher.CodeOverCapacity,
			"The session went on over a newer connection. A session id must be used by one page only"))
	}
	sc.pinged = sc.opened
	return sc
}

// load asks the store for the session, once.
func (ss *sessions) load(ctx context.Context, s *session) error {
	s.mu.Lock()
	loaded := s.loaded
	if loaded == nil {
		loaded = make(chan struct{})
		s.loaded = loaded
		s.mu.Unlock()
		err := ss.read(ctx, s)
		s.mu.Lock()
		s.failed = err
		if err != nil {
			s.loaded = nil
		}
		s.mu.Unlock()
		close(loaded)
		return err
	}
	s.mu.Unlock()
	select {
	case <-loaded:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.failed
	case <-ctx.Done():
		return fmt.Errorf("wait for a session: %w", ctx.Err())
	}
}

// isLoaded reports whether load would return at once.
func (s *session) isLoaded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded == nil {
		return false
	}
	select {
	case <-s.loaded:
		return s.failed == nil
	default:
		return false
	}
}

func (ss *sessions) read(ctx context.Context, s *session) error {
	text, _, found, err := ss.store.Get(ctx, s.key)
	if err != nil {
		return fmt.Errorf("load a session: %w", err)
	}
	if !found {
		return nil
	}
	s.mu.Lock()
	record, err := s.restoreLocked(text)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	dropped := time.UnixMilli(record.Dropped)
	if record.Dropped == 0 {
		if dropped, err = ss.lastAlive(ctx, record.Node); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(dropped) > ss.cfg.Time {
		s.expireLocked()
	}
	return nil
}

// lastAlive is when a run of a node said for the last time that it runs.
func (ss *sessions) lastAlive(ctx context.Context, run string) (time.Time, error) {
	if run == ss.run {
		return time.Now(), nil
	}
	_, at, _, err := ss.store.Get(ctx, aliveKey(run))
	if err != nil {
		return time.Time{}, fmt.Errorf("ask when a node was last alive: %w", err)
	}
	return at.Add(alivePeriod), nil
}

func aliveKey(run string) string { return "node " + run }

// alive tells the store that this node runs, until ctx ends.
func (ss *sessions) alive(ctx context.Context) {
	ticker := time.NewTicker(alivePeriod)
	defer ticker.Stop()
	for {
		putting, cancel := context.WithTimeout(ctx, sessionSaveTimeout)
		err := ss.store.Put(putting, aliveKey(ss.run), []byte{})
		if ctx.Err() == nil {
			ss.tell(err)
		}
		cancel()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// save queues s to be written. done, if not nil, is told of the outcome; it
// needs room for one.
func (ss *sessions) save(s *session, done chan<- error) {
	s.mu.Lock()
	if done != nil {
		s.saved = append(s.saved, done)
	}
	queue := !s.dirty && !s.saving
	s.dirty = true
	s.mu.Unlock()
	if queue {
		ss.enqueue(s)
	}
}

func (ss *sessions) enqueue(s *session) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.queue = append(ss.queue, s)
	ss.ready.Signal()
}

// discard forgets a session that nobody has and that is in the store as it is.
func (ss *sessions) discard(s *session) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner == nil && !s.dirty && !s.saving {
		delete(ss.live, s.key)
	}
}

// saveNow writes s and waits.
func (ss *sessions) saveNow(ctx context.Context, s *session) error {
	done := make(chan error, 1)
	ss.save(s, done)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for a session to be saved: %w", ctx.Err())
	}
}

// write saves queued sessions until close. Each is written in its newest state,
// by one writer at a time.
func (ss *sessions) write() {
	for {
		s := ss.next()
		if s == nil {
			return
		}
		ss.writeOne(s)
		ss.mu.Lock()
		ss.busy--
		if ss.busy == 0 && len(ss.queue) == 0 {
			ss.idle.Broadcast()
		}
		ss.mu.Unlock()
	}
}

// next waits for a session to save; nil after close.
func (ss *sessions) next() *session {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for len(ss.queue) == 0 {
		if ss.closed {
			return nil
		}
		ss.ready.Wait()
	}
	s := ss.queue[0]
	ss.queue[0] = nil
	ss.queue = ss.queue[1:]
	ss.busy++
	return s
}

func (ss *sessions) writeOne(s *session) {
	s.mu.Lock()
	s.dirty, s.saving = false, true
	waiting := s.saved
	s.saved = nil
	text, err := json.Marshal(s.recordLocked(ss.run))
	s.mu.Unlock()
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), sessionSaveTimeout)
		err = ss.store.Put(ctx, s.key, text)
		cancel()
	}
	ss.tell(err)
	for _, done := range waiting {
		done <- err
	}
	ss.finish(s)
}

// tell logs when saving begins to fail and when it works again. A log that has
// failed is told of by the broker.
func (ss *sessions) tell(err error) {
	switch {
	case errors.Is(err, broker.ErrClosed), errors.Is(err, broker.ErrUnavailable):
	case err != nil && ss.failing.CompareAndSwap(false, true):
		ss.log.Warn("cannot save sessions: after a crash clients may get events again", slog.Any("error", err))
	case err == nil && ss.failing.CompareAndSwap(true, false):
		ss.log.Info("sessions are saved again")
	}
}

// finish ends a save: s is saved again if it changed meanwhile, and forgotten
// here if nobody has it.
func (ss *sessions) finish(s *session) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saving = false
	switch {
	case s.dirty:
		ss.queue = append(ss.queue, s)
		ss.ready.Signal()
	case s.owner == nil:
		delete(ss.live, s.key)
	}
}
