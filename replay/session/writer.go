package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"reecho/broker"
)

const (
	// writers is how many sessions are saved at once.
	writers = 8
	// saveTimeout bounds the writing of one session.
	saveTimeout = 5 * time.Second
)

// saveSoon has s written: now, or a while after the save before.
func (st *Store) saveSoon(s *session) {
	if s.private {
		return
	}
	st.carryOut(s, s.saveSoon(&st.closing))
}

// saveNow writes s and waits, first for its turn if it is saved too often.
func (st *Store) saveNow(ctx context.Context, s *session) error {
	if s.private {
		return nil
	}
	perSecond := st.cfg.SavesPerSecond
	// Not with the limiter's Wait: that refuses at once who would have to wait for
	// too long behind others, though these may give up.
	for waited := false; !s.takeTurn(perSecond); waited = true {
		if !waited {
			st.waited.Add(1)
		}
		select {
		case <-time.After(time.Second / time.Duration(perSecond)):
		case <-ctx.Done():
			return fmt.Errorf("wait until a session may be saved: %w", ctx.Err())
		}
	}
	done := make(chan error, 1)
	st.carryOut(s, s.saveNow(done))
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for a session to be saved: %w", ctx.Err())
	}
}

// carryOut does what a session says about its next save.
func (st *Store) carryOut(s *session, w when) {
	if w == (when{}) {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.carryOutLocked(s, w)
}

func (st *Store) carryOutLocked(s *session, w when) {
	switch {
	case w.queue:
		st.queue = append(st.queue, s)
		st.ready.Signal()
	case w.after > 0:
		time.AfterFunc(w.after, func() { st.carryOut(s, s.due(&st.closing)) })
	}
}

// write saves queued sessions until Close. Each is written in its newest state,
// by one writer at a time.
func (st *Store) write() {
	for {
		s := st.next()
		if s == nil {
			return
		}
		st.writeOne(s)
		st.mu.Lock()
		st.busy--
		if st.busy == 0 && len(st.queue) == 0 {
			st.idle.Broadcast()
		}
		st.mu.Unlock()
	}
}

// next waits for a session to save; nil after Close.
func (st *Store) next() *session {
	st.mu.Lock()
	defer st.mu.Unlock()
	for len(st.queue) == 0 {
		if st.closed {
			return nil
		}
		st.ready.Wait()
	}
	s := st.queue[0]
	st.queue[0] = nil
	st.queue = st.queue[1:]
	st.busy++
	return s
}

func (st *Store) writeOne(s *session) {
	// A connection may have been lost before anybody asked for its session: its
	// socket id is stored with the rest.
	failure := st.loadNow(s)
	parts, waiting, err := s.take(st.run, time.Now())
	if failure != nil {
		err = failure
	}
	switch {
	case err != nil:
	case !st.affords(s, parts):
		// Its id is remembered: when the client comes back it is told that the
		// rest was not kept.
		s.unsaved(parts, false)
	default:
		err = st.put(s, parts)
	}
	switch {
	case errors.Is(err, broker.ErrConflict):
		st.overtaken(s, parts[0].life)
	case errors.Is(err, errApart):
		// Nothing was loaded, so there is nothing to keep.
	case err != nil:
		// It is tried again: who comes back meanwhile must find it here. A stop
		// does not wait for that.
		s.unsaved(parts, !st.closing.Load())
	}
	st.tell(err)
	for _, done := range waiting {
		done <- err
	}
	st.finish(s, err != nil)
}

// finish ends a save: s is saved again if it changed meanwhile, and forgotten
// here if nobody has it, nor can go on with it.
func (st *Store) finish(s *session, failed bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	w := s.saved(failed, st.cfg.Time, &st.closing)
	if s.unused() {
		st.removeLocked(s)
		return
	}
	st.carryOutLocked(s, w)
}

// tell logs when saving begins to fail and when it works again. A log that has
// failed is told of by the broker.
func (st *Store) tell(err error) {
	switch {
	case errors.Is(err, broker.ErrClosed), errors.Is(err, broker.ErrUnavailable):
	case errors.Is(err, broker.ErrConflict), errors.Is(err, errApart): // as it should be
	case err != nil && st.failing.CompareAndSwap(false, true):
		st.log.Warn("cannot save sessions: after a crash clients may get events again", slog.Any("error", err))
	case err == nil && st.failing.CompareAndSwap(true, false):
		st.log.Info("sessions are saved again")
	}
}

// loadNow loads a session for its save.
func (st *Store) loadNow(s *session) error {
	if s.loading.Done() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	return s.load(ctx, st)
}

// put writes the parts of a session. It is a broker.ErrConflict if another node has
// the session.
func (st *Store) put(s *session, parts []part) error {
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	for i, conflicts := 0, 0; i < len(parts); {
		err := st.putOne(ctx, s, &parts[i])
		switch {
		case err == nil:
			i++
			continue
		case errors.Is(err, broker.ErrConflict) && conflicts < maxConflicts:
			conflicts++
			err = st.resolve(ctx, s, &parts[i])
		}
		if err != nil {
			return err
		}
	}
	s.fenced(parts)
	return nil
}

func (st *Store) putOne(ctx context.Context, s *session, p *part) error {
	// Before enough is written that it could push out a record whose id is not
	// stored, by all nodes of a cluster together.
	if st.wrote.Add(int64(p.bytes())) > int64(st.cfg.Bytes/8) {
		st.wrote.Store(0)
		if err := st.ids.flush(ctx); err != nil {
			return err
		}
	}
	revision, err := st.records.Put(ctx, p.key, p.text, p.expected)
	if err == nil {
		s.putAt(p, revision)
	}
	return err
}
