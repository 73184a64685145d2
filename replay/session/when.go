package session

import (
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	// saveInterval is the pause between two saves of one session that nobody
	// waits for.
	saveInterval = time.Second
	// savesBurst is how many saves that a subscription waits for are done at
	// once: a page subscribes to all it has in one go, and then to few.
	savesBurst = 500
)

// when is what is to be done about the next save: put into the queue, or looked
// at again after a time, or nothing.
type when struct {
	queue bool
	after time.Duration
}

// saveNow asks for a save that done, which has room for it, is told of.
func (s *session) saveNow(done chan<- error) when {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, done)
	queue := !s.queued && !s.saving
	s.changed, s.queued = true, true
	return when{queue: queue}
}

// saveSoon asks for a save, a while after the one before unless the store is
// closing.
func (s *session) saveSoon(closing *atomic.Bool) when {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = true
	return s.soonLocked(closing)
}

// due is that the time of a delayed save has come.
func (s *session) due(closing *atomic.Bool) when {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delayed = false
	if !s.changed {
		return when{}
	}
	return s.soonLocked(closing)
}

// soonLocked looks at closing itself, and its caller does not: Store.Close looks
// at every session after it has set that, so that it finds here what was put off
// before.
func (s *session) soonLocked(closing *atomic.Bool) when {
	if s.queued || s.saving {
		return when{} // saved looks again
	}
	pause := saveInterval - time.Since(s.written)
	switch {
	case pause <= 0 || closing.Load():
		s.queued = true
		return when{queue: true}
	case s.delayed:
		return when{}
	}
	s.delayed = true
	return when{after: pause}
}

// hurry reports whether the session is to be put into the queue because nothing
// is put off any more.
func (s *session) hurry() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.changed || s.queued || s.saving {
		return false
	}
	s.queued = true
	return true
}

// take begins a save: what is to be written, and who waits for it.
func (s *session) take(run string, now time.Time) (parts []part, waiting []chan<- error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed, s.queued, s.saving, s.written = false, false, true, now
	waiting, s.waiting = s.waiting, nil
	parts, err = s.partsLocked(run, now)
	return parts, waiting, err
}

// unsaved says that parts were not written after all; again is whether that is
// to be tried.
func (s *session) unsaved(parts []part, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range parts {
		if p.life == s.life {
			s.chunks[p.chunk].dirty, s.chunks[p.chunk].bytes = true, p.before
		}
	}
	s.changed = s.changed || again
}

// saved ends a save. What could not be saved is given up when nobody can go on
// with it: its client is away for longer than keep.
func (s *session) saved(failed bool, keep time.Duration, closing *atomic.Bool) when {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saving = false
	if s.turns != nil && s.turns.Tokens() >= savesBurst {
		s.turns = nil // as good as a new one
	}
	if failed && !s.queued && s.owner == nil && time.Since(s.dropped) > keep {
		s.changed = false
	}
	switch {
	case s.queued:
		return when{queue: true}
	case s.changed:
		return s.soonLocked(closing)
	}
	return when{}
}

// unused reports whether nobody has the session and it is stored as it is.
func (s *session) unused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owner == nil && len(s.claimants) == 0 && !s.changed && !s.saving && !s.queued
}

// takeTurn reports whether a save that is waited for may be done now.
func (s *session) takeTurn(perSecond int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turns == nil {
		s.turns = rate.NewLimiter(rate.Limit(perSecond), savesBurst)
	}
	return s.turns.Allow()
}

// isOld reports whether something was saved that long ago; that has to be saved
// again.
func (s *session) isOld(now time.Time, age time.Duration) (old bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.chunks {
		if c := &s.chunks[i]; s.stored && now.Sub(c.saved) >= age {
			c.dirty, old = true, true
		}
	}
	return old
}
