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
	"reecho/edge/limit"
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
	// saveInterval is the pause between two saves of one session that nobody
	// waits for.
	saveInterval = time.Second
	// savesBurst is how many saves that a subscription waits for are done at
	// once: a page subscribes to all it has in one go, and then to few.
	savesBurst = 500
)

// Defaults of SessionConfig.
const (
	DefaultSessionTime     = 2 * time.Minute
	DefaultSessionMemory   = 24 * time.Hour
	DefaultSessionBytes    = 64 << 20
	DefaultSessionChannels = 256
	DefaultAckInterval     = time.Second
	DefaultSessionSaves    = 20 // per second
	// DefaultSessionsPerAddress: behind a proxy that is not trusted many clients
	// have one address, but an address has no more ports than this.
	DefaultSessionsPerAddress = 60_000
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
	// PerAddress is how many sessions of connected clients one address may have.
	// 0 is DefaultSessionsPerAddress.
	PerAddress int
	// SavesPerSecond is how many new subscriptions of one session are stored in a
	// second, after the first few hundred; later ones wait. 0 is
	// DefaultSessionSaves.
	SavesPerSecond int
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
	c.PerAddress = cmp.Or(c.PerAddress, DefaultSessionsPerAddress)
	c.SavesPerSecond = cmp.Or(c.SavesPerSecond, DefaultSessionSaves)
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
	apps   map[string]int      // how many of them, by app
	queue  []*session
	ready  sync.Cond // queue or closed changed
	busy   int       // writers at work
	idle   sync.Cond // queue is empty and nobody busy
	closed bool

	// closing: nothing is put off any more.
	closing   atomic.Bool
	addresses limit.Counts // live sessions
}

func openSessions(ctx context.Context, cfg SessionConfig, b *broker.Broker, log *slog.Logger) (*sessions, error) {
	cfg = cfg.withDefaults()
	store, err := b.OpenStore(ctx, broker.StoreConfig{Name: "sessions", MaxAge: cfg.Memory, MaxBytes: cfg.Bytes})
	if err != nil {
		return nil, fmt.Errorf("open the store of sessions: %w", err)
	}
	ss := &sessions{cfg: cfg, store: store, log: log, run: rand.Text(), live: make(map[string]*session), apps: make(map[string]int)}
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
	ss.closing.Store(true)
	ss.mu.Lock()
	for _, s := range ss.live {
		s.mu.Lock()
		if s.changed && !s.queued && !s.saving {
			s.queued = true
			ss.queue = append(ss.queue, s)
		}
		s.mu.Unlock()
	}
	ss.ready.Broadcast()
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
// has lost without our knowing, is closed. Nil: there are as many sessions as
// limit says, which reason names.
func (ss *sessions) attach(c *client, id string) (sc *sessionConn, reason limit.Reason, value int) {
	sc = &sessionConn{sessions: ss, client: c, opened: time.Now()}
	sc.acks = acks{sc: sc, pinged: sc.opened}
	ss.mu.Lock()
	s, reason, value := ss.admitLocked(c, id)
	if s == nil {
		ss.mu.Unlock()
		return nil, reason, value
	}
	s.mu.Lock()
	ss.mu.Unlock()
	before := s.owner
	if before == nil && !s.dropped.IsZero() && time.Since(s.dropped) > ss.cfg.Time {
		s.expireLocked()
	}
	s.owner, s.dropped, sc.session = sc, time.Time{}, s
	s.crowded, s.main = s.crowded || s.crowding, true
	s.rememberLocked(s.sockets, []string{c.ID().String()})
	s.mu.Unlock()
	if before != nil {
		before.client.closeWith(pusher.Errorf(pusher.CodeOverCapacity,
			"The session went on over a newer connection. A session id must be used by one page only"))
	}
	return sc, "", 0
}

// admitLocked finds or makes a session, unless there are too many of the app or
// of the client's address.
func (ss *sessions) admitLocked(c *client, id string) (s *session, reason limit.Reason, value int) {
	key := c.app.ID + "/" + id
	s = ss.live[key]
	if most := c.app.Limits.Sessions; s == nil && most > 0 && ss.apps[c.app.ID] >= most {
		return nil, limit.Sessions, most
	}
	if s != nil && s.address == c.address {
		return s, "", 0
	}
	if !ss.addresses.Enter(c.address, ss.cfg.PerAddress) {
		return nil, limit.AddressSessions, ss.cfg.PerAddress
	}
	if s == nil {
		s = newSession(key, c.app.ID)
		ss.live[key] = s
		ss.apps[s.app]++
	} else {
		ss.addresses.Leave(s.address)
	}
	s.address = c.address
	return s, "", 0
}

// removeLocked forgets a session here.
func (ss *sessions) removeLocked(s *session) {
	if ss.live[s.key] != s {
		return
	}
	delete(ss.live, s.key)
	ss.addresses.Leave(s.address)
	if ss.apps[s.app]--; ss.apps[s.app] == 0 {
		delete(ss.apps, s.app)
	}
}

// load asks the store for the session, once. Who waits for another's attempt
// that failed tries itself: that one's connection may have ended.
func (ss *sessions) load(ctx context.Context, s *session) error {
	for {
		s.mu.Lock()
		loaded := s.loaded
		if loaded == nil {
			loaded = make(chan struct{})
			s.loaded = loaded
			s.mu.Unlock()
			return ss.loadNow(ctx, s, loaded)
		}
		s.mu.Unlock()
		select {
		case <-loaded:
			if s.isLoaded() {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("wait for a session: %w", ctx.Err())
		}
	}
}

func (ss *sessions) loadNow(ctx context.Context, s *session, loaded chan struct{}) error {
	err := ss.read(ctx, s)
	s.mu.Lock()
	if s.failed = err; err != nil {
		s.loaded = nil
	}
	s.mu.Unlock()
	close(loaded)
	return err
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
	text, put, found, err := ss.store.Get(ctx, s.key)
	if err != nil {
		return fmt.Errorf("load a session: %w", err)
	}
	if !found {
		return nil
	}
	var record sessionRecord
	if err := json.Unmarshal(text, &record); err != nil {
		return fmt.Errorf("read a stored session: %w", err)
	}
	chunks, err := ss.readChunks(ctx, s.key, &record)
	if err != nil {
		return err
	}
	chunks[0] = storedChunk{record: record.chunkRecord, put: put, found: true}
	s.mu.Lock()
	err = s.restoreLocked(&record, chunks)
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

// readChunks reads the chunks of a session but the first.
func (ss *sessions) readChunks(ctx context.Context, key string, record *sessionRecord) ([]storedChunk, error) {
	chunks := make([]storedChunk, max(record.Chunks, 1))
	for n := 1; n < len(chunks); n++ {
		text, put, found, err := ss.store.Get(ctx, chunkKey(key, n))
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

// save queues s to be written. done is told of the outcome; it needs room for
// one.
func (ss *sessions) save(s *session, done chan<- error) {
	s.mu.Lock()
	s.saved = append(s.saved, done)
	queue := s.queueLocked()
	s.mu.Unlock()
	if queue {
		ss.enqueue(s)
	}
}

// queueLocked says that s is to be written at once, and reports whether it has to
// be put into the queue for that.
func (s *session) queueLocked() bool {
	queue := !s.queued && !s.saving
	s.changed, s.queued = true, true
	return queue
}

// saveSoon has s written: now, or a while after the save before.
func (ss *sessions) saveSoon(s *session) {
	s.mu.Lock()
	s.changed = true
	queue := ss.soonLocked(s)
	s.mu.Unlock()
	if queue {
		ss.enqueue(s)
	}
}

// soonLocked starts the timer of a changed session, or reports that it is to be
// put into the queue.
func (ss *sessions) soonLocked(s *session) (queue bool) {
	if s.queued || s.saving {
		return false // finish looks again
	}
	pause := saveInterval - time.Since(s.written)
	if pause <= 0 || ss.closing.Load() {
		s.queued = true
		return true
	}
	if !s.delayed {
		s.delayed = true
		time.AfterFunc(pause, func() { ss.due(s) })
	}
	return false
}

func (ss *sessions) due(s *session) {
	s.mu.Lock()
	s.delayed = false
	queue := s.changed && ss.soonLocked(s)
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
	if s.owner == nil && !s.changed && !s.saving {
		ss.removeLocked(s)
	}
}

// saveNow writes s and waits, first for its turn if it is saved too often.
func (ss *sessions) saveNow(ctx context.Context, s *session) error {
	perSecond := ss.cfg.SavesPerSecond
	for !s.maySave(perSecond, time.Now()) {
		select {
		case <-time.After(time.Second / time.Duration(perSecond)):
		case <-ctx.Done():
			return fmt.Errorf("wait until a session may be saved: %w", ctx.Err())
		}
	}
	done := make(chan error, 1)
	ss.save(s, done)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for a session to be saved: %w", ctx.Err())
	}
}

func (s *session) maySave(perSecond int, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rate.Take(1, perSecond, savesBurst, now)
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
	s.changed, s.queued, s.saving, s.written = false, false, true, time.Now()
	waiting := s.saved
	s.saved = nil
	parts, err := s.partsLocked(ss.run, s.written)
	s.mu.Unlock()
	if err == nil {
		err = ss.put(parts)
	}
	if err != nil {
		s.mu.Lock()
		s.unsavedLocked(parts)
		// It is tried again: who comes back meanwhile must find it here. A stop
		// does not wait for that.
		s.changed = s.changed || !ss.closing.Load()
		s.mu.Unlock()
	}
	ss.tell(err)
	for _, done := range waiting {
		done <- err
	}
	ss.finish(s, err != nil)
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

func (ss *sessions) put(parts []part) error {
	ctx, cancel := context.WithTimeout(context.Background(), sessionSaveTimeout)
	defer cancel()
	for _, p := range parts {
		if err := ss.store.Put(ctx, p.key, p.text); err != nil {
			return err
		}
	}
	return nil
}

// finish ends a save: s is saved again if it changed meanwhile, and forgotten
// here if nobody has it, nor can go on with it.
func (ss *sessions) finish(s *session, failed bool) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saving = false
	if failed && !s.queued && s.owner == nil && time.Since(s.dropped) > ss.cfg.Time {
		s.changed = false
	}
	switch {
	case s.queued || s.changed && ss.soonLocked(s):
		ss.queue = append(ss.queue, s)
		ss.ready.Signal()
	case s.owner == nil && !s.changed:
		ss.removeLocked(s)
	}
}
