package replay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sort"
	"sync"
	"sync/atomic"

	"reecho/broker"
)

// ErrRangeTooLarge means that a range holds more than the caller allows.
var ErrRangeTooLarge = errors.New("more events than one replay may hold")

// History reads stored events for clients that come back and find the ring of
// their channel too young (T3 of DESIGN §6; the others are in load.go). It is
// safe for concurrent use.
//
// A stream answers reads of single channels slowly when many channels are
// interleaved in it. After a restart everybody comes back at once, so reads
// that wait are served together by one pass over the stream where that costs
// less. Nor can it read backwards: see newest.go.
//
// Reads wait in two classes: those for clients that come back, and those for
// clients that want the past. The second wait for the first, and have a reader
// of their own, so that what they began holds nobody up. In each class askers
// take turns, so that one who wants a lot has it between what others want.
type History struct {
	logs Logs
	// passBytes bounds what one pass holds in memory.
	passBytes int

	ctx   context.Context //nolint:containedctx // the history's own life, ended by Close
	stop  context.CancelFunc
	tasks sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	streams map[int]*readQueue
}

// Range is what to read of a channel: the events above After and up to UpTo.
type Range struct {
	Log         Log
	After, UpTo uint64
	// Events and Bytes bound the range, Bytes only if there is more than one
	// event.
	Events, Bytes int
	// Keep says what is wanted of a range beyond its bounds.
	Keep Keep
	// Past: for somebody who wants the past, and not for a client that comes
	// back: it waits for those.
	Past bool
	// Asker is who takes turns with others, by address.
	Asker netip.Addr
}

// Keep is what is wanted of a range that is beyond its bounds.
type Keep uint8

// The parts of a range.
const (
	KeepAll    Keep = iota // nothing: ErrRangeTooLarge
	KeepNewest             // the newest events
	KeepOldest             // the oldest
)

type rangeRead struct {
	Range
	abandoned atomic.Bool // nobody waits for it any more

	events []broker.Event
	bytes  int  // of events
	cut    bool // some were left out
	looks  int  // how often the stream was looked at for it
	// postponed: the pass under way has no room for it.
	postponed bool
	err       error
	done      chan struct{} // closed when all of these are final
}

// NewHistory reads from logs, which must outlive it, and holds about as many
// bytes in memory as given, or one range if that is more. Close ends it.
func NewHistory(logs Logs, bytes int) *History {
	h := &History{logs: logs, passBytes: bytes, streams: make(map[int]*readQueue)}
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

// Read returns the events of a range in order and without a hole, and whether some
// of it were left out, which Keep allows or not. What was trimmed while it was read
// is not there. Errors: ErrRangeTooLarge, broker.ErrClosed, the
// context's, the broker's.
func (h *History) Read(ctx context.Context, r Range) (events []broker.Event, cut bool, err error) {
	if r.UpTo <= r.After {
		return nil, false, nil
	}
	var looks int
	if r.Keep == KeepNewest {
		events, cut, looks, err = h.readNewest(ctx, r)
	} else {
		events, cut, looks, err = h.read(ctx, r)
	}
	if err != nil || looks < 2 || len(events) == 0 {
		return events, cut, err
	}
	return h.leaveOutTrimmed(ctx, r.Log, events, cut)
}

// leaveOutTrimmed is for events that were read in several looks. Trimming goes on
// between them: an event may have been read, and those behind it gone before they
// were. Without what is trimmed by now the rest has no hole.
func (h *History) leaveOutTrimmed(ctx context.Context, log Log, events []broker.Event, cut bool) ([]broker.Event, bool, error) {
	if there, err := log.Retains(ctx, events[0].Sequence); err != nil || there {
		return events, cut, err
	}
	first, n, err := log.Span(ctx)
	if err != nil {
		return nil, false, err
	}
	if n == 0 {
		return nil, cut, nil
	}
	trimmed := sort.Search(len(events), func(i int) bool { return events[i].Sequence >= first.Sequence })
	return events[trimmed:], cut, nil
}

// read waits for its turn, and for the whole of a range to be looked at.
func (h *History) read(ctx context.Context, r Range) (events []broker.Event, cut bool, looks int, err error) {
	read := &rangeRead{Range: r, done: make(chan struct{})}
	stream := r.Log.Stream()
	if stream < 0 {
		return nil, false, 0, nil // nothing of it is kept
	}
	if !h.queue(stream, read) {
		return nil, false, 0, broker.ErrClosed
	}
	select {
	case <-read.done:
		return read.events, read.cut, read.looks, read.err
	case <-ctx.Done():
		// Who comes back after a timeout asks again: then this would be work
		// for nobody, in the very moment when there is too much of it.
		h.abandon(stream, read)
		return nil, false, 0, fmt.Errorf("read channel %q after %d: %w", r.Log.Ref().Channel, r.After, ctx.Err())
	}
}

// add takes the next event of the range, and reports whether there is room for
// more.
func (r *rangeRead) add(ev broker.Event) bool {
	if ev.Sequence <= r.After || ev.Sequence > r.UpTo || r.cut && r.Keep == KeepOldest {
		return true
	}
	r.bytes += len(ev.Frame)
	r.events = append(r.events, ev)
	for r.tooMuch() {
		r.cut = true
		switch r.Keep {
		case KeepAll:
			r.end(ErrRangeTooLarge)
			return false
		case KeepOldest:
			r.bytes -= len(ev.Frame)
			r.events = r.events[:len(r.events)-1]
			return false
		case KeepNewest:
			r.bytes -= len(r.events[0].Frame)
			r.events[0] = broker.Event{}
			r.events = r.events[1:]
		}
	}
	return true
}

func (r *rangeRead) tooMuch() bool {
	return len(r.events) > r.Events || r.bytes > r.Bytes && len(r.events) > 1
}

// end lets go of what was read; err is the outcome, nil if it will be read
// again.
func (r *rangeRead) end(err error) { r.err, r.events, r.bytes, r.cut = err, nil, 0, false }

func (h *History) readOne(r *rangeRead) {
	defer close(r.done)
	for from := r.After + 1; from <= r.UpTo && !r.abandoned.Load(); {
		r.looks++
		events, more, err := r.Log.ReadTo(h.ctx, from, r.UpTo, min(r.Events+1, fillBatch))
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
