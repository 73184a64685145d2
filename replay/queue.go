package replay

import (
	"math"
	"net/netip"
	"slices"
	"time"

	"reecho/broker"
)

const (
	// readersPerStream bounds the reads of one stream under way at once, so
	// that clients that come back do not starve those that are there.
	readersPerStream = 2
	// pastReaders is the same for those who want the past.
	pastReaders = 1
	// scanFrom is how many reads have to wait before one pass over the stream
	// may serve them all. More are waited for while they come, each time for
	// gatherPause, at most gatherTime.
	scanFrom    = 4
	gatherPause = 5 * time.Millisecond
	gatherTime  = 50 * time.Millisecond
	// A read by channel makes the stream look at every event between the
	// first and the last one it finds: about a quarter of what it costs to
	// be sent one. scanCredit is what a read costs beside that, in events.
	scanShare  = 4
	scanCredit = 40
)

// readQueue is what waits to be read from one stream. Its fields are guarded by
// History.mu.
type readQueue struct {
	back readClass // for clients that come back
	past readClass // for those who want the past: waits for the others
}

// readClass is reads that are equal.
type readClass struct {
	waiting turns
	readers int
	limit   int // of readers
	// scanning: one reader gathers reads or passes over the stream. The others
	// end meanwhile: what comes now is for its next pass.
	scanning bool
}

func newReadQueue() *readQueue {
	return &readQueue{back: readClass{limit: readersPerStream}, past: readClass{limit: pastReaders}}
}

func (q *readQueue) classOf(r *rangeRead) *readClass {
	if r.Past {
		return &q.past
	}
	return &q.back
}

func (h *History) queue(stream int, read *rangeRead) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	q := h.streams[stream]
	if q == nil {
		q = newReadQueue()
		h.streams[stream] = q
	}
	c := q.classOf(read)
	c.waiting.add(read)
	h.startLocked(stream, q, c)
	return true
}

// abandon forgets a read that nobody waits for, at once if it has not begun.
func (h *History) abandon(stream int, read *rangeRead) {
	read.abandoned.Store(true)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.streams[stream].classOf(read).waiting.remove(read)
}

// startLocked starts a reader of a class if there is work for one more.
func (h *History) startLocked(stream int, q *readQueue, c *readClass) {
	if c.readers < c.limit && q.mayReadLocked(c) {
		c.readers++
		h.tasks.Go(func() { h.serve(stream, q, c) })
	}
}

func (q *readQueue) mayReadLocked(c *readClass) bool {
	return c.waiting.n > 0 && !c.scanning && (c == &q.back || q.back.waiting.n == 0)
}

// serve reads until nothing waits, or another reader does all, or others go
// first.
func (h *History) serve(stream int, q *readQueue, c *readClass) {
	for {
		h.mu.Lock()
		if !q.mayReadLocked(c) {
			c.readers--
			// Who wants the past waited for this.
			h.startLocked(stream, q, &q.past)
			h.mu.Unlock()
			return
		}
		if c.waiting.scanPays() {
			c.scanning = true
			h.mu.Unlock()
			h.gather(c)
			h.readTogether(stream, c)
			continue
		}
		read := c.waiting.take()
		h.mu.Unlock()
		h.readOne(read)
	}
}

// gather waits while reads keep coming: those of clients that come back
// together.
func (h *History) gather(c *readClass) {
	count := func() int {
		h.mu.Lock()
		defer h.mu.Unlock()
		return c.waiting.n
	}
	for n, waited := 0, time.Duration(0); n < count() && waited < gatherTime; waited += gatherPause {
		n = count()
		wait(h.ctx, gatherPause)
	}
}

// turns is reads that wait. Askers take turns; each one's reads are in the order
// in which they came.
type turns struct {
	first   []*rangeRead // before all others: they had their turn
	askers  []netip.Addr // those with reads, the next one first
	byAsker map[netip.Addr][]*rangeRead
	n       int
}

func (t *turns) add(r *rangeRead) {
	if t.byAsker == nil {
		t.byAsker = make(map[netip.Addr][]*rangeRead)
	}
	reads := t.byAsker[r.Asker]
	if len(reads) == 0 {
		t.askers = append(t.askers, r.Asker)
	}
	t.byAsker[r.Asker] = append(reads, r)
	t.n++
}

// take returns the next read; there must be one.
func (t *turns) take() *rangeRead {
	t.n--
	if len(t.first) > 0 {
		r := t.first[0]
		t.first[0] = nil
		t.first = t.first[1:]
		return r
	}
	asker := t.askers[0]
	t.askers = t.askers[1:]
	reads := t.byAsker[asker]
	r := reads[0]
	reads[0] = nil
	if reads = reads[1:]; len(reads) == 0 {
		delete(t.byAsker, asker)
	} else {
		t.byAsker[asker] = reads
		t.askers = append(t.askers, asker)
	}
	return r
}

func (t *turns) takeAll() []*rangeRead {
	all := make([]*rangeRead, 0, t.n)
	for t.n > 0 {
		all = append(all, t.take())
	}
	return all
}

// passes reports whether a read may be served by a pass. One for the oldest events
// of a range looks at a part of it only, and nobody knows at how much.
func (r *rangeRead) passes() bool { return r.Keep != KeepOldest }

// takeForPass is takeAll of those that may be served by a pass.
func (t *turns) takeForPass() []*rangeRead {
	var others []*rangeRead
	reads := slices.DeleteFunc(t.takeAll(), func(r *rangeRead) bool {
		if !r.passes() {
			others = append(others, r)
		}
		return !r.passes()
	})
	for _, r := range others {
		t.add(r)
	}
	return reads
}

// putBack makes reads the next ones again. It keeps a copy: the array of what
// was served beside them keeps those events alive.
func (t *turns) putBack(reads []*rangeRead) {
	reads = slices.DeleteFunc(slices.Clone(reads), func(r *rangeRead) bool { return r.abandoned.Load() })
	t.first = slices.Concat(reads, t.first)
	t.n += len(reads)
}

// remove takes a read out, if it is there.
func (t *turns) remove(r *rangeRead) {
	if at := slices.Index(t.first, r); at >= 0 {
		t.first = slices.Delete(t.first, at, at+1)
		t.n--
		return
	}
	reads := t.byAsker[r.Asker]
	at := slices.Index(reads, r)
	if at < 0 {
		return
	}
	t.n--
	if reads = slices.Delete(reads, at, at+1); len(reads) > 0 {
		t.byAsker[r.Asker] = reads
		return
	}
	delete(t.byAsker, r.Asker)
	if at := slices.Index(t.askers, r.Asker); at >= 0 {
		t.askers = slices.Delete(t.askers, at, at+1)
	}
}

// scanPays reports whether one pass over the stream is cheaper than a read for
// each that waits.
func (t *turns) scanPays() bool {
	if t.n < scanFrom {
		return false
	}
	n, low, high, apart := 0, uint64(math.MaxUint64), uint64(0), uint64(0)
	count := func(reads []*rangeRead) {
		for _, r := range reads {
			if !r.passes() {
				continue
			}
			n++
			low, high = min(low, r.After), max(high, r.UpTo)
			apart += r.UpTo - r.After + scanCredit*scanShare
		}
	}
	count(t.first)
	for _, reads := range t.byAsker {
		count(reads)
	}
	return n >= scanFrom && (high-low)*scanShare < apart
}

// pass is one pass over a stream for many reads.
type pass struct {
	reads     []*rangeRead // in the order in which they came
	served    int          // the first of them; for the others there was no room
	byChannel map[broker.Ref][]*rangeRead
	bytes     int // of their events
	limit     int
}

// readTogether serves what waits by one pass over the stream, and ends the
// scanning.
func (h *History) readTogether(stream int, c *readClass) {
	h.mu.Lock()
	reads := c.waiting.takeForPass()
	h.mu.Unlock()
	p := &pass{reads: reads, served: len(reads), byChannel: make(map[broker.Ref][]*rangeRead), limit: h.passBytes}
	low, high := uint64(math.MaxUint64), uint64(0)
	for _, r := range p.reads {
		r.postponed = false
		r.looks = 2 // a pass takes its time
		ref := r.Log.Ref()
		p.byChannel[ref] = append(p.byChannel[ref], r)
		low, high = min(low, r.After), max(high, r.UpTo)
	}
	if high > low {
		if err := h.logs.Scan(h.ctx, stream, low+1, high, p.visit); err != nil {
			for _, r := range p.reads[:p.served] {
				r.end(err)
			}
		}
	}
	for _, r := range p.reads[:p.served] {
		close(r.done)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	c.waiting.putBack(p.reads[p.served:])
	c.scanning = false
}

func (p *pass) visit(ref broker.Ref, ev broker.Event) bool {
	for _, r := range p.byChannel[ref] {
		if r.err == nil && !r.postponed && !r.abandoned.Load() {
			p.bytes -= r.bytes
			r.add(ev)
			p.bytes += r.bytes
		}
	}
	for p.bytes > p.limit && p.served > 1 {
		p.postponeLast()
	}
	return true
}

// postponeLast makes room: the read that came last waits for the next pass.
func (p *pass) postponeLast() {
	p.served--
	r := p.reads[p.served]
	p.bytes -= r.bytes
	r.end(nil)
	r.postponed = true
}
