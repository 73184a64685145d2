package limit

import (
	"sync"
	"time"
)

// Budget is a Bucket that is shared, and of which what was not used is given
// back. The zero value is full. It is safe for concurrent use.
type Budget struct {
	mu     sync.Mutex
	bucket Bucket
}

// Take is Bucket.Take; when it refuses it says how long it takes until there
// are n tokens, or the bucket is full.
func (b *Budget) Take(n, perSecond, burst int, now time.Time) (ok bool, after time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bucket.Take(n, perSecond, burst, now) {
		return true, 0
	}
	missing := b.bucket.spent - float32(max(burst-n, 0))
	return false, time.Duration(float64(missing) / float64(perSecond) * float64(time.Second))
}

// Return gives back n of what was taken.
func (b *Budget) Return(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bucket.spent = max(0, b.bucket.spent-float32(n))
}
