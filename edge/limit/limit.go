// Package limit is what bounds clients: token buckets, counts by address, and
// the ledger of what was refused. It knows no client and does no I/O but the
// ledger's log lines.
package limit

import (
	"net/netip"
	"sync"
	"time"
)

// Bucket is a token bucket. The zero value is full. It is not safe for
// concurrent use.
type Bucket struct {
	spent float32 // tokens missing from a full bucket
	at    int64   // when spent was computed, Unix nanoseconds
}

// Take takes n tokens of a bucket that holds burst and gains perSecond a
// second. It reports false, with nothing taken, when there are fewer than n. A
// full bucket gives whatever is asked, so that one large request is not refused
// for ever; it has to be earned back.
func (b *Bucket) Take(n, perSecond, burst int, now time.Time) bool {
	b.refill(perSecond, now)
	if b.spent > 0 && b.spent+float32(n) > float32(burst) {
		return false
	}
	b.spent += float32(n)
	return true
}

func (b *Bucket) refill(perSecond int, now time.Time) {
	ns := now.UnixNano()
	// A clock that was set back gives nothing, and takes nothing away.
	b.spent = max(0, b.spent-float32(time.Duration(max(0, ns-b.at)).Seconds())*float32(perSecond))
	b.at = ns
}

// Window counts what comes within a span of time that begins with the first of it.
// The zero value is empty. It is not safe for concurrent use.
type Window struct {
	count int
	began time.Time
}

// Take counts one more and reports true, or reports false if there were most of them
// since the window began; it begins anew with what comes after span. (Laravel's
// RateLimiter counts so.)
func (w *Window) Take(most int, span time.Duration, now time.Time) bool {
	if w.count > 0 && now.Sub(w.began) >= span {
		w.count = 0
	}
	if w.count >= most {
		return false
	}
	if w.count == 0 {
		w.began = now
	}
	w.count++
	return true
}

// Address is what one client has of the address space: an IPv4 address, or the
// /64 of an IPv6 address, of which a host may choose any. The zero Addr, of a
// peer without one (a Unix socket), is an address like others.
func Address(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if !a.Is6() {
		return a
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}

// maxAddresses bounds the memory of a table, about 100 bytes for each. Above it
// addresses that are not in the table share one entry.
const maxAddresses = 100_000

// Rates is a token bucket for each address. The zero value is ready. It is safe
// for concurrent use.
type Rates struct {
	mu      sync.Mutex
	buckets map[netip.Addr]*Bucket
	rest    Bucket // of addresses for which there is no room
	swept   int64  // Unix nanoseconds
}

// Take is Bucket.Take of the bucket of an address (see Address).
func (r *Rates) Take(a netip.Addr, n, perSecond, burst int, now time.Time) bool {
	a = Address(a)
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.buckets[a]
	if b == nil {
		b = r.addLocked(a, perSecond, now)
	}
	return b.Take(n, perSecond, burst, now)
}

func (r *Rates) addLocked(a netip.Addr, perSecond int, now time.Time) *Bucket {
	if len(r.buckets) >= maxAddresses {
		r.sweepLocked(perSecond, now)
	}
	if len(r.buckets) >= maxAddresses {
		return &r.rest
	}
	if r.buckets == nil {
		r.buckets = make(map[netip.Addr]*Bucket)
	}
	b := &Bucket{at: now.UnixNano()}
	r.buckets[a] = b
	return b
}

// sweepLocked forgets full buckets, at most once a second: going through the
// table for each newcomer would be the attack it is to stop.
func (r *Rates) sweepLocked(perSecond int, now time.Time) {
	if now.UnixNano()-r.swept < int64(time.Second) {
		return
	}
	r.swept = now.UnixNano()
	for a, b := range r.buckets {
		if b.refill(perSecond, now); b.spent == 0 {
			delete(r.buckets, a)
		}
	}
}

// Counts is how many there are of something for each address. The zero value is
// ready. It is safe for concurrent use.
type Counts struct {
	mu     sync.Mutex
	counts map[netip.Addr]int
}

// Enter counts one more for an address (see Address), unless there are limit
// already; 0 is no limit. Each Enter that reported true needs a Leave.
func (c *Counts) Enter(a netip.Addr, limit int) bool {
	a = Address(a)
	c.mu.Lock()
	defer c.mu.Unlock()
	if limit > 0 && c.counts[a] >= limit {
		return false
	}
	if c.counts == nil {
		c.counts = make(map[netip.Addr]int)
	}
	c.counts[a]++
	return true
}

// Leave ends one Enter.
func (c *Counts) Leave(a netip.Addr) {
	a = Address(a)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts[a]--; c.counts[a] <= 0 {
		delete(c.counts, a)
	}
}
