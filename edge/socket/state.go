package socket

import (
	"encoding/binary"
	"fmt"
	"time"

	"reecho/edge/limit"
)

// state is how far a connection is on its way to the end. It only grows.
type state uint8

const (
	stateOpen      state = iota
	stateClosing         // our close frame is sent or queued; the peer's is awaited
	stateDeaf            // the same after a violation: what arrives is not understood any more
	stateFinishing       // both sides said close; what is queued is still written
	stateHungUp          // the socket is shut down; the reading side ends it
	stateClosed          // the socket is closed, Closed is or will be called
)

func (l *link) current() state {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Close implements Conn.
func (l *link) Close(code int, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeLocked(stateClosing, closeFrame(code, reason), &CloseError{Code: code, Reason: reason})
}

// closeLocked starts closing an open connection: frame goes out behind what is
// queued.
func (l *link) closeLocked(next state, frame []byte, why error) {
	if l.state != stateOpen {
		return
	}
	now := l.server.clock()
	l.state, l.why = next, why
	l.deadline = now + int64(l.server.cfg.WriteTimeout)
	l.openQueueLocked()
	l.out.Push(time.Duration(now), frame, 0, false)
	l.out.Seal()
	l.relieveLocked()
	l.wire.flushLocked()
}

// slowLocked gives up on a peer that does not read. What waits is dropped, so
// the memory is free at once; the peer has WriteTimeout to see the 4100.
func (l *link) slowLocked(reason limit.Reason) {
	if l.out != nil {
		own := l.out.own
		l.out.Drop()
		l.queueChangedLocked(own)
	}
	l.closeLocked(stateClosing, closeFrame(codeOverCapacity, l.server.slowReason(reason)), ErrSlow)
}

// slowReason says to the peer which limit it ran into.
func (s *Server) slowReason(reason limit.Reason) string {
	const over = "Over capacity: reading too slowly, "
	switch reason {
	case limit.WriteTimeout:
		return over + fmt.Sprintf("nothing for %s (%s)", s.cfg.WriteTimeout, reason)
	case limit.QueuedBytes:
		return over + fmt.Sprintf("more than %d bytes wait (%s)", s.cfg.MaxQueuedBytes, reason)
	default:
		return over + fmt.Sprintf("more than %d bytes wait for all (%s)", s.cfg.Budget.Limit(), reason)
	}
}

// peerDone handles the peer's close frame, or what it must not send.
func (l *link) peerDone(m message, violated error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if violated != nil {
		l.violatedLocked(violated)
		return
	}
	code, reason := codeNoStatus, ""
	if len(m.payload) > 0 {
		code, reason = int(binary.BigEndian.Uint16(m.payload)), string(m.payload[2:])
	}
	if l.state == stateOpen {
		l.closeLocked(stateFinishing, closeFrame(code, ""), &CloseError{Code: code, Reason: reason, Peer: true})
		return
	}
	if l.state == stateClosing {
		l.state = stateFinishing
		l.wire.flushLocked()
	}
}

func (l *link) violatedLocked(err error) {
	if l.state == stateClosing {
		l.state = stateDeaf
		l.wire.flushLocked()
		return
	}
	if e, ok := err.(*CloseError); ok { //nolint:errorlint // made by the parser, never wrapped
		if e.Code == codeTooBig {
			l.server.cfg.Ledger.Count(limit.MessageSize)
		}
		l.closeLocked(stateDeaf, closeFrame(e.Code, e.Reason), err)
	}
}

// hangUpLocked ends the socket. why counts when no other reason came before.
func (l *link) hangUpLocked(why error, reset bool) {
	if l.state >= stateHungUp {
		return
	}
	l.state = stateHungUp
	l.clearLocked()
	if l.why == nil {
		l.why = why
	}
	l.wire.shutLocked(reset)
}

// abort cuts the connection.
func (l *link) abort(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hangUpLocked(why, true)
}

// lost records that the socket failed or ended.
func (l *link) lost(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hangUpLocked(why, false)
}

// hungUp tells a receiver whose wait runs that nobody waits for it any more.
func (l *link) hungUp() {
	if r, ok := l.receiver.(HangupReceiver); ok {
		r.HungUp()
	}
}
