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
	limit   int64
	ledger  *limit.Ledger
	epoch   time.Time
	total   atomic.Int64
	book    book
	waiters waiters

	relieving sync.Mutex // held by the one that closes peers
}

// NewBudget returns a budget of that many bytes, 0 is DefaultQueueMemory. The
// ledger counts who was closed; nil does not.
func NewBudget(bytes int, ledger *limit.Ledger) *Budget {
	return &Budget{
		limit: int64(cmp.Or(bytes, DefaultQueueMemory)), ledger: ledger, epoch: time.Now(),
		book: book{seed: maphash.MakeSeed()}, waiters: waiters{queues: make(map[uint64]*Queue)},
	}
}

// Clock is the time since the budget was made.
func (b *Budget) Clock() time.Duration { return time.Since(b.epoch) }

// Held is how many bytes wait now.
func (b *Budget) Held() int { return int(b.total.Load()) }

// Limit is how many bytes may wait.
func (b *Budget) Limit() int { return int(b.limit) }

// add counts one more reference of q to frame, which is not empty.
func (b *Budget) add(q *Queue, frame []byte) {
	b.waiters.enter(q)
	b.total.Add(b.book.page(frame).add(q, frame, &b.waiters))
}

// remove takes one back.
func (b *Budget) remove(q *Queue, frame []byte) {
	b.total.Add(-b.book.page(frame).remove(q, frame, &b.waiters))
}

// leave forgets q, which is empty.
func (b *Budget) leave(q *Queue) { b.waiters.leave(q) }

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
	now, waiting := b.Clock(), b.waiters.all()
	order := make([]weighed, len(waiting))
	for i, q := range waiting {
		order[i] = weighed{q, q.weight(now, len(waiting))}
	}
	slices.SortFunc(order, func(x, y weighed) int { return cmp.Compare(y.weight, x.weight) })
	for i, w := range order {
		waiting[i] = w.queue
	}
	return waiting
}
