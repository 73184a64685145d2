package socket

import (
	"hash/maphash"
	"sync"
)

// bookPages is how many locks the book is spread over.
const bookPages = 64

// keepPage is the largest number of frames that an emptied page keeps the room
// for.
const keepPage = 1024

// book says who holds which frames. It is safe for concurrent use.
type book struct {
	seed  maphash.Seed
	pages [bookPages]page
}

// page returns the part of the book for frame, which is not empty.
func (b *book) page(frame []byte) *page {
	return &b.pages[maphash.Comparable(b.seed, &frame[0])%bookPages]
}

// page is a part of the book.
type page struct {
	mu     sync.Mutex
	frames map[*byte]holding // by their first byte
	peak   int
}

// holding is how often a frame is held.
type holding struct {
	// holders are the ids of the queues that hold it, combined with XOR: of a
	// frame that is held once, it is the id of the holder.
	holders uint64
	bytes   int64
	refs    int64
}

// add books one more reference of q, one of known, to frame. It returns how many
// bytes more are held for it. The frame's only holder until then is looked up
// with the page locked: without, it could let go and be forgotten meanwhile.
func (p *page) add(q *Queue, frame []byte, known *waiters) (added int64) {
	first := &frame[0]
	added = refOverhead
	p.mu.Lock()
	h := p.frames[first]
	switch h.refs {
	case 0:
		h.bytes = int64(len(frame))
		added += h.bytes
		q.alone.Add(h.bytes)
		if p.frames == nil {
			p.frames = make(map[*byte]holding)
		}
		p.peak = max(p.peak, len(p.frames)+1)
	case 1:
		known.queue(h.holders).alone.Add(-h.bytes)
	}
	h.refs++
	h.holders ^= q.id
	p.frames[first] = h
	p.mu.Unlock()
	q.refs.Add(1)
	q.bytes.Add(h.bytes)
	return added
}

// remove takes one back. It returns how many bytes are held no longer.
func (p *page) remove(q *Queue, frame []byte, known *waiters) (freed int64) {
	first := &frame[0]
	freed = refOverhead
	p.mu.Lock()
	h := p.frames[first]
	h.refs--
	h.holders ^= q.id
	switch h.refs {
	case 0:
		freed += h.bytes
		q.alone.Add(-h.bytes)
		delete(p.frames, first)
		if len(p.frames) == 0 && p.peak > keepPage {
			p.frames, p.peak = nil, 0 // a map does not shrink
		}
	case 1:
		known.queue(h.holders).alone.Add(h.bytes)
		p.frames[first] = h
	default:
		p.frames[first] = h
	}
	p.mu.Unlock()
	q.refs.Add(-1)
	q.bytes.Add(-h.bytes)
	return freed
}
