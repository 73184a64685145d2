package socket

import (
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"reecho/edge/limit"
)

// link is what both transports share: the queue, the closing handshake and
// what is done with messages. The reading side, one goroutine at a time, calls
// receive and lost; in the end it calls close and Receiver.Closed.
type link struct {
	// Static once the receiver is set.
	server   *Server
	wire     wire
	receiver Receiver
	remote   netip.AddrPort

	// Server clock.
	lastReceived atomic.Int64
	partialSince atomic.Int64 // when the unfinished message began; 0: none

	// Owned by the reading side.
	in *inbound // nil when nothing is kept

	mu      sync.Mutex
	state   state
	waiting bool // the reading side runs a wait
	pressed bool // that wait is awaitRelief
	// deflated: permessage-deflate is negotiated. It is static, and here because
	// anywhere else it takes eight bytes.
	deflated bool
	// own is what answers to the peer's messages cost that are on their way
	// here (see Owe) or queued. It is read and added to without mu.
	own      atomic.Int32
	out      *Queue // nil when nothing is queued
	deadline int64  // server clock: when closing is cut short
	why      error  // for Receiver.Closed
}

// wire is what the two transports do differently. All methods are called with
// link.mu held and do not block.
type wire interface {
	// sendLocked writes frames of an open connection, or queues what cannot be
	// written at once. own says that they answer the peer's messages.
	sendLocked(frames [][]byte, own bool) error
	// flushLocked writes what is queued, or sees to it that it is written.
	// When nothing is queued any more it does what the state asks for: a deaf
	// connection tells the peer that nothing more will come, a finishing one is
	// hung up.
	flushLocked()
	// takenLocked is what the peer's kernel has taken, as far as is known.
	takenLocked() taken
	// bearLocked makes the kernel wait that long for a peer that takes nothing.
	bearLocked(patience time.Duration)
	// shutLocked ends the socket so that the reading side notices. With reset,
	// the peer and the kernel's buffers get no more chance.
	shutLocked(reset bool)
}

func (l *link) init(s *Server, w wire, u *upgrade) {
	l.server, l.wire, l.remote, l.deflated = s, w, u.request.Remote, u.deflated
	l.lastReceived.Store(s.clock())
}

// Remote implements Conn.
func (l *link) Remote() netip.AddrPort { return l.remote }

// Deflated implements Deflated.
func (l *link) Deflated() bool { return l.deflated }

// Queued implements Conn.
func (l *link) Queued() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out == nil {
		return 0
	}
	return l.out.Cost()
}

// Drained implements Conn.
func (l *link) Drained() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out == nil {
		return alreadyDrained
	}
	return l.out.Drained()
}

// Owe implements Conn.
func (l *link) Owe(frames, bytes int) {
	l.own.Add(int32(bytes + frames*OwnOverhead)) // at most what one message asks for above OwnHigh
}

// Send implements Conn.
func (l *link) Send(frames [][]byte) error { return l.send(frames, false) }

// Answer implements Conn.
func (l *link) Answer(frames [][]byte) error { return l.send(frames, true) }

// Ping implements Conn.
func (l *link) Ping() { _ = l.send(pingFrames, false) }

func (l *link) send(frames [][]byte, own bool) error {
	l.mu.Lock()
	if own {
		l.settleLocked(frames)
	}
	err := ErrClosed
	if l.state == stateOpen {
		err = l.wire.sendLocked(frames, own)
	}
	if own {
		l.relieveLocked()
	}
	waits := l.out != nil
	l.mu.Unlock()
	if waits {
		l.sent(err)
	}
	return err
}

// settleLocked takes answers that were owed off what is on its way.
func (l *link) settleLocked(frames [][]byte) {
	bytes := len(frames) * OwnOverhead
	for _, f := range frames {
		bytes += len(f)
	}
	l.own.Add(-int32(bytes))
}

// Tick implements Conn.
func (l *link) Tick(now time.Time) time.Duration {
	at := int64(now.Sub(l.server.epoch))
	l.mu.Lock()
	var reason limit.Reason
	queued := l.out != nil
	switch {
	case l.state == stateOpen:
		reason = l.tickOpenLocked(at)
	case l.state < stateHungUp && at > l.deadline:
		l.hangUpLocked(nil, true)
	}
	l.mu.Unlock()
	if queued {
		l.note(reason)
		l.server.cfg.Budget.Relieve()
	}
	return time.Duration(max(0, at-l.lastReceived.Load()))
}

// tickOpenLocked returns the limit for which it gave up on the peer, if it did.
func (l *link) tickOpenLocked(now int64) limit.Reason {
	if l.waiting {
		l.lastReceived.Store(now) // it is we who do not read
	}
	if l.out != nil {
		if reason := l.tickQueueLocked(now); reason != "" {
			return reason
		}
	}
	since := l.partialSince.Load()
	if !l.waiting && since != 0 && now-since > int64(l.server.cfg.MessageTimeout) {
		l.violatedLocked(&CloseError{Code: codePolicy, Reason: "message took too long"})
	}
	return ""
}

func (l *link) tickQueueLocked(now int64) limit.Reason {
	idle := l.out.tick(time.Duration(now), l.wire.takenLocked())
	cfg := &l.server.cfg
	patience := l.out.patience(cfg.WriteTimeout)
	// Our pings wait behind what it has not taken, so silence says nothing. In
	// a crowd they also wait in what lies between, when the queue is empty.
	l.lastReceived.Store(now + int64(patience-cfg.WriteTimeout))
	if patience > cfg.WriteTimeout || idle > cfg.WriteTimeout {
		l.wire.bearLocked(patience)
	}
	switch {
	case idle > patience:
		l.slowLocked(limit.WriteTimeout)
		// The peer has had its time. If the close frame does not fit into the
		// kernel's buffer either, there is nobody to wait for.
		if l.out != nil {
			l.hangUpLocked(nil, true)
		}
		return limit.WriteTimeout
	case l.out.Alone() > cfg.MaxQueuedBytes: // others may have let go
		l.slowLocked(limit.QueuedBytes)
		return limit.QueuedBytes
	}
	return ""
}

// Shed implements Shedder.
func (l *link) Shed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != stateOpen || l.out == nil {
		return false
	}
	l.slowLocked(limit.QueueMemory)
	return true
}

// note counts a limit that the peer ran into, "" for none. It may log, so it is
// called without the lock.
func (l *link) note(reason limit.Reason) {
	if reason != "" {
		l.server.cfg.Ledger.Note(reason, slog.String("remote", l.remote.String()))
	}
}

// queueLocked queues frames, of which the first skip bytes are written. own
// says that they answer the peer's messages: those are never too many.
func (l *link) queueLocked(frames [][]byte, skip int, own bool) error {
	fresh := l.out == nil
	l.openQueueLocked()
	now, before := time.Duration(l.server.clock()), l.out.own
	for _, f := range frames {
		if skip >= len(f) {
			skip -= len(f)
			continue
		}
		l.out.Push(now, f, skip, own)
		skip = 0
	}
	l.queueChangedLocked(before)
	if !fresh && !own && l.out.Alone() > l.server.cfg.MaxQueuedBytes {
		l.slowLocked(limit.QueuedBytes)
		return ErrSlow
	}
	return nil
}

func (l *link) openQueueLocked() {
	if l.out == nil {
		l.out = &Queue{}
		l.out.Init(l.server.cfg.Budget, l)
	}
}

// queueChangedLocked follows what was put into the queue or taken out of it;
// own is how much of it were answers before.
func (l *link) queueChangedLocked(own int) {
	l.own.Add(int32(l.out.own - own))
	if l.out.Empty() {
		l.out = nil
	}
	l.relieveLocked()
}

// advanceLocked takes n written bytes off the queue.
func (l *link) advanceLocked(n int) {
	own := l.out.own
	l.out.Advance(n)
	l.queueChangedLocked(own)
}

// clearLocked forgets the queue, of a connection that writes no more.
func (l *link) clearLocked() {
	if l.out != nil {
		own := l.out.own
		l.out.Clear()
		l.queueChangedLocked(own)
	}
	l.relieveLocked()
}

// sent ends a Send that left something in the queue, or gave up on the peer. It
// is called without the lock.
func (l *link) sent(err error) {
	if err == ErrSlow { //nolint:errorlint // made here, never wrapped
		l.note(limit.QueuedBytes)
	}
	l.server.cfg.Budget.Relieve()
}
