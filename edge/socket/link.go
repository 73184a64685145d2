package socket

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

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
	// own is what answers to the peer's messages cost that are on their way
	// here (see Owe) or queued. It is read and added to without mu.
	own      atomic.Int32
	out      *Queue // nil when nothing is queued
	deadline int64  // server clock: when closing is cut short
	why      error  // for Receiver.Closed
}

// Marks of own. Above the high mark nothing more is read from the peer, below
// the low one it goes on.
const (
	ownHigh = 64 << 10
	ownLow  = 32 << 10
)

// ownOverhead is what an answer counts beside its bytes, on its way too.
const ownOverhead = 128

func (l *link) init(s *Server, w wire, remote netip.AddrPort) {
	l.server, l.wire, l.remote = s, w, remote
	l.lastReceived.Store(s.clock())
}

// Remote implements Conn.
func (l *link) Remote() netip.AddrPort { return l.remote }

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
	l.own.Add(int32(bytes + frames*ownOverhead)) //nolint:gosec // at most what one message asks for above ownHigh
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
	bytes := len(frames) * ownOverhead
	for _, f := range frames {
		bytes += len(f)
	}
	l.own.Add(-int32(bytes)) //nolint:gosec // what Owe added
}

// Close implements Conn.
func (l *link) Close(code int, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeLocked(stateClosing, closeFrame(code, reason), &CloseError{Code: code, Reason: reason})
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
	l.own.Add(int32(l.out.own - own)) //nolint:gosec // as above
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

func (l *link) current() state {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// receive handles what the peer sent; nil continues with what was kept. If it
// returns a wait, the reading side must await it and then call receive again,
// before it reads on. data is free on return.
func (l *link) receive(data []byte) (wait func()) {
	var fresh inbound
	in := l.in
	if in == nil {
		in = &fresh
	}
	rest := in.join(data)
	consumed, whole := false, false
	controls := 0
	var pongs []byte
	for wait == nil {
		if wait = l.press(len(pongs)); wait != nil {
			break
		}
		m, n, err := in.parser.next(rest, l.server.cfg.MaxMessageBytes)
		rest = rest[n:]
		consumed = consumed || n > 0
		if err != nil || m.op == ws.OpClose {
			l.pong(pongs)
			l.peerDone(m, err)
			l.in = nil
			return nil
		}
		switch m.op {
		case ws.OpText, ws.OpBinary:
			whole = true
			wait = l.deliver(m)
			continue
		case ws.OpPing, ws.OpPong:
			if m.op == ws.OpPing {
				pongs = appendPong(pongs, m.payload)
			}
			if controls++; controls == controlRun {
				wait, controls = l.control(controls), 0
			}
			continue
		}
		break
	}
	if controls > 0 {
		wait = both(wait, l.control(controls))
	}
	l.pong(pongs)
	l.keep(in, rest, consumed, whole || wait != nil)
	return wait
}

// press is not nil when the peer asks faster than it takes the answers: then
// nothing more is read until most of them are gone. pongs are bytes of answers
// that are not queued yet.
func (l *link) press(pongs int) (wait func()) {
	if int(l.own.Load())+pongs <= ownHigh || l.current() != stateOpen {
		return nil
	}
	return l.awaitRelief
}

// awaitRelief waits until own is below the low mark or the connection ends.
func (l *link) awaitRelief() {
	l.mu.Lock()
	for l.state == stateOpen && l.own.Load() > ownLow {
		l.pressed = true
		relieved := l.server.pressed.enter(l)
		l.mu.Unlock()
		<-relieved
		l.mu.Lock()
	}
	l.mu.Unlock()
}

// relieveLocked ends awaitRelief when it is time.
func (l *link) relieveLocked() {
	if l.pressed && (l.state != stateOpen || l.own.Load() <= ownLow) {
		l.pressed = false
		l.server.pressed.leave(l)
	}
}

// pressed are the connections that wait in awaitRelief. They are few, and a
// channel in each link would be memory of all that are idle.
type pressed struct {
	mu    sync.Mutex
	links map[*link]chan struct{} // closed by leave
}

func (p *pressed) enter(l *link) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.links == nil {
		p.links = make(map[*link]chan struct{})
	}
	relieved := make(chan struct{})
	p.links[l] = relieved
	return relieved
}

func (p *pressed) leave(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.links[l])
	delete(p.links, l)
}

// await runs what receive returned. Meanwhile the peer is not read, so its
// silence and its unfinished message are no fault of its own.
func (l *link) await(wait func()) {
	l.setWaiting(true)
	wait()
	l.setWaiting(false)
}

func (l *link) setWaiting(waiting bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = waiting
	now := l.server.clock()
	l.lastReceived.Store(now)
	if l.partialSince.Load() != 0 {
		l.partialSince.Store(now)
	}
}

func (l *link) isWaiting() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting
}

// deliver hands a message to the receiver, unless the connection is closing.
func (l *link) deliver(m message) (wait func()) {
	if l.current() != stateOpen {
		return nil
	}
	if m.op == ws.OpText {
		return l.receiver.Message(m.payload)
	}
	if r, ok := l.receiver.(BinaryReceiver); ok {
		return r.Binary(len(m.payload))
	}
	return nil
}

// controlRun is how many pings and pongs are handled before the receiver is told
// of them.
const controlRun = 64

// both waits for one, then for the other; each may be nil.
func both(first, second func()) func() {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	return func() {
		first()
		second()
	}
}

// control tells the receiver of pings and pongs.
func (l *link) control(frames int) (wait func()) {
	if r, ok := l.receiver.(ControlReceiver); ok && l.current() == stateOpen {
		return r.Control(frames)
	}
	return nil
}

// pong sends the answers to all pings of one read with one write. frames is
// not touched any more.
func (l *link) pong(frames []byte) {
	if frames == nil {
		return
	}
	l.mu.Lock()
	if l.state == stateOpen {
		_ = l.queueLocked([][]byte{frames}, 0, true) // answers are never too many
		l.wire.flushLocked()
	}
	waits := l.out != nil
	l.mu.Unlock()
	if waits {
		l.server.cfg.Budget.Relieve()
	}
}

// sent ends a Send that left something in the queue, or gave up on the peer. It
// is called without the lock.
func (l *link) sent(err error) {
	if err == ErrSlow { //nolint:errorlint // made here, never wrapped
		l.note(limit.QueuedBytes)
	}
	l.server.cfg.Budget.Relieve()
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
		l.closeLocked(stateDeaf, closeFrame(e.Code, e.Reason), err)
	}
}

// keep stores the unparsed rest for the next receive. progress says that a
// whole message was found or is being waited for.
func (l *link) keep(in *inbound, rest []byte, consumed, progress bool) {
	in.keep(rest, consumed)
	if in.idle() {
		l.in = nil
		l.partialSince.Store(0)
		return
	}
	if l.in == nil {
		kept := *in
		l.in = &kept
	}
	if progress || l.partialSince.Load() == 0 {
		l.partialSince.Store(l.server.clock())
	}
}
