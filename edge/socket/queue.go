package socket

import (
	"math"
	"net"
	"sync/atomic"
	"time"
)

const (
	// refOverhead is what a frame in a queue costs beside its bytes: its entry,
	// with what slices grow ahead.
	refOverhead = 48
	// unbookedBytes is what a queue holds without an entry in the book, about
	// as much as the connection itself: TLS connections queue every frame, and
	// most are written at once.
	unbookedBytes = 4 << 10
)

// Queue holds the frames that a slow peer did not take yet. It is ready after
// Init and is for one owner, who guards its methods with a lock. Frames are
// shared between queues and never changed; the budget counts what is held.
type Queue struct {
	// Static.
	budget *Budget
	owner  Shedder
	raw    net.Conn // see Watch; nil: not known

	entries []entry
	head    int  // entries before it are done
	written int  // bytes of entries[head] that are done
	busy    int  // entries that a writer works on without the lock
	cost    int  // of all entries, as if none was shared
	own     int  // of those that are answers to the peer's messages
	moved   bool // something was taken since the last Tick
	sealed  bool // nothing more comes, see Seal

	// drained is closed by release. nil: nobody asked since the last time.
	drained chan struct{}

	progress time.Duration // the budget's clock: when the peer last took something
	seen     taken         // at the last Tick
	crowd    int           // how many queues waited since progress, at most

	// For the budget, which reads them without the owner's lock.
	id     uint64       // 0: the budget does not know it
	refs   atomic.Int64 // booked entries
	bytes  atomic.Int64 // their bytes, as if none was shared
	alone  atomic.Int64 // those of frames that no other queue holds
	oldest atomic.Int32 // when the first entry was queued, seconds
}

// Shedder closes a peer as too slow and drops what waits for it. It is called
// without the owner's lock, and reports false if there was nothing to close.
type Shedder interface{ Shed() bool }

// entry is a frame that waits.
type entry struct {
	frame  []byte
	at     int32 // seconds of the budget's clock
	booked bool
	own    bool
}

// taken is what the peer's kernel is known to have taken: any change is
// progress. The zero value is not known.
type taken struct {
	acknowledged uint64 // bytes, in all
	unread       int    // bytes that are not
}

// Init makes q, which must be empty, a queue of b. owner is asked to shed it.
func (q *Queue) Init(b *Budget, owner Shedder) { q.budget, q.owner = b, owner }

// alreadyDrained is what Drained returns when there is nothing to wait for.
var alreadyDrained = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Drained returns a channel that is closed when nothing waits any more, or when
// q is sealed; it is closed already if that is so now. Everybody who asks until
// then gets the same one, and only the first costs an allocation. It tells of
// that moment: something may have been queued since.
func (q *Queue) Drained() <-chan struct{} {
	if q.sealed || q.Empty() {
		return alreadyDrained
	}
	if q.drained == nil {
		q.drained = make(chan struct{})
	}
	return q.drained
}

// Seal says that the peer is being closed: what waits still goes out, but those
// who wait for that to happen would wait for nothing.
func (q *Queue) Seal() {
	q.sealed = true
	q.release()
}

// release lets those go on who wait for Drained.
func (q *Queue) release() {
	if q.drained != nil {
		close(q.drained)
		q.drained = nil
	}
}

func refCost(frame []byte) int { return len(frame) + refOverhead }

// Empty reports whether nothing waits.
func (q *Queue) Empty() bool { return q.head == len(q.entries) }

// Cost is about how many bytes wait, as if no frame was shared.
func (q *Queue) Cost() int { return q.cost }

// Own is about how many bytes of answers to the peer's own messages wait.
func (q *Queue) Own() int { return q.own }

// Push queues frame, the first skip bytes of which are already written. own
// says that it answers a message of the peer; now is the budget's clock.
func (q *Queue) Push(now time.Duration, frame []byte, skip int, own bool) {
	if q.Empty() {
		q.entries, q.head, q.written = q.entries[:0], 0, skip
		q.progress, q.seen, q.moved, q.crowd = now, taken{}, false, 0
	} else if q.head > len(q.entries)/2 && len(q.entries) == cap(q.entries) {
		n := copy(q.entries, q.entries[q.head:])
		clear(q.entries[n:])
		q.entries, q.head = q.entries[:n], 0
	}
	e := entry{frame: frame, at: int32(now / time.Second), own: own} // 68 years
	q.cost += refCost(frame)
	if own {
		q.own += refCost(frame)
	}
	if q.cost > unbookedBytes && len(frame) > 0 {
		e.booked = true
		q.budget.add(q, frame)
	}
	q.entries = append(q.entries, e)
	if len(q.entries)-q.head == 1 {
		q.oldest.Store(e.at)
	}
}

// Advance takes n written bytes off the front.
func (q *Queue) Advance(n int) {
	q.moved = q.moved || n > 0
	for n > 0 {
		left := len(q.entries[q.head].frame) - q.written
		if n < left {
			q.written += n
			break
		}
		n -= left
		q.forget(&q.entries[q.head])
		q.head++
		q.written = 0
	}
	if !q.Empty() {
		q.oldest.Store(q.entries[q.head].at)
		return
	}
	q.budget.leave(q)
	q.release()
	if cap(q.entries) > maxIdleEntries {
		q.entries, q.head = nil, 0
	}
}

// maxIdleEntries is the room that an empty queue keeps.
const maxIdleEntries = 64

// forget takes an entry out of all counts.
func (q *Queue) forget(e *entry) {
	q.cost -= refCost(e.frame)
	if e.own {
		q.own -= refCost(e.frame)
	}
	if e.booked {
		q.budget.remove(q, e.frame)
	}
	*e = entry{}
}

// Drop forgets the frames of which nothing is written yet. One that has begun
// must be finished, else the peer could not read what follows.
func (q *Queue) Drop() {
	keep := q.busy
	if keep == 0 && q.written > 0 {
		keep = 1
	}
	q.cut(q.head + keep)
}

// Clear forgets all frames.
func (q *Queue) Clear() {
	q.busy = 0
	q.cut(q.head)
}

// cut forgets the entries from end on.
func (q *Queue) cut(end int) {
	for i := end; i < len(q.entries); i++ {
		q.forget(&q.entries[i])
	}
	q.entries = q.entries[:min(end, len(q.entries))]
	if q.Empty() {
		q.entries, q.head, q.written = nil, 0, 0
		q.budget.leave(q)
		q.release()
	}
}

// appendBytes appends up to limit bytes from the front to dst and marks their
// frames busy.
func (q *Queue) appendBytes(dst []byte, limit int) []byte {
	q.busy = 0
	skip := q.written
	for _, e := range q.entries[q.head:] {
		room := limit - len(dst)
		if room <= 0 {
			break
		}
		rest := e.frame[skip:]
		dst = append(dst, rest[:min(room, len(rest))]...)
		skip = 0
		q.busy++
	}
	return dst
}

// Front returns whole frames from the front, of up to limit bytes together and
// at least one, appended to dst, and marks them busy: until Done, Drop leaves
// them.
func (q *Queue) Front(dst [][]byte, limit int) [][]byte {
	q.busy = 0
	bytes := 0
	for _, e := range q.entries[q.head:] {
		bytes += len(e.frame)
		if q.busy > 0 && bytes > limit {
			break
		}
		dst = append(dst, e.frame)
		q.busy++
	}
	return dst
}

// Done takes what is busy off the front.
func (q *Queue) Done() {
	n := -q.written
	for _, e := range q.entries[q.head : q.head+q.busy] {
		n += len(e.frame)
	}
	q.busy = 0
	q.Advance(n)
}

// Moved says that the peer took something that is not taken off yet.
func (q *Queue) Moved() { q.moved = true }

// Alone is about how many bytes are held for this peer only: the frames that
// wait for nobody else, and what the others cost here. Answers to the peer's
// own messages do not count: they are bounded by not reading more.
func (q *Queue) Alone() int {
	booked := int(q.alone.Load() + q.refs.Load()*refOverhead)
	return booked + min(q.cost, unbookedBytes) - q.own
}

// Tick notes whether the peer took anything since the last Tick, and reports
// whether it has taken nothing for too long: for timeout, or longer in a crowd
// (see Budget). now is the budget's clock. It should be called about once a
// second.
func (q *Queue) Tick(now, timeout time.Duration) (stalled bool) {
	if q.Empty() {
		return false
	}
	idle := q.tick(now, takenBy(q.raw))
	if idle <= timeout {
		return false
	}
	patience := q.patience(timeout)
	bearWith(q.raw, patience)
	return idle > patience
}

// tick is Tick when the peer's kernel has taken seen. It returns how long it
// has taken nothing.
func (q *Queue) tick(now time.Duration, seen taken) time.Duration {
	if q.moved || q.seen != (taken{}) && seen != q.seen {
		q.progress, q.crowd = now, 0
	}
	q.crowd = max(q.crowd, q.budget.waiters.count())
	q.moved, q.seen = false, seen
	return now - q.progress
}

// weight is for the order in which queues are closed when all together hold too
// much: what closing this one frees, times how long its oldest frame waits.
// Bytes of shared frames are freed by the last who lets go, so each queue
// counts its part of them, as if all that wait shared them.
func (q *Queue) weight(now time.Duration, waiting int) float64 {
	alone := q.alone.Load()
	frees := alone + q.refs.Load()*refOverhead + (q.bytes.Load()-alone)/int64(max(waiting, 1))
	age := max(0, now.Seconds()-float64(q.oldest.Load()))
	return float64(frees) * math.Max(age, 1)
}
