package replay

import (
	"context"
	"slices"

	"reecho/broker"
)

// The newest events of a channel are found from the end: a stream reads a
// channel forwards only, and looks at every event between two of it, so that
// reading all of a long log for the newest few costs a hundred times of what is
// wanted. A window that ends where it is known is as wide as should hold what is
// wanted, judged by how many events the channel has between its oldest and its
// newest; further windows are before it, and none is read twice.

const (
	// minWindow is the narrowest window, in sequences of the stream: what is
	// passed over costs less than the request.
	minWindow = 256
	// maxGrowth bounds how much wider a window is than the one behind it.
	maxGrowth = 8
)

// window is where the newest events of a range are looked for.
type window struct {
	low, high uint64 // above low, up to high
	floor     uint64 // nothing of the range is at or below
	start     uint64 // high of the first window
	found     int    // in all windows
}

// firstWindow should hold want of the events that a channel has since its
// oldest one.
func firstWindow(r *Range, oldest uint64, retained, want int) window {
	w := window{high: r.UpTo, start: r.UpTo, floor: max(r.After, oldest-1)}
	span := r.UpTo - oldest + 1
	w.low = w.below(width(want, span, retained))
	return w
}

// width is how many sequences hold want events if span of them hold found, and
// a quarter more: events do not come evenly.
func width(want int, span uint64, found int) uint64 {
	perEvent := float64(span) / float64(max(found, 1))
	return max(minWindow, uint64(1.25*perEvent*float64(want)))
}

// below is width under high, but not under the floor.
func (w *window) below(width uint64) uint64 {
	return max(w.floor, w.high-min(w.high, width))
}

// next moves to the window before, in which want events are still looked for,
// after so many were found in this one. It reports false at the floor.
func (w *window) next(found, want int) bool {
	if w.low <= w.floor {
		return false
	}
	w.found += found
	size := w.high - w.low
	next := uint64(maxGrowth) * size
	if w.found > 0 {
		next = min(next, width(want, w.start-w.low, w.found))
	}
	if found < want {
		// Else a channel that grows thinner all the way back would be read one
		// event at a time.
		next = max(next, 2*size)
	}
	w.high = w.low
	w.low = w.below(next)
	return true
}

// readNewest reads the newest events of a range, each window in its turn.
func (h *History) readNewest(ctx context.Context, r Range) (events []broker.Event, older bool, looks int, err error) {
	oldest, retained, err := r.Log.Span(ctx)
	if err != nil || retained == 0 || oldest.Sequence > r.UpTo {
		return nil, false, 0, err
	}
	// One more than wanted shows whether there are older ones.
	want := r.Events + 1
	var parts [][]broker.Event // the newest first
	n, bytes := 0, 0
	for w, more := firstWindow(&r, oldest.Sequence, retained, want), true; more; {
		part := r
		part.After, part.UpTo = w.low, w.high
		part.Events, part.Bytes = want-n, max(r.Bytes-bytes, 0)
		found, cut, seen, err := h.read(ctx, part)
		if err != nil {
			return nil, false, 0, err
		}
		looks += seen
		parts = append(parts, found)
		n += len(found)
		for i := range found {
			bytes += len(found[i].Frame)
		}
		if cut || n == want || bytes > r.Bytes && n > 1 {
			older = cut
			break
		}
		more = w.next(len(found), want-n)
	}
	slices.Reverse(parts)
	all := rangeRead{Range: r}
	for _, ev := range slices.Concat(parts...) {
		all.add(ev)
	}
	return all.events, older || all.cut, looks, nil
}
