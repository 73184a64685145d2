// Package histogram counts durations by how long they were, for whoever reads it once
// in a while. To count takes no lock and no memory.
package histogram

import (
	"sync/atomic"
	"time"
)

// Bounds are the upper bounds of the buckets, in ascending order: from what an event
// takes into the memory of this machine to what is given up.
var Bounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// Histogram is such a count. The zero value is empty. It is safe for concurrent use.
type Histogram struct {
	buckets [len(Bounds) + 1]atomic.Uint64 // the last is of what is above all bounds
	sum     atomic.Int64                   // nanoseconds
}

// Observe counts a duration.
func (h *Histogram) Observe(d time.Duration) {
	at := 0
	for at < len(Bounds) && d > Bounds[at] {
		at++
	}
	h.buckets[at].Add(1)
	h.sum.Add(int64(d))
}

// Snapshot is what was counted.
type Snapshot struct {
	Count uint64
	Sum   time.Duration
	// Cumulative is how many were at most as long as each of Bounds.
	Cumulative [len(Bounds)]uint64
}

// Snapshot returns it. What is counted meanwhile is in some of it.
func (h *Histogram) Snapshot() (s Snapshot) {
	for i := range h.buckets {
		s.Count += h.buckets[i].Load()
		if i < len(Bounds) {
			s.Cumulative[i] = s.Count
		}
	}
	s.Sum = time.Duration(h.sum.Load())
	return s
}
