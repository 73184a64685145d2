package api

import (
	"errors"
	"io"
	"math/bits"
	"net/http"
	"sync"
	"time"

	"reecho/edge/limit"
)

const (
	// firstBuffer is what a body gets at first, in bytes; it doubles as the body
	// comes.
	firstBuffer = 4 << 10
	// keepBuffer is the largest buffer that is kept for later requests, in bytes.
	// Bodies up to it are small.
	keepBuffer = firstBuffer << (blockClasses - 1)
	// discardBytes and discardTime bound what is read of a body that was
	// refused, so that the caller gets to read why.
	discardBytes = 4 << 20
	discardTime  = 2 * time.Second
)

// buffer holds one request body. Decoded values are copies, so that it can be
// used again.
type buffer struct {
	bytes  []byte // what is used of it now
	block  *block // what bytes is a part of, if it is kept for later
	memory *memory
	writer http.ResponseWriter // of the request, to cut its reading short; may be nil
	whole  bool                // nothing of the body is left

	share
}

var bodies = sync.Pool{New: func() any { return new(buffer) }}

// newBuffer returns an empty buffer, which the caller puts back.
func newBuffer(m *memory, w http.ResponseWriter) *buffer {
	b := bodies.Get().(*buffer) // the pool holds nothing else
	b.memory, b.writer, b.whole = m, w, false
	return b
}

// putBack ends the use of a buffer. In the pool it must not keep the request
// alive that it was for.
func (b *buffer) putBack() {
	b.release()
	b.memory, b.writer = nil, nil
	bodies.Put(b)
}

// release gives back what was counted; the body is not used any more.
func (b *buffer) release() {
	b.memory.give(b)
	b.drop()
}

func (b *buffer) drop() {
	if b.block != nil {
		b.block.put()
	}
	b.block, b.bytes = nil, nil
}

// interrupt ends the reading of the body, wherever it waits: a deadline that is
// long over fails the read that is under way.
func (b *buffer) interrupt() {
	if b.writer != nil {
		_ = http.NewResponseController(b.writer).SetReadDeadline(time.Unix(1, 0)) // else its time ends later
	}
}

// read reads a body of at most so many bytes, chunked or not, of any type. What
// there will never be memory for is too large, and not a matter of trying again.
func (b *buffer) read(r *http.Request, most int) ([]byte, error) {
	if r.Body == nil || r.ContentLength == 0 {
		b.whole = true
		return nil, nil
	}
	setting := limit.RequestSize
	if largest := b.memory.largest(); largest < most {
		most, setting = largest, limit.RequestMemory
	}
	if r.ContentLength > int64(most) {
		return nil, tooLarge(most, setting)
	}
	for {
		if err := b.makeRoom(most); err != nil {
			return nil, err
		}
		n, err := r.Body.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		if err != nil && !b.memory.finish(b) {
			return nil, b.memory.full()
		}
		switch {
		case len(b.bytes) > most: // a chunked body announces no length
			return nil, tooLarge(most, setting)
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
	if len(b.bytes) < size {
		return nil
	}
	// One above the limit shows that it is exceeded.
	size = max(firstBuffer, min(2*size, limit+1))
	if err := b.memory.take(b, size); err != nil {
		return err
	}
	grown, kept := newBlock(size)
	used := append(grown, b.bytes...)
	b.drop()
	b.bytes, b.block = used, kept
	return nil
}

// block is memory for bodies that is kept for later ones, by its size: what is
// counted for a body is what it has.
type block struct {
	bytes []byte
	class int
}

// blocks hold blocks of firstBuffer bytes, of twice as many, and so on.
var blocks [blockClasses]sync.Pool

const blockClasses = 5

// newBlock returns an empty slice of size bytes' capacity, and its block if it
// is of a size that is kept. Any other is that of a body next to its limit, or of
// a large one, which is rare.
func newBlock(size int) ([]byte, *block) {
	class := bits.Len(uint(size/firstBuffer)) - 1
	if class >= blockClasses || size != firstBuffer<<class {
		return make([]byte, 0, size), nil
	}
	if b, ok := blocks[class].Get().(*block); ok {
		return b.bytes, b
	}
	b := &block{bytes: make([]byte, 0, size), class: class}
	return b.bytes, b
}

func (b *block) put() { blocks[b.class].Put(b) }

func tooLarge(most int, setting limit.Reason) error {
	return failf(http.StatusRequestEntityTooLarge, "The request body exceeds the allowed maximum (%d bytes, %s)", most, setting).of(setting)
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
