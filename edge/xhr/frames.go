package xhr

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"reecho/edge/pusher"
	"reecho/edge/socket"
)

const (
	// cacheSlots and cachedBytes bound what is kept of encoded frames: of events as
	// they usually are, half a megabyte.
	cacheSlots  = 256
	cachedBytes = 16 << 10
)

// encodings keep the frames of late as these transports write them: an event is
// encoded once for all its subscribers, whose queues share its frame. It is safe for
// concurrent use.
type encodings struct {
	seed  maphash.Seed
	slots [cacheSlots]atomic.Pointer[encoding]
}

// encoding is a frame, which never changes and is kept so that no other gets its
// place, and its messages as JSON strings with commas between.
type encoding struct {
	frame, text []byte
}

// append adds the messages of a frame to an a frame (see pusher.AppendMessage).
func (e *encodings) append(list, frame []byte) []byte {
	if len(frame) == 0 || len(frame) > cachedBytes {
		return appendFrame(list, frame)
	}
	slot := &e.slots[maphash.Comparable(e.seed, &frame[0])%cacheSlots]
	known := slot.Load()
	if known == nil || &known.frame[0] != &frame[0] || len(known.frame) != len(frame) {
		known = &encoding{frame, appendFrame(make([]byte, 0, len(frame)+len(frame)/4+16), frame)}
		slot.Store(known)
	}
	if len(known.text) == 0 {
		return list
	}
	return append(pusher.AppendComma(list), known.text...)
}

// appendFrame is append without the encodings: a frame may be several joined.
func appendFrame(list, frame []byte) []byte {
	for message := range socket.Messages(frame) {
		list = pusher.AppendMessage(list, message)
	}
	return list
}

// units is how long text is in JavaScript, in UTF-16 code units.
func units(text []byte) (n int) {
	for _, c := range text {
		switch {
		case c >= 0xf0: // of four bytes: a surrogate pair
			n += 2
		case c < 0x80 || c >= 0xc0:
			n++
		}
	}
	return n
}

// buffers lends the room for what is written: who waits has none.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, 4<<10)
	return &b
}}
