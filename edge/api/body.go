package api

import (
	"bytes"
	"io"
	"net/http"
	"sync"
)

// keepBuffer is the largest buffer that is kept for later requests, in bytes.
const keepBuffer = 64 << 10

// discardBytes bounds what is read of a body that is too large, so that the
// caller gets to read the answer.
const discardBytes = 16 << 20

// buffer holds one request body. Decoded values are copies, so that it can be
// used again.
type buffer struct{ bytes.Buffer }

type bufferPool struct{ pool sync.Pool }

var bodies = bufferPool{sync.Pool{New: func() any { return new(buffer) }}}

func (p *bufferPool) get() *buffer { return p.pool.Get().(*buffer) } // the pool holds nothing else

func (p *bufferPool) put(b *buffer) {
	if b.Cap() > keepBuffer {
		return
	}
	b.Reset()
	p.pool.Put(b)
}

// read reads a body of at most limit bytes, chunked or not, of any type.
func (b *buffer) read(r *http.Request, limit int) ([]byte, error) {
	if r.Body == nil || r.ContentLength == 0 {
		return nil, nil
	}
	refuse := func() error {
		// Closing while the caller still sends would reset the connection,
		// and the caller might never see why.
		_, _ = io.CopyN(io.Discard, r.Body, discardBytes)
		return tooLarge(limit)
	}
	if r.ContentLength > int64(limit) {
		return nil, refuse()
	}
	n, err := b.ReadFrom(io.LimitReader(r.Body, int64(limit)+1))
	switch {
	case err != nil:
		return nil, failf(http.StatusBadRequest, "The request body could not be read")
	case n > int64(limit):
		return nil, refuse()
	}
	return b.Bytes(), nil
}

func tooLarge(limit int) error {
	return failf(http.StatusRequestEntityTooLarge, "The request body exceeds the allowed maximum (%d bytes)", limit)
}
