package socket

import (
	"slices"

	"github.com/gobwas/ws"
)

// inbound is what a connection keeps while a frame or message is incomplete.
type inbound struct {
	parser parser
	raw    []byte // the beginning of a frame; while reading is paused whole ones, too
}

// idle reports whether nothing needs to be kept.
func (in *inbound) idle() bool { return len(in.raw) == 0 && in.parser.op == 0 }

// join returns what to parse when data has arrived: data itself when nothing
// was kept.
func (in *inbound) join(data []byte) []byte {
	if len(in.raw) == 0 {
		return data
	}
	in.raw = append(in.raw, data...)
	return in.raw
}

// keep stores rest, the unparsed end of what join returned before. consumed
// says whether something was taken off its beginning.
func (in *inbound) keep(rest []byte, consumed bool) {
	switch {
	case len(rest) == 0:
		in.raw = nil
	case len(in.raw) == 0:
		in.raw = slices.Clone(rest)
	case consumed:
		in.raw = in.raw[:copy(in.raw, rest)]
	}
}

// receive handles what the peer sent; nil continues with what was kept. If it
// returns a wait, the reading side must await it and then call receive again,
// before it reads on. data is free on return.
func (l *link) receive(data []byte) (wait func()) {
	var fresh inbound
	in := l.in
	if in == nil {
		in = &fresh
		in.parser.deflated = l.deflated
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
		if err == nil && m.isData() {
			whole = true
			wait, err = l.deliver(m)
		}
		if err != nil || m.op == ws.OpClose {
			l.pong(pongs)
			l.peerDone(m, err)
			l.in = nil
			return nil
		}
		switch m.op {
		case ws.OpText, ws.OpBinary:
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

// deliver hands a message to the receiver, unless the connection is closing. An
// error is a *CloseError for the peer.
func (l *link) deliver(m message) (wait func(), err error) {
	switch {
	case l.current() != stateOpen:
		return nil, nil
	case m.packed:
		return l.deliverPacked(m)
	}
	return l.hand(m), nil
}

// hand gives a message to the receiver.
func (l *link) hand(m message) (wait func()) {
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

// control tells the receiver of pings and pongs.
func (l *link) control(frames int) (wait func()) {
	if r, ok := l.receiver.(ControlReceiver); ok && l.current() == stateOpen {
		return r.Control(frames)
	}
	return nil
}

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
