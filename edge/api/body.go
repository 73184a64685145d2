package api

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"reecho/edge/limit"
)

const (
	// firstBuffer is what a body gets at first, in bytes; it doubles as the body
	// comes.
	firstBuffer = 4 << 10
	// keepBuffer is the largest buffer that is kept for later requests, in bytes.
	// Bodies up to it are small.
	keepBuffer = 64 << 10
	// discardBytes and discardTime bound what is read of a body that was
	// refused, so that the caller gets to read why.
	discardBytes = 4 << 20
	discardTime  = 2 * time.Second
)

// memory bounds the bytes of all bodies under way. It counts what has come and
// not what was announced, which costs a caller nothing. Large bodies leave a
// quarter to small ones, so that senders of large ones that never end do not stop
// everybody's publishes. It is safe for concurrent use.
type memory struct {
	limit  int64
	ledger *limit.Ledger
	used   atomic.Int64
}

// take counts n more bytes of a body that has size bytes with them, unless there
// is no room.
func (m *memory) take(n, size int) error {
	bound := m.limit
	if size > keepBuffer {
		bound -= bound / 4
	}
	if m.used.Add(int64(n)) <= bound {
		return nil
	}
	m.used.Add(-int64(n))
	m.ledger.Note(limit.RequestMemory)
	return failf(http.StatusServiceUnavailable,
		"The bodies of all requests under way reached the limit of %d bytes (request_memory), try again", m.limit)
}

// largest is the largest body that there can ever be room for, in bytes.
func (m *memory) largest() int {
	return int(max(m.limit-m.limit/4, min(m.limit, keepBuffer)) - 1)
}

func (m *memory) give(n int) { m.used.Add(-int64(n)) }

// buffer holds one request body. Decoded values are copies, so that it can be
// used again.
type buffer struct {
	bytes  []byte // what is used of it now
	memory *memory
	taken  int  // bytes counted in memory
	whole  bool // nothing of the body is left
}

type bufferPool struct{ pool sync.Pool }

var bodies = bufferPool{sync.Pool{New: func() any { return new(buffer) }}}

func (p *bufferPool) get(m *memory) *buffer {
	b := p.pool.Get().(*buffer) // the pool holds nothing else
	b.memory, b.whole = m, false
	return b
}

func (p *bufferPool) put(b *buffer) {
	b.release()
	if cap(b.bytes) <= keepBuffer {
		p.pool.Put(b)
	}
}

// release gives back what was counted; the body is not used any more.
func (b *buffer) release() {
	b.memory.give(b.taken)
	if b.taken = 0; cap(b.bytes) > keepBuffer {
		b.bytes = nil
	}
}

// read reads a body of at most limit bytes, chunked or not, of any type. What
// there will never be memory for is too large, and not a matter of trying again.
func (b *buffer) read(r *http.Request, limit int) ([]byte, error) {
	if r.Body == nil || r.ContentLength == 0 {
		b.whole = true
		return nil, nil
	}
	setting := "request_bytes"
	if most := b.memory.largest(); most < limit {
		limit, setting = most, "request_memory"
	}
	if r.ContentLength > int64(limit) {
		return nil, tooLarge(limit, setting)
	}
	b.bytes = b.bytes[:0]
	for {
		if err := b.makeRoom(limit); err != nil {
			return nil, err
		}
		n, err := r.Body.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		switch {
		case len(b.bytes) > limit:
			return nil, tooLarge(limit, setting)
		case errors.Is(err, io.EOF):
			b.whole = true
			return b.bytes, nil
		case err != nil:
			return nil, failf(http.StatusBadRequest, "The request body could not be read: it ended early or came too slowly")
		}
	}
}

// makeRoom makes room for at least one more byte, and counts it.
func (b *buffer) makeRoom(limit int) error {
	size := cap(b.bytes)
	if len(b.bytes) == size {
		// One above the limit shows that it is exceeded.
		size = max(firstBuffer, min(2*size, limit+1))
	}
	if size > b.taken {
		if err := b.memory.take(size-b.taken, size); err != nil {
			return err
		}
		b.taken = size
	}
	if size > cap(b.bytes) {
		grown := make([]byte, len(b.bytes), size)
		copy(grown, b.bytes)
		b.bytes = grown
	}
	return nil
}

func tooLarge(limit int, setting string) error {
	return failf(http.StatusRequestEntityTooLarge, "The request body exceeds the allowed maximum (%d bytes, %s)", limit, setting)
}

// closing makes a refusal go out before the body has come: net/http would wait
// for the body first, as long as the caller likes. The connection is closed
// then. finish, after the answer, reads on for a moment: closing while the caller
// still sends would reset the connection, and it might never see why.
func closing(w http.ResponseWriter, r *http.Request) (finish func()) {
	control := http.NewResponseController(w)
	w.Header().Set("Connection", "close")
	if r.Header.Get("Expect") != "" || control.EnableFullDuplex() != nil {
		// Who waits for 100 Continue sends nothing now.
		return func() {}
	}
	return func() {
		if control.Flush() != nil || control.SetReadDeadline(time.Now().Add(discardTime)) != nil {
			return
		}
		_, _ = io.CopyN(io.Discard, r.Body, discardBytes) // it need not come
	}
}
