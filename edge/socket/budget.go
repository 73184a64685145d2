package socket

import (
	"cmp"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"reecho/edge/limit"
)

// DefaultQueueMemory is how many bytes may wait for all clients together.
const DefaultQueueMemory = 256 << 20

// bookPages is how many locks the book is spread over.
const bookPages = 64

// keepPage is the largest number of frames that an emptied page keeps the room
// for.
const keepPage = 1024

// Budget bounds the memory of all queues together. A frame that waits in many
// queues is in memory once and counts once, with a little for each place. Above
// the limit peers are closed as too slow until an eighth is free again, in the
// order of what that frees times how long their oldest frame waits: the largest
// and oldest first. It is safe for concurrent use; its locks are held for
// moments and under any other.
//
// It also knows when so many peers wait that what they share is slow, and not
// they: for each 25 that wait, every one may take nothing for another timeout, up
// to sixty.
//
// What it does not count are the first 4 KiB of each queue, what the kernel
// holds, and the records a TLS connection is just writing.
type Budget struct {
	limit  int64
	ledger *limit.Ledger
	epoch  time.Time
	seed   maphash.Seed
	total  atomic.Int64
	book   [bookPages]page

	relieving sync.Mutex

	mu     sync.RWMutex
	queues map[uint64]*Queue
	lastID uint64
}

// page is a part of the book: who holds which frames.
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

// NewBudget returns a budget of that many bytes, 0 is DefaultQueueMemory. The
// ledger counts who was closed; nil does not.
func NewBudget(bytes int, ledger *limit.Ledger) *Budget {
	return &Budget{
		limit: int64(cmp.Or(bytes, DefaultQueueMemory)), ledger: ledger, epoch: time.Now(), seed: maphash.MakeSeed(),
		queues: make(map[uint64]*Queue),
	}
}

// Clock is the time since the budget was made.
func (b *Budget) Clock() time.Duration { return time.Since(b.epoch) }

// Held is how many bytes wait now.
func (b *Budget) Held() int { return int(b.total.Load()) }

// Limit is how many bytes may wait.
func (b *Budget) Limit() int { return int(b.limit) }

func (b *Budget) page(first *byte) *page {
	return &b.book[maphash.Comparable(b.seed, first)%bookPages]
}

// add books one more reference of q to frame, which is not empty.
func (b *Budget) add(q *Queue, frame []byte) {
	if q.id == 0 {
		b.enter(q)
	}
	first := &frame[0]
	p := b.page(first)
	added := int64(refOverhead)
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
		b.holder(h.holders).alone.Add(-h.bytes)
	}
	h.refs++
	h.holders ^= q.id
	p.frames[first] = h
	p.mu.Unlock()
	q.refs.Add(1)
	q.bytes.Add(h.bytes)
	b.total.Add(added)
}

// remove takes one back.
func (b *Budget) remove(q *Queue, frame []byte) {
	first := &frame[0]
	p := b.page(first)
	freed := int64(refOverhead)
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
		b.holder(h.holders).alone.Add(h.bytes)
		p.frames[first] = h
	default:
		p.frames[first] = h
	}
	p.mu.Unlock()
	q.refs.Add(-1)
	q.bytes.Add(-h.bytes)
	b.total.Add(-freed)
}

// enter makes q known. It stays so while it is not empty.
func (b *Budget) enter(q *Queue) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lastID++
	q.id = b.lastID
	b.queues[q.id] = q
}

// leave forgets q, which is empty.
func (b *Budget) leave(q *Queue) {
	if q.id == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.queues, q.id)
	q.id = 0
}

// holder is a queue that holds a frame, which is why it is known.
func (b *Budget) holder(id uint64) *Queue {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.queues[id]
}

// Relieve closes peers if more waits than may. It is called after something was
// queued, without any queue's lock.
func (b *Budget) Relieve() {
	if b.total.Load() <= b.limit || !b.relieving.TryLock() {
		return
	}
	defer b.relieving.Unlock()
	goal := b.limit - b.limit/8
	for _, q := range b.heaviest() {
		if b.total.Load() <= goal {
			return
		}
		if q.owner.Shed() {
			b.ledger.Note(limit.QueueMemory, slog.Int64("bytes", b.limit))
		}
	}
}

// heaviest returns all queues in the order in which they are closed.
func (b *Budget) heaviest() []*Queue {
	type weighed struct {
		queue  *Queue
		weight float64
	}
	now := b.Clock()
	b.mu.RLock()
	all := make([]weighed, 0, len(b.queues))
	for _, q := range b.queues {
		all = append(all, weighed{q, q.weight(now, len(b.queues))})
	}
	b.mu.RUnlock()
	slices.SortFunc(all, func(x, y weighed) int { return cmp.Compare(y.weight, x.weight) })
	queues := make([]*Queue, len(all))
	for i, w := range all {
		queues[i] = w.queue
	}
	return queues
}
