package replay

import (
	"slices"

	"reecho/broker"
)

// maxPending bounds the events a sequencer holds back while a hole before them
// is read from the stream. Beyond it an event is dropped and read again: pending
// events only save reads, they are never the only copy.
const maxPending = 256

// sequencer puts the events of one channel into order, those that come live and
// those that were read. It is pure (no I/O, no locks, no clock), so that its
// rules can be tested exhaustively. The zero value waits for Attach.
type sequencer struct {
	attached bool
	// pos is the sequence of the newest event delivered, which the next one
	// names as its predecessor.
	pos uint64
	// end, if it is above pos, says that nothing is retained between the two.
	end uint64
	// target is a sequence known to be stored; above pos it means that
	// events are missing and must be read.
	target uint64
	// pending are live events above pos whose predecessor is missing,
	// ascending.
	pending []broker.Event
}

// Attach says that last is the newest event stored before the live
// subscription was in place, 0 for none: the log starts behind it. Call Next
// until it returns false afterwards.
func (s *sequencer) Attach(last uint64) {
	s.attached = true
	s.pos = last
	s.dropDelivered()
}

// Live takes an event from the live path and reports whether it is the next
// one, to be delivered now; then Next may have more. An event that is not next
// is old and forgotten, or early and held back.
func (s *sequencer) Live(ev *broker.Event) bool {
	if ev.Sequence <= s.pos {
		return false
	}
	if s.follows(ev) && s.first(ev) {
		s.pos = ev.Sequence
		return true
	}
	s.hold(ev)
	return false
}

// first reports whether nothing older than ev is held back. An event without a
// predecessor may follow on what was delivered when an older one does not: that
// and what was before it was trimmed meanwhile, which has to be found first.
func (s *sequencer) first(ev *broker.Event) bool {
	return len(s.pending) == 0 || ev.Sequence <= s.pending[0].Sequence
}

// hold keeps an early event in order, once.
func (s *sequencer) hold(ev *broker.Event) {
	s.target = max(s.target, ev.Sequence)
	at, found := slices.BinarySearchFunc(s.pending, ev.Sequence, func(e broker.Event, s uint64) int {
		switch {
		case e.Sequence < s:
			return -1
		case e.Sequence > s:
			return 1
		}
		return 0
	})
	if found || len(s.pending) >= maxPending {
		return
	}
	s.pending = slices.Insert(s.pending, at, *ev)
}

// Next returns the next pending event if its predecessor has been delivered.
func (s *sequencer) Next() (broker.Event, bool) {
	if len(s.pending) == 0 || !s.follows(&s.pending[0]) {
		return broker.Event{}, false
	}
	return s.shift(), true
}

// follows reports whether nothing that is still stored was between what was
// delivered and ev.
func (s *sequencer) follows(ev *broker.Event) bool { return s.attached && ev.Previous == s.pos }

// Opens reports whether ev would be the first that is delivered, and has no
// predecessor: it is the first ever, or those before it are gone.
func (s *sequencer) Opens(ev *broker.Event) bool {
	return s.attached && s.pos == 0 && ev.Previous == 0 && s.first(ev)
}

// First is the first event that is held back.
func (s *sequencer) First() (ev broker.Event, ok bool) {
	if len(s.pending) == 0 {
		return broker.Event{}, false
	}
	return s.pending[0], true
}

func (s *sequencer) shift() broker.Event {
	ev := s.pending[0]
	s.pos = ev.Sequence
	s.pending[0] = broker.Event{}
	s.pending = s.pending[1:]
	if len(s.pending) == 0 {
		s.pending = nil
	}
	return ev
}

// Begins reports whether the event of this sequence is held back and was the
// only one of its channel when it was stored: what was before it, if anything,
// was not trimmed by count.
func (s *sequencer) Begins(sequence uint64) bool {
	return len(s.pending) > 0 && s.pending[0].Sequence == sequence && s.pending[0].Previous == 0
}

// Nudge says that something up to sequence is stored.
func (s *sequencer) Nudge(sequence uint64) { s.target = max(s.target, sequence) }

// Missing reports whether stored events above Position have to be read.
func (s *sequencer) Missing() bool { return s.attached && s.target > s.pos }

// Target is the highest sequence that is known to be stored, or lower than Position.
func (s *sequencer) Target() uint64 { return s.target }

// Position is the sequence of the newest event delivered.
func (s *sequencer) Position() uint64 { return s.pos }

// End is Position, or above it where nothing is retained between the two: a
// client that comes has everything up to it.
func (s *sequencer) End() uint64 { return max(s.pos, s.end) }

// Found says that the stream retains nothing of the channel between Position and
// sequence. What still comes of them was trimmed before that was asked.
func (s *sequencer) Found(sequence uint64) { s.end = max(s.end, sequence) }

// Overtaken reports whether the end was found above an event: there may be
// clients that were told to have everything up to it.
func (s *sequencer) Overtaken(ev *broker.Event) bool { return ev.Sequence <= s.end }

// Stored takes one event of a read that started at Position()+1 or before and
// went on in stream order. It reports whether the event is to be delivered.
// Where the stream holds nothing between two events nothing was kept there,
// so the predecessor is not asked for. After the last event of a read call
// Next until it returns false.
func (s *sequencer) Stored(ev *broker.Event) bool {
	if ev.Sequence <= s.pos {
		return false
	}
	s.pos = ev.Sequence
	s.dropDelivered()
	return true
}

// dropDelivered forgets pending events that were delivered from a read.
func (s *sequencer) dropDelivered() {
	for len(s.pending) > 0 && s.pending[0].Sequence <= s.pos {
		s.pending = s.pending[1:]
	}
	if len(s.pending) == 0 {
		s.pending = nil
	}
}

// Abandon is called with proof that the stream retains nothing above
// Position: what was missing was trimmed. It returns the next event held back, and
// whether something before it was; and ok false when there is none left and the
// sequence is whole again.
func (s *sequencer) Abandon() (ev broker.Event, gap, ok bool) {
	if len(s.pending) > 0 {
		gap = !s.follows(&s.pending[0])
		return s.shift(), gap, true
	}
	gap = s.target > s.pos
	s.pos = max(s.pos, s.target)
	return broker.Event{}, gap, false
}
