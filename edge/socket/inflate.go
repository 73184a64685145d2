package socket

import (
	"errors"
	"io"
	"sync"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/klauspost/compress/flate"
)

// maxStreams bounds the streams that one message is made of: each block with BFINAL
// ends one (RFC 7692 §7.2.3.4), and to begin one costs more than its two bytes.
const maxStreams = maxFragments

// inflateRead is how much is inflated at first.
const inflateRead = 4 << 10

// inflateEnd is what is put behind the data of a message: what its sender has left
// out (RFC 7692 §7.2.2), and an empty last block, at which the reader ends.
var inflateEnd = []byte{0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff}

// inflater makes the message of its compressed data.
type inflater struct {
	in     source
	reader io.ReadCloser
	out    []byte
}

// inflaters are lent for a message, so that a connection that is idle has none: one
// has about 36 KB.
var inflaters = sync.Pool{New: func() any { return &inflater{reader: flate.NewReader(nil)} }}

func (f *inflater) release() {
	f.in = source{}
	if cap(f.out) > keepBytes {
		f.out = nil
	}
	inflaters.Put(f)
}

// inflate returns what data is compressed of, which is valid until the next call. It
// never holds more than limit bytes of it, and one. An error is a *CloseError for the
// peer.
func (f *inflater) inflate(data []byte, limit int) ([]byte, error) {
	f.in = source{data, inflateEnd}
	f.out = f.out[:0]
	if len(data) == 0 {
		return nil, nil // should be one byte, but those that use zlib take it, so it is sent
	}
	for range maxStreams {
		if err := f.reader.(flate.Resetter).Reset(&f.in, nil); err != nil { //nolint:forcetypeassert // NewReader says so
			return nil, badData(err)
		}
		if err := f.stream(limit); err != nil {
			return nil, err
		}
		if f.in.empty() {
			return f.out, nil
		}
	}
	return nil, violation(codePolicy, "compressed message has too many final blocks")
}

// stream inflates up to the end of a stream.
func (f *inflater) stream(limit int) error {
	for {
		if len(f.out) == cap(f.out) {
			f.grow(limit + 1)
		}
		n, err := f.reader.Read(f.out[len(f.out):min(cap(f.out), limit+1)])
		f.out = f.out[:len(f.out)+n]
		switch {
		case len(f.out) > limit:
			return violation(codeTooBig, "message is too big")
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return badData(err)
		}
	}
}

// grow makes room, up to most bytes in all.
func (f *inflater) grow(most int) {
	grown := make([]byte, len(f.out), min(max(inflateRead, 2*cap(f.out)), most))
	copy(grown, f.out)
	f.out = grown
}

// badData is for data that is not DEFLATE's: the message is not what its frame says it is
// (RFC 6455 §7.4.1).
func badData(error) error { return violation(codeInvalidText, "compressed message is damaged") }

// source is the data of a message and what is put behind it. It is an io.ByteReader
// so that the inflater takes no byte behind the end of a stream.
type source struct{ data, end []byte }

var _ flate.Reader = (*source)(nil)

// ReadByte implements io.ByteReader.
func (s *source) ReadByte() (byte, error) {
	if len(s.data) == 0 {
		s.data, s.end = s.end, nil
	}
	if len(s.data) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	b := s.data[0]
	s.data = s.data[1:]
	return b, nil
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (n int, err error) {
	if len(s.data) == 0 {
		s.data, s.end = s.end, nil
	}
	if len(s.data) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n = copy(p, s.data)
	s.data = s.data[n:]
	return n, nil
}

func (s *source) empty() bool { return len(s.data)+len(s.end) == 0 }

// deliverPacked is deliver for a compressed message. An error is a *CloseError for
// the peer.
func (l *link) deliverPacked(m message) (wait func(), err error) {
	f, _ := inflaters.Get().(*inflater)
	defer f.release()
	if m.payload, err = f.inflate(m.payload, l.messageLimit()); err != nil {
		return nil, err
	}
	if m.op == ws.OpText && !utf8.Valid(m.payload) {
		return nil, errNotUTF8
	}
	return l.hand(m), nil
}

// messageLimit is how long a message may be when it is inflated.
func (l *link) messageLimit() int {
	limit := l.server.cfg.MaxMessageBytes
	if r, ok := l.receiver.(LimitedReceiver); ok {
		if own := r.MessageLimit(); own > 0 {
			limit = min(limit, own)
		}
	}
	return limit
}
