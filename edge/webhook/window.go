package webhook

import (
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// firstPause is the least time between two tries, lastPause about the longest; each
	// is twice the one before, and up to a half more, so that not all come at once.
	firstPause = time.Second
	lastPause  = time.Minute
	// entryCost is about what an item needs in memory beside its text.
	entryCost = 256
)

// retryPause is how long to wait after so many tries, 1 or more.
func retryPause(tries int) time.Duration {
	pause := lastPause
	if tries < 7 { // 2⁶ s are more than a minute
		pause = min(firstPause<<(tries-1), lastPause)
	}
	return pause + rand.N(pause/2) //nolint:gosec // jitter
}

// window is what one endpoint is to get of its line, beginning with the oldest: which
// requests to make, and when. The events of a channel go in order, and while a request
// is tried again those that follow on its channels wait for it, and no others. It does no
// locking, knows no time and makes no request.
type window struct {
	batchEvents int
	batchTime   time.Duration
	concurrency int
	retryTime   time.Duration
	limit       int // bytes

	entries  []*entry // all that is not removed, in order
	bytes    int
	channels map[string]*queue
	ready    []*queue // of which nothing is under way, and something waits
	waiting  int      // events in no batch
	oldest   []*entry // those that wait, in order; some may be in a batch or dropped
	retries  []*batch // by time
	under    int      // requests under way
	failures int      // in a row
}

// queue is what waits of one channel.
type queue struct {
	name    string
	entries []*entry
	held    bool // a batch has the entries before these
	ready   bool
}

// entry is an item of the line.
type entry struct {
	sequence uint64
	item     item
	read     time.Time
	size     int
	taken    bool // it is in a batch
	done     bool // it is delivered or dropped
}

// batch is one request.
type batch struct {
	entries []*entry
	queues  []*queue
	events  int
	tries   int
	at      time.Time // of the next try
	until   time.Time // when it is given up
	body    []byte    // made once
}

// made is the time of the body: that of the oldest event.
func (b *batch) made() int64 { return b.entries[0].item.Events[0].Made }

// add takes in an item. It returns entries that have to be dropped for it, the oldest of
// those that wait.
func (w *window) add(sequence uint64, i item, size int, now time.Time) (dropped []*entry) {
	e := &entry{sequence: sequence, item: i, read: now, size: size + entryCost}
	w.entries = append(w.entries, e)
	w.oldest = append(w.oldest, e)
	w.bytes += e.size
	w.waiting += len(i.Events)
	q := w.channels[i.Channel]
	if q == nil {
		if w.channels == nil {
			w.channels = make(map[string]*queue)
		}
		q = &queue{name: i.Channel}
		w.channels[i.Channel] = q
	}
	q.entries = append(q.entries, e)
	w.readyIfFree(q)
	for w.bytes > w.limit {
		o := w.oldestWaiting()
		if o == nil || o == e {
			break
		}
		w.drop(o)
		dropped = append(dropped, o)
	}
	return dropped
}

func (w *window) readyIfFree(q *queue) {
	switch {
	case q.held || q.ready:
	case len(q.entries) > 0:
		q.ready = true
		w.ready = append(w.ready, q)
	default:
		delete(w.channels, q.name)
	}
}

// oldestWaiting is the oldest entry in no batch, nil if there is none.
func (w *window) oldestWaiting() *entry {
	for len(w.oldest) > 0 && (w.oldest[0].taken || w.oldest[0].done) {
		w.oldest[0] = nil
		w.oldest = w.oldest[1:]
	}
	if len(w.oldest) == 0 {
		return nil
	}
	return w.oldest[0]
}

// drop gives up an entry that is in no batch. It is the first of its channel.
func (w *window) drop(e *entry) {
	q := w.channels[e.item.Channel]
	q.entries = q.entries[1:]
	w.waiting -= len(e.item.Events)
	w.finish(e)
	if len(q.entries) == 0 && q.ready {
		q.ready = false
		w.ready = slices.DeleteFunc(w.ready, func(r *queue) bool { return r == q })
	}
	w.readyIfFree(q)
}

func (w *window) finish(e *entry) {
	e.done = true
	w.bytes -= e.size
}

// late drops what has waited too long while the endpoint took nothing, and returns it.
func (w *window) late(now time.Time) (dropped []*entry) {
	for w.failures > 0 {
		e := w.oldestWaiting()
		if e == nil || now.Sub(e.read) < w.retryTime {
			break
		}
		w.drop(e)
		dropped = append(dropped, e)
	}
	return dropped
}

// next returns the next request to make, nil if there is none now; then it is to be asked
// again when something has changed, or after wait, if that is not 0.
func (w *window) next(now time.Time) (b *batch, wait time.Duration) {
	allowed := w.concurrency
	if w.failures >= w.concurrency {
		allowed = 1 // it is down: one at a time finds out when it is back
	}
	if w.under >= allowed {
		return nil, 0
	}
	if len(w.retries) > 0 {
		if wait = w.retries[0].at.Sub(now); wait <= 0 {
			b, w.retries = w.retries[0], w.retries[1:]
			w.under++
			return b, 0
		}
	}
	if len(w.ready) == 0 {
		return nil, wait
	}
	if linger := w.ready[0].entries[0].read.Add(w.batchTime).Sub(now); w.waiting < w.batchEvents && linger > 0 {
		if wait == 0 || linger < wait {
			wait = linger
		}
		return nil, wait
	}
	w.under++
	return w.batch(), 0
}

// batch takes what waits, of one channel after the other, up to the size of a batch.
func (w *window) batch() *batch {
	b := &batch{}
	for len(w.ready) > 0 && b.events < w.batchEvents {
		q := w.ready[0]
		n := 0
		for n < len(q.entries) && (b.events == 0 || b.events+len(q.entries[n].item.Events) <= w.batchEvents) {
			e := q.entries[n]
			e.taken = true
			b.events += len(e.item.Events)
			b.until = e.read.Add(w.retryTime)
			n++
		}
		if n == 0 {
			break // what comes next is too much
		}
		b.entries = append(b.entries, q.entries[:n]...)
		b.queues = append(b.queues, q)
		q.entries, q.held, q.ready = q.entries[n:], true, false
		w.ready[0] = nil
		w.ready = w.ready[1:]
	}
	w.waiting -= b.events
	return b
}

// delivered says that a request was taken.
func (w *window) delivered(b *batch) {
	w.under--
	w.failures = 0
	w.end(b)
}

// failed says that a request was not taken. It is tried again, or, if that would be too
// late, given up.
func (w *window) failed(b *batch, now time.Time) (again bool) {
	w.under--
	w.failures++
	b.tries++
	b.at = now.Add(retryPause(b.tries))
	if b.at.After(b.until) {
		w.end(b)
		return false
	}
	i, _ := slices.BinarySearchFunc(w.retries, b.at, func(r *batch, at time.Time) int { return r.at.Compare(at) })
	w.retries = slices.Insert(w.retries, i, b)
	return true
}

func (w *window) end(b *batch) {
	for _, e := range b.entries {
		w.finish(e)
		e.item = item{} // it may have to stay until what is before it is done
	}
	for _, q := range b.queues {
		q.held = false
		w.readyIfFree(q)
	}
}

// removable returns up to where the line can be removed, 0 for nothing new. If what is
// first is tried again, which may take long, others are those behind it that can be
// removed, one by one.
func (w *window) removable() (upTo uint64, others []uint64) {
	n := 0
	for ; n < len(w.entries) && w.entries[n].done; n++ {
		upTo = w.entries[n].sequence
		w.entries[n] = nil
	}
	if w.entries = w.entries[n:]; len(w.entries) == 0 {
		w.entries = nil
	}
	if len(w.retries) == 0 {
		return upTo, nil
	}
	w.entries = slices.DeleteFunc(w.entries, func(e *entry) bool {
		if e.done {
			others = append(others, e.sequence)
		}
		return e.done
	})
	return upTo, others
}

// pending is how many events are not delivered.
func (w *window) pending() int {
	n := 0
	for _, e := range w.entries {
		if !e.done {
			n += len(e.item.Events)
		}
	}
	return n
}
