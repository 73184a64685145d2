// Package replay keeps a node's view of a channel whole: every stored event
// once and in stream order, whatever the live path drops, doubles or delays
// (DESIGN §5). It knows positions and channels; it knows no client.
package replay

import (
	"slices"

	"reecho/broker"
)

// maxPending bounds the events a Log holds back while a hole before them is
// read from the stream. Beyond it an event is dropped and read again: pending
// events only save reads, they are never the only copy.
const maxPending = 256

// Log is the position of one node in one channel: all events up to pos were
// delivered. It is pure (no I/O, no locks, no clock), so that its rules can be
// tested exhaustively. The zero value waits for Attach.
type Log struct {
	attached bool
	// pos is the sequence of the newest event delivered.
	pos uint64
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
func (l *Log) Attach(last uint64) {
	l.attached = true
	l.pos = last
	l.dropDelivered()
}

// Live takes an event from the live path and reports whether it is the next
// one, to be delivered now; then Next may have more. An event that is not next
// is old and forgotten, or early and held back.
func (l *Log) Live(ev *broker.Event) bool {
	if ev.Sequence <= l.pos {
		return false
	}
	if l.follows(ev) {
		l.pos = ev.Sequence
		return true
	}
	l.hold(ev)
	return false
}

// hold keeps an early event in order, once.
func (l *Log) hold(ev *broker.Event) {
	l.target = max(l.target, ev.Sequence)
	at, found := slices.BinarySearchFunc(l.pending, ev.Sequence, func(e broker.Event, s uint64) int {
		switch {
		case e.Sequence < s:
			return -1
		case e.Sequence > s:
			return 1
		}
		return 0
	})
	if found || len(l.pending) >= maxPending {
		return
	}
	l.pending = slices.Insert(l.pending, at, *ev)
}

// Next returns the next pending event if its predecessor has been delivered.
func (l *Log) Next() (broker.Event, bool) {
	if len(l.pending) == 0 || !l.follows(&l.pending[0]) {
		return broker.Event{}, false
	}
	return l.shift(), true
}

// follows reports whether nothing that is still stored was between what was
// delivered and ev.
func (l *Log) follows(ev *broker.Event) bool { return l.attached && ev.Previous == l.pos }

// Opens reports whether ev would be the first that is delivered, and has no
// predecessor: it is the first ever, or those before it are gone.
func (l *Log) Opens(ev *broker.Event) bool { return l.attached && l.pos == 0 && ev.Previous == 0 }

func (l *Log) shift() broker.Event {
	ev := l.pending[0]
	l.pos = ev.Sequence
	l.pending[0] = broker.Event{}
	l.pending = l.pending[1:]
	if len(l.pending) == 0 {
		l.pending = nil
	}
	return ev
}

// Begins reports whether the event of this sequence is held back and was the
// only one of its channel when it was stored: what was before it, if anything,
// was not trimmed by count.
func (l *Log) Begins(sequence uint64) bool {
	return len(l.pending) > 0 && l.pending[0].Sequence == sequence && l.pending[0].Previous == 0
}

// Nudge says that something up to sequence is stored.
func (l *Log) Nudge(sequence uint64) { l.target = max(l.target, sequence) }

// Missing reports whether stored events above Position have to be read.
func (l *Log) Missing() bool { return l.attached && l.target > l.pos }

// Position is the sequence of the newest event delivered.
func (l *Log) Position() uint64 { return l.pos }

// Stored takes one event of a read that started at Position()+1 or before and
// went on in stream order. It reports whether the event is to be delivered.
// Where the stream holds nothing between two events nothing was kept there,
// so the predecessor is not asked for. After the last event of a read call
// Next until it returns false.
func (l *Log) Stored(ev *broker.Event) bool {
	if ev.Sequence <= l.pos {
		return false
	}
	l.pos = ev.Sequence
	l.dropDelivered()
	return true
}

// dropDelivered forgets pending events that were delivered from a read.
func (l *Log) dropDelivered() {
	for len(l.pending) > 0 && l.pending[0].Sequence <= l.pos {
		l.pending = l.pending[1:]
	}
	if len(l.pending) == 0 {
		l.pending = nil
	}
}

// Abandon is called with proof that the stream retains nothing above
// Position: what was missing was trimmed. It returns the next event held back,
// and false when there is none left and the log is whole again.
func (l *Log) Abandon() (broker.Event, bool) {
	if len(l.pending) > 0 {
		return l.shift(), true
	}
	l.pos = max(l.pos, l.target)
	return broker.Event{}, false
}
