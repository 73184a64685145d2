package replay

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"reecho/broker"
)

const (
	// readersPerStream bounds the reads of one stream under way at once, so
	// that clients that come back do not starve those that are there.
	readersPerStream = 2
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

// ErrRangeTooLarge means that a range holds more than the caller allows.
var ErrRangeTooLarge = errors.New("more events than one replay may hold")

// History reads stored events for clients that come back and find the ring of
// their channel too young (T1 of DESIGN §6). It reads the stream (T3); asking
// another node for its ring (T2) belongs here too, before the stream, once
// there are other nodes. It is safe for concurrent use.
//
// A stream answers reads of single channels slowly when many channels are
// interleaved in it. After a restart everybody comes back at once, so reads
// that wait are served together by one pass over the stream where that costs
// less.
type History struct {
	broker *broker.Broker
	// passBytes bounds what one pass holds in memory.
	passBytes int

	ctx   context.Context //nolint:containedctx // the history's own life, ended by Close
	stop  context.CancelFunc
	tasks sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	streams map[int]*readQueue
}

// readQueue is what waits to be read from one stream.
type readQueue struct {
	waiting []*rangeRead
	readers int
	// scanning: one reader gathers reads or passes over the stream. The others
	// end meanwhile: what comes now is for its next pass.
	scanning bool
}

// Range is what to read of a channel: the events above After and up to UpTo.
type Range struct {
	App, Channel string
	After, UpTo  uint64
	// Events and Bytes bound the range, Bytes only if there is more than one
	// event.
	Events, Bytes int
	// Newest: of a range beyond its bounds the newest events are wanted, and
	// not an error.
	Newest bool
}

type rangeRead struct {
	Range
	abandoned atomic.Bool // nobody waits for it any more

	events []broker.Event
	bytes  int  // of events
	older  bool // some were left out
	// postponed: the pass under way has no room for it.
	postponed bool
	err       error
	done      chan struct{} // closed when all of these are final
}

// NewHistory reads from b, which must outlive it, and holds about as many bytes
// in memory as given, or one range if that is more. Close ends it.
func NewHistory(b *broker.Broker, bytes int) *History {
	h := &History{broker: b, passBytes: bytes, streams: make(map[int]*readQueue)}
	h.ctx, h.stop = context.WithCancel(context.Background())
	return h
}

// Close fails what is being read.
func (h *History) Close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.stop()
	h.tasks.Wait()
}

// Read returns the events of a range in order, and whether older ones of it were
// left out, which only happens if Newest is set. Errors: ErrRangeTooLarge,
// broker.ErrClosed, the context's, the broker's.
func (h *History) Read(ctx context.Context, r Range) (events []broker.Event, older bool, err error) {
	if r.UpTo <= r.After {
		return nil, false, nil
	}
	read := &rangeRead{Range: r, done: make(chan struct{})}
	if !h.queue(h.broker.Stream(r.App, r.Channel), read) {
		return nil, false, broker.ErrClosed
	}
	select {
	case <-read.done:
		return read.events, read.older, read.err
	case <-ctx.Done():
		// Who comes back after a timeout asks again: then this would be work
		// for nobody, in the very moment when there is too much of it.
		read.abandoned.Store(true)
		return nil, false, fmt.Errorf("read channel %q after %d: %w", r.Channel, r.After, ctx.Err())
	}
}

func (h *History) queue(stream int, read *rangeRead) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	q := h.streams[stream]
	if q == nil {
		q = &readQueue{}
		h.streams[stream] = q
	}
	q.waiting = append(q.waiting, read)
	if q.readers < readersPerStream && !q.scanning {
		q.readers++
		h.tasks.Go(func() { h.serve(stream, q) })
	}
	return true
}

// serve reads until nothing waits, or another reader does all.
func (h *History) serve(stream int, q *readQueue) {
	for {
		h.mu.Lock()
		q.dropAbandoned()
		if q.scanning || len(q.waiting) == 0 {
			q.readers--
			h.mu.Unlock()
			return
		}
		if q.scanPays() {
			q.scanning = true
			h.mu.Unlock()
			h.gather(q)
			h.readTogether(stream, q)
			continue
		}
		read := q.waiting[0]
		q.waiting[0] = nil
		q.waiting = q.waiting[1:]
		h.mu.Unlock()
		h.readOne(read)
	}
}

func (q *readQueue) dropAbandoned() {
	q.waiting = slices.DeleteFunc(q.waiting, func(r *rangeRead) bool { return r.abandoned.Load() })
}

// scanPays reports whether one pass over the stream is cheaper than a read for
// each that waits.
func (q *readQueue) scanPays() bool {
	if len(q.waiting) < scanFrom {
		return false
	}
	low, high, apart := q.waiting[0].After, uint64(0), uint64(0)
	for _, r := range q.waiting {
		low, high = min(low, r.After), max(high, r.UpTo)
		apart += r.UpTo - r.After + scanCredit*scanShare
	}
	return (high-low)*scanShare < apart
}

// gather waits while reads keep coming: those of clients that come back
// together.
func (h *History) gather(q *readQueue) {
	count := func() int {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(q.waiting)
	}
	for n, waited := 0, time.Duration(0); n < count() && waited < gatherTime; waited += gatherPause {
		n = count()
		wait(h.ctx, gatherPause)
	}
}

// add takes the next event of the range, and reports whether there is room for
// more.
func (r *rangeRead) add(ev broker.Event) bool {
	if ev.Sequence <= r.After || ev.Sequence > r.UpTo {
		return true
	}
	r.bytes += len(ev.Frame)
	r.events = append(r.events, ev)
	for len(r.events) > r.Events || r.bytes > r.Bytes && len(r.events) > 1 {
		if !r.Newest {
			r.end(ErrRangeTooLarge)
			return false
		}
		r.bytes -= len(r.events[0].Frame)
		r.events[0] = broker.Event{}
		r.events, r.older = r.events[1:], true
	}
	return true
}

// end lets go of what was read; err is the outcome, nil if it will be read
// again.
func (r *rangeRead) end(err error) { r.err, r.events, r.bytes, r.older = err, nil, 0, false }

func (h *History) readOne(r *rangeRead) {
	defer close(r.done)
	for from := r.After + 1; from <= r.UpTo && !r.abandoned.Load(); {
		events, more, err := h.broker.Read(h.ctx, r.App, r.Channel, from, min(r.Events+1, fillBatch))
		if err != nil {
			r.end(err)
			return
		}
		for i := range events {
			if !r.add(events[i]) {
				return
			}
			from = events[i].Sequence + 1
		}
		if !more || len(events) == 0 {
			return
		}
	}
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
func (h *History) readTogether(stream int, q *readQueue) {
	h.mu.Lock()
	q.dropAbandoned()
	p := &pass{reads: q.waiting, served: len(q.waiting), byChannel: make(map[broker.Ref][]*rangeRead), limit: h.passBytes}
	q.waiting = nil
	h.mu.Unlock()
	low, high := uint64(math.MaxUint64), uint64(0)
	for _, r := range p.reads {
		r.postponed = false
		ref := broker.Ref{App: r.App, Channel: r.Channel}
		p.byChannel[ref] = append(p.byChannel[ref], r)
		low, high = min(low, r.After), max(high, r.UpTo)
	}
	if high > low {
		if err := h.broker.Scan(h.ctx, stream, low+1, high, p.visit); err != nil {
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
	// A copy: the array of what was served keeps its events alive.
	q.waiting = slices.Concat(p.reads[p.served:], q.waiting)
	q.scanning = false
}

func (p *pass) visit(ref broker.Ref, ev broker.Event) bool {
	for _, r := range p.byChannel[ref] {
		if r.err == nil && !r.postponed {
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
