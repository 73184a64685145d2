package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"reecho/broker"
)

// The records of a session are its owner's, and who loads a session from another node
// becomes that by writing the main record in the place of the one that it has read.
// From then on the other node, which may not know, cannot write that one any more; it
// can write another chunk until the new owner has, which does so before anything else.
// The first such write that fails tells the other node what has happened.

const (
	// maxConflicts is how often one save is tried again whose session is still here.
	maxConflicts = 3
	// claimTries is how often a connection tries to become the owner of a session that
	// others write meanwhile.
	claimTries = 5
)

var (
	// errApart: a page that is connected to another node has the session.
	errApart = errors.New("another page has the session")
	// errOvertaken: a newer connection has the session.
	errOvertaken = errors.New("the session went on over a newer connection")
	// errStale: a server that is cut off has answered.
	errStale = fmt.Errorf("%w: what was read is older than what was written", broker.ErrUnavailable)
)

// resolve finds out what it means that a part could not be put where it was expected
// to be: nil is that the session is still here, and the part can be put now; a
// broker.ErrConflict, that it is not.
func (st *Store) resolve(ctx context.Context, s *session, p *part) error {
	v, r, err := st.readMain(ctx, s.key)
	if err != nil {
		return err
	}
	known, fence := s.revision()
	switch {
	case v.Revision == 0:
		// The record was pushed out. If another node had put its own before, nothing of
		// that is known any more.
		s.evicted(p, st.others != nil)
	case v.Revision < known:
		return errStale
	case r.Node != st.run, fence && p.chunk > 0:
		return broker.ErrConflict
	default:
		// It was put by a save of which no answer came.
		s.putAt(&part{life: p.life}, v.Revision)
	}
	if p.chunk > 0 {
		// It was pushed out, or is left of a node that had lost the session before it
		// could tell of this chunk in the main record.
		if v, err = st.records.Get(ctx, p.key); err != nil {
			return fmt.Errorf("load a session: %w", err)
		}
	}
	p.expected = v.Revision
	return nil
}

// revision is that of the main record, as far as it is known here, and whether the
// chunks have to be fenced off.
func (s *session) revision() (main uint64, fence bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chunks[0].revision, s.fence
}

// putAt notes the revision of a record that was written.
func (s *session) putAt(p *part, revision uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.life == s.life {
		s.chunks[p.chunk].revision = revision
	}
}

// evicted notes that there is no main record any more. doubt: there may have been
// one of another node.
func (s *session) evicted(p *part, doubt bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.life != s.life {
		return
	}
	s.chunks[0].revision = 0
	if p.chunk > 0 || doubt {
		s.lost = s.lost || doubt
		s.main, s.changed = true, true
	}
}

// fenceOff notes that the session is taken from a run of another node, "" for none.
func (s *session) fenceOff(from string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if from != "" {
		s.from, s.fence = from, true
	}
	for n := range s.chunks {
		s.chunks[n].dirty = s.chunks[n].dirty || s.fence
	}
}

// fenced notes that parts were written, all that have to be to fence off the session.
func (s *session) fenced(parts []part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(parts) > 0 && parts[0].life == s.life {
		s.fence = false
	}
}

// overtaken has a session that was written by another node read again, and tells the
// connection that had it, unless that is still about to load it. life is that of the
// session in which that was found out.
func (st *Store) overtaken(s *session, life int) {
	if gone := s.overtaken(life); gone != nil {
		gone.conn.TakenOver()
	}
	st.settle(s)
	st.discard(s)
}

func (s *session) overtaken(life int) (gone *Hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if life != s.life {
		return nil
	}
	s.life++
	if s.owner != nil && s.owner.ready.Load() {
		gone, s.owner, s.dropped = s.owner, nil, time.Now()
		s.crowding, s.doubled = false, false
	}
	s.marks, s.chunks, s.sockets = make(map[string]mark), make([]chunk, 1), nil
	s.crowded, s.lost, s.stored, s.changed = false, false, false, false
	s.main, s.remembered = true, 0
	if s.owner != nil {
		s.enterLocked(s.owner.socket)
	}
	s.loading.Undo()
	return gone
}

// owns reports whether by has the session.
func (s *session) owns(by *Hold) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owner == by
}
