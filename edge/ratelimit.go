package edge

import (
	"sync/atomic"
	"time"
)

// tokenBucket allows a number of events a second, and as many at once after a
// quiet second. The zero value is full.
type tokenBucket struct {
	spent float32 // tokens missing from a full bucket
	at    int64   // when spent was computed, Unix nanoseconds
}

// take takes a token of a bucket that holds perSecond and refills at that
// rate. It reports false when there is none.
func (b *tokenBucket) take(perSecond int, now time.Time) bool {
	ns := now.UnixNano()
	refill := float32(time.Duration(ns-b.at).Seconds()) * float32(perSecond)
	b.at = ns
	b.spent = max(0, b.spent-refill)
	if b.spent+1 > float32(perSecond) {
		return false
	}
	b.spent++
	return true
}

// flag is a boolean that is set once.
type flag struct{ value atomic.Bool }

func (f *flag) set()        { f.value.Store(true) }
func (f *flag) isSet() bool { return f.value.Load() }
