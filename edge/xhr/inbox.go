package xhr

import "sync"

// messageOverhead is what a message in an inbox costs beside its bytes.
const messageOverhead = 64

// inbox holds what a client sent until it is handled, by a goroutine that there is
// only while something is in it. The zero value is ready.
type inbox struct {
	mu       sync.Mutex
	messages [][]byte
	bytes    int
	room     chan struct{} // closed when there is room again; nil: nobody waits
	idle     chan struct{} // closed when all is handled; nil: it is
}

// put takes messages, all or none. full is not nil if there is no room for them, and
// closed when there may be. first says that nobody handles what is in it: the caller
// sees to it.
func (b *inbox) put(messages [][]byte, most int) (full <-chan struct{}, first bool) {
	size := len(messages) * messageOverhead
	for _, m := range messages {
		size += len(m)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes > 0 && b.bytes+size > most {
		if b.room == nil {
			b.room = make(chan struct{})
		}
		return b.room, false
	}
	b.messages = append(b.messages, messages...)
	b.bytes += size
	if first = b.idle == nil; first {
		b.idle = make(chan struct{})
	}
	return nil, first
}

// next is the message that has waited for longest. If there is none its caller, who
// handles them, is done.
func (b *inbox) next() (m []byte, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
	if len(b.messages) == 0 {
		close(b.idle)
		b.idle, b.messages, b.bytes = nil, nil, 0
		return nil, false
	}
	m, b.messages[0] = b.messages[0], nil
	b.messages = b.messages[1:]
	b.bytes -= len(m) + messageOverhead
	return m, true
}

// await waits until all is handled.
func (b *inbox) await() {
	b.mu.Lock()
	idle := b.idle
	b.mu.Unlock()
	if idle != nil {
		<-idle
	}
}
