package broker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// hold is what a call has admitted to the streams and not yet an answer to. It
// counts as stored meanwhile: else calls that come together would all find room
// for themselves and overfill the stream.
type hold struct {
	parts []demand
	until time.Time // nobody waits longer
}

// release says that the call is over.
func (h *hold) release() {
	for _, d := range h.parts {
		d.share.settle(d)
	}
}

// demand is what a call wants to store in a stream, of one app.
type demand struct {
	share  *share
	app    string
	bytes  int64
	events int64
}

// demandsOf adds up records by stream and app. All that a call wants of a stream
// is admitted at once, and the streams come in their order: calls that have a
// part of what they want must not wait for each other.
func demandsOf(records []Record, lanes []*lane) []demand {
	var demands []demand
	for i := range records {
		r, s := &records[i], lanes[i].share
		if s == nil {
			continue
		}
		at := slices.IndexFunc(demands, func(d demand) bool { return d.share == s && d.app == r.App })
		if at < 0 {
			at = len(demands)
			demands = append(demands, demand{share: s, app: r.App})
		}
		demands[at].bytes += int64(len(r.Frame) + len(r.App) + len(r.Channel) + storedOverhead)
		demands[at].events++
	}
	slices.SortStableFunc(demands, func(a, b demand) int { return cmp.Compare(a.share.lane.index, b.share.lane.index) })
	return demands
}

// admit lets records into their streams, which may mean to wait: before any of
// them is handed on, so that with an error none is stored. Errors: ErrOverloaded,
// ErrUnavailable, ErrClosed, the context's.
func (b *Broker) admit(ctx context.Context, records []Record, lanes []*lane, h *hold) error {
	if !b.shared {
		return nil
	}
	demands := demandsOf(records, lanes)
	for i, d := range demands {
		if err := d.share.admit(ctx, d, h.until); err != nil {
			return err
		}
		h.parts = demands[:i+1]
	}
	return nil
}

// waiter is a call that waits for room.
type waiter struct {
	demand
	decided chan error // capacity 1
}

// admit lets d in at once, unless the stream is nearly full and d is of an app
// that has more than its part: then it waits for its turn and for room.
func (s *share) admit(ctx context.Context, d demand, until time.Time) error {
	s.mu.Lock()
	if !s.boundedLocked(d.app) || len(s.waiting) == 0 && s.fitsLocked(d) {
		s.takeLocked(d)
		s.mu.Unlock()
		return nil
	}
	w := &waiter{demand: d, decided: make(chan error, 1)}
	s.waiting = append(s.waiting, w)
	s.mu.Unlock()
	rouse(s.wake)
	rouse(s.hurry)
	return s.wait(ctx, w, until)
}

// settle says that what was let in has been decided, stored or not.
func (s *share) settle(d demand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all.settle(d.bytes)
	s.usageLocked(d.app).settle(d.bytes)
}

// wait waits until it is decided on w, or until there is an error.
func (s *share) wait(ctx context.Context, w *waiter, until time.Time) error {
	// A failure that comes later is told to all that wait.
	err := s.broker.Failure()
	if err == nil {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		select {
		case err := <-w.decided:
			return err
		case <-ctx.Done():
			err = fmt.Errorf("wait for room in the event log: %w", ctx.Err())
		case <-s.broker.run.Done():
			err = ErrClosed
		case <-timer.C:
			err = ErrOverloaded
		}
	}
	if s.leave(w) {
		return err
	}
	return <-w.decided
}

// leave takes w out of those that wait; false: it has been decided on, and what
// was decided counts, because it may have been let in.
func (s *share) leave(w *waiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.waiting, w)
	if i < 0 {
		return false
	}
	s.waiting = slices.Delete(s.waiting, i, i+1)
	return true
}

// serve lets in those that wait for whom there is room, in their order, or none
// when the log has failed. One that does not fit holds up those behind it: a
// large event would wait for ever behind small ones otherwise.
func (s *share) serve() {
	if s == nil {
		return
	}
	err := s.broker.Failure()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.waiting) > 0 {
		w := s.waiting[0]
		if err == nil {
			if s.boundedLocked(w.app) && !s.fitsLocked(w.demand) {
				rouse(s.wake)
				rouse(s.hurry)
				return
			}
			s.takeLocked(w.demand)
		}
		w.decided <- err
		s.waiting = slices.Delete(s.waiting, 0, 1)
	}
}

// takeLocked counts what is let in, and has the stream looked at now and then.
func (s *share) takeLocked(d demand) {
	s.all.pending += d.bytes
	s.accepted += d.bytes
	s.events += d.events
	s.usageLocked(d.app).add(d.bytes, d.events)
	if s.accepted >= s.lane.retention.MaxBytes/shareSteps {
		rouse(s.wake)
	}
}

// boundedLocked: the app has more than its part of what others need, too.
func (s *share) boundedLocked(app string) bool {
	part, known := s.parts[app]
	u := s.usageLocked(app)
	return known && u.bytes() > part && !s.aloneLocked(u)
}

// fitsLocked: the stream is not nearly full with d. The room above that is for
// apps that are within their part, which never wait.
func (s *share) fitsLocked(d demand) bool {
	return s.all.bytes()+d.bytes <= s.lane.retention.MaxBytes/100*shareHold
}
