package edge

import (
	"bytes"
	"sync"

	"reecho/edge/pusher"
)

// backlogBytes is how much of a client's messages may wait for a replay. It holds
// the subscriptions of a page of many channels; when it is full the connection is
// not read until the replay is over.
const backlogBytes = 64 << 10

// backlog is what a client with a session has asked for while the server is still at
// work for it. Its pongs do not wait: they say how much of a long replay has arrived.
// The zero value is ready.
type backlog struct {
	mu       sync.Mutex
	idle     chan struct{} // closed when the work is over; nil while there is none
	messages []pusher.Message
	bytes    int
	closed   func() // what is to be done when the work is over, and the connection gone
}

// run does work on a goroutine of its own, and then what came meanwhile. Whoever
// waits for the client to be gone waits for that, too: see end.
func (b *backlog) run(work func(), handle func(pusher.Message) (wait func())) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.idle = make(chan struct{})
	go func() {
		work()
		for m, ok := b.next(); ok; m, ok = b.next() {
			if wait := handle(m); wait != nil {
				wait()
			}
		}
	}()
}

// next is the message that has waited for longest. There is none when the connection
// is gone, or all are handled: then the work is over.
func (b *backlog) next() (m pusher.Message, ok bool) {
	b.mu.Lock()
	if len(b.messages) > 0 && b.closed == nil {
		defer b.mu.Unlock()
		m, b.messages = b.messages[0], b.messages[1:]
		b.bytes -= sizeOf(m)
		return m, true
	}
	closed := b.closed
	close(b.idle)
	b.idle, b.messages, b.bytes = nil, nil, 0
	b.mu.Unlock()
	if closed != nil {
		closed()
	}
	return m, false
}

// keep takes a message if there is work; full is not nil if it has no room, and to
// be waited for.
func (b *backlog) keep(m pusher.Message) (kept bool, full <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.idle == nil:
		return false, nil
	case b.bytes+sizeOf(m) > backlogBytes:
		return false, b.idle
	}
	b.messages = append(b.messages, own(m))
	b.bytes += sizeOf(m)
	return true, nil
}

// end calls f when there is no work any more.
func (b *backlog) end(f func()) {
	b.mu.Lock()
	if b.idle != nil {
		defer b.mu.Unlock()
		b.closed = f
		return
	}
	b.mu.Unlock()
	f()
}

// own is a message that may be kept.
func own(m pusher.Message) pusher.Message {
	m.Data = bytes.Clone(m.Data)
	return m
}

func sizeOf(m pusher.Message) int { return len(m.Event) + len(m.Channel) + len(m.Data) }
