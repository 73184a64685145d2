package api

import (
	"net/http"
	"sync"
	"time"

	"reecho/edge/limit"
)

// slowBody is how long a body may take to come before it makes way for others
// when memory is short. Callers of the API are servers: theirs come in
// milliseconds, and whoever wants to keep them out has to send all of the memory
// in this time. Below it, callers that are many and slow would only push out each
// other.
const slowBody = 250 * time.Millisecond

// memory bounds the bytes of all bodies under way. It counts what has come and
// not what was announced, which costs a caller nothing. Large bodies leave a
// quarter to small ones and these an eighth to the smallest, and those that came
// slowest make way for new ones: senders of bodies that never end, who need a key
// and no secret, do not stop everybody's publishes. It is safe for concurrent use.
type memory struct {
	limit  int64
	ledger *limit.Ledger

	mu             sync.Mutex
	used           int64
	oldest, newest *buffer // those that still come
}

// share is what a body has of a memory, whose lock guards it.
type share struct {
	taken        int64 // bytes
	coming       bool  // it is in the memory's list
	cut          bool  // it had to make way
	since        time.Time
	older, newer *buffer
}

// take makes the share of a body that comes size bytes, unless there is no room.
func (m *memory) take(b *buffer, size int) error {
	if m.grow(b, int64(size), time.Now()) {
		return nil
	}
	return m.full()
}

func (m *memory) full() error {
	m.ledger.Note(limit.RequestMemory)
	return failf(http.StatusServiceUnavailable,
		"The bodies of all requests under way reached the limit of %d bytes (request_memory), try again", m.limit)
}

func (m *memory) grow(b *buffer, size int64, now time.Time) bool {
	bound := m.bound(size)
	m.mu.Lock()
	defer m.mu.Unlock()
	if b.cut {
		return false // also if there is room by now: its reading has been ended
	}
	m.makeWay(b, m.used+size-b.taken-bound, now)
	if m.used+size-b.taken > bound {
		return false
	}
	m.used += size - b.taken
	b.taken = size
	if !b.coming {
		m.append(b, now)
	}
	return true
}

// makeWay cuts off the slowest bodies other than b until they have given back
// missing bytes. What they hold is free in a moment, so it is not waited for.
func (m *memory) makeWay(b *buffer, missing int64, now time.Time) {
	for slow := m.oldest; slow != nil && missing > 0 && now.Sub(slow.since) > slowBody; {
		next := slow.newer
		if slow != b {
			missing -= slow.taken
			m.used -= slow.taken
			m.remove(slow)
			slow.taken, slow.cut = 0, true
			slow.interrupt()
		}
		slow = next
	}
}

// finish is for a body of which nothing more comes. It reports false if it had to
// make way.
func (m *memory) finish(b *buffer) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remove(b)
	return !b.cut
}

// give takes back the share of a body.
func (m *memory) give(b *buffer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= b.taken
	m.remove(b)
	b.share = share{}
}

func (m *memory) append(b *buffer, now time.Time) {
	b.coming, b.since, b.older = true, now, m.newest
	if m.newest != nil {
		m.newest.newer = b
	} else {
		m.oldest = b
	}
	m.newest = b
}

func (m *memory) remove(b *buffer) {
	if !b.coming {
		return
	}
	if b.older != nil {
		b.older.newer = b.newer
	} else {
		m.oldest = b.newer
	}
	if b.newer != nil {
		b.newer.older = b.older
	} else {
		m.newest = b.older
	}
	b.coming, b.older, b.newer = false, nil, nil
}

// bound is what all may have together for one of them to grow to size bytes. It
// is lower for large ones: with one bound for all, the first moment of 1,200
// unfinished bodies of 60 KiB, before any is slow, cost every honest publish a
// 503; now that takes the whole memory in bodies of firstBuffer within slowBody.
func (m *memory) bound(size int64) int64 {
	switch {
	case size > keepBuffer:
		return m.limit - m.limit/4
	case size > firstBuffer:
		return m.limit - m.limit/8
	}
	return m.limit
}

// largest is the largest body that there can ever be room for, in bytes.
func (m *memory) largest() int {
	size := min(m.bound(firstBuffer), firstBuffer)
	size = max(size, min(m.bound(keepBuffer), keepBuffer), m.bound(keepBuffer+1))
	return int(size - 1)
}
