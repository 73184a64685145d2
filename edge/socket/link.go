package socket

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
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
	// flushLocked writes what is queued, or sees to it that it is written.
	// When nothing is queued any more it does what the state asks for: a deaf
	// connection tells the peer that nothing more will come, a finishing one is
	// hung up.
	flushLocked()
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

	mu       sync.Mutex
	state    state
	out      *outbox // nil when nothing is queued
	deadline int64   // server clock: when closing is cut short
	why      error   // for Receiver.Closed
}

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
	return l.out.cost
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
	switch {
	case l.state == stateOpen:
		l.tickOpenLocked(at)
	case l.state < stateHungUp && at > l.deadline:
		l.hangUpLocked(nil, true)
	}
	l.mu.Unlock()
	return time.Duration(max(0, at-l.lastReceived.Load()))
}

func (l *link) tickOpenLocked(now int64) {
	if l.out != nil && now-l.out.oldest() > int64(l.server.cfg.WriteTimeout) {
		l.slowLocked()
		// The peer has had its time. If the close frame does not fit into the
		// kernel's buffer either, there is nobody to wait for.
		if l.out != nil {
			l.hangUpLocked(nil, true)
		}
		return
	}
	since := l.partialSince.Load()
	if since != 0 && now-since > int64(l.server.cfg.MessageTimeout) {
		l.violatedLocked(&CloseError{Code: codePolicy, Reason: "message took too long"})
	}
}

// queueLocked queues frames, of which the first skip bytes are written.
func (l *link) queueLocked(frames [][]byte, skip int) error {
	cost := 0
	for _, f := range frames {
		cost += frameCost(f)
	}
	if l.out == nil {
		l.out = &outbox{}
	} else if l.out.cost+cost > l.server.cfg.MaxQueuedBytes {
		l.slowLocked()
		return ErrSlow
	}
	now := l.server.clock()
	for _, f := range frames {
		if skip >= len(f) {
			skip -= len(f)
			continue
		}
		l.out.push(f, skip, now)
		skip = 0
	}
	if l.out.empty() { // nothing but empty frames
		l.out = nil
	}
	return nil
}

// slowLocked gives up on a peer that does not read. What waits is dropped, so
// the memory is free at once; the peer has WriteTimeout to see the 4100.
func (l *link) slowLocked() {
	if l.out != nil {
		l.out.drop()
		if l.out.empty() {
			l.out = nil
		}
	}
	l.closeLocked(stateClosing, closeFrame(codeOverCapacity, "Over capacity: reading too slowly"), ErrSlow)
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
	if l.out == nil {
		l.out = &outbox{}
	}
	l.out.push(frame, 0, now)
	l.wire.flushLocked()
}

// hangUpLocked ends the socket. why counts when no other reason came before.
func (l *link) hangUpLocked(why error, reset bool) {
	if l.state >= stateHungUp {
		return
	}
	l.state = stateHungUp
	l.out = nil
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

func (l *link) current() state {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// receive handles what the peer sent; nil continues with what was kept. If it
// returns a wait, the reading side must run it and then call receive again,
// before it reads on. data is free on return.
func (l *link) receive(data []byte) (wait func()) {
	var fresh inbound
	in := l.in
	if in == nil {
		in = &fresh
	}
	rest := in.join(data)
	consumed, whole := false, false
	var pongs []byte
	for wait == nil {
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
		case ws.OpPing:
			pongs = appendPong(pongs, m.payload)
			continue
		case ws.OpPong:
			continue
		}
		break
	}
	l.pong(pongs)
	l.keep(in, rest, consumed, whole || wait != nil)
	return wait
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

// pong sends the answers to all pings of one read with one write. frames is
// not touched any more.
func (l *link) pong(frames []byte) {
	if frames == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != stateOpen {
		return
	}
	if l.queueLocked([][]byte{frames}, 0) == nil {
		l.wire.flushLocked()
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
