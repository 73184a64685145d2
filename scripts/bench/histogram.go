//go:build linux

package main

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// histogram counts durations in buckets of about 3 % width. Adding is safe for
// concurrent use.
type histogram struct {
	buckets [64 * subBuckets]atomic.Int64
	max     atomic.Int64
}

// subBuckets are the buckets for each power of two.
const subBuckets = 32

func bucket(ns int64) int {
	if ns < subBuckets {
		return int(max(ns, 0))
	}
	shift := bits.Len64(uint64(ns)) - 6
	return (shift+1)*subBuckets + int(ns>>shift) - subBuckets
}

// bound is the upper bound of a bucket.
func bound(i int) time.Duration {
	if i < subBuckets {
		return time.Duration(i)
	}
	shift := i/subBuckets - 1
	return time.Duration((int64(i%subBuckets)+subBuckets+1)<<shift - 1)
}

func (h *histogram) add(d time.Duration) {
	ns := int64(d)
	h.buckets[bucket(ns)].Add(1)
	for {
		old := h.max.Load()
		if ns <= old || h.max.CompareAndSwap(old, ns) {
			return
		}
	}
}

func (h *histogram) reset() {
	for i := range h.buckets {
		h.buckets[i].Store(0)
	}
	h.max.Store(0)
}

// merge adds what another one counted.
func (h *histogram) merge(other *histogram) {
	for i := range other.buckets {
		h.buckets[i].Add(other.buckets[i].Load())
	}
	h.max.Store(max(h.max.Load(), other.max.Load()))
}

func (h *histogram) count() int64 {
	total := int64(0)
	for i := range h.buckets {
		total += h.buckets[i].Load()
	}
	return total
}

// quantile returns the duration below which the share q of all is.
func (h *histogram) quantile(q float64) time.Duration {
	want := int64(q * float64(h.count()))
	seen := int64(0)
	for i := range h.buckets {
		if seen += h.buckets[i].Load(); seen > want {
			return min(bound(i), time.Duration(h.max.Load()))
		}
	}
	return time.Duration(h.max.Load())
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
