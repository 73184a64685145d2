package socket

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// crowd is how many queues wait at once when it is no longer a peer that is
	// slow but what lies between: an uplink, a proxy.
	crowd = 100
	// stride is how much a peer takes at once, for all that can be seen: what a
	// proxy reads, and what a receiver reads before its kernel tells (a segment
	// of the loopback, or of a card that joins them).
	stride = 64 << 10
	// maxPatience is how many write timeouts a peer of a crowd has at most.
	maxPatience = 6
	// paceSeconds is over how long the pace of the crowd is measured.
	paceSeconds = 4
)

// pace is how fast all queues together are taken.
type pace struct {
	taken  atomic.Int64 // bytes, since the start
	second atomic.Int64 // of the newest mark

	mu    sync.Mutex
	marks [paceSeconds + 1]int64 // taken, at each of the last seconds
}

// sample sets the mark of a second. It is called at least once in each while
// something waits.
func (p *pace) sample(now time.Duration) {
	second := int64(now / time.Second)
	if second <= p.second.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	taken, last := p.taken.Load(), p.second.Load()
	for s := max(last+1, second-paceSeconds); s <= second; s++ {
		p.marks[s%int64(len(p.marks))] = taken
	}
	p.second.Store(max(last, second))
}

// perSecond is the pace in bytes, at least 1.
func (p *pace) perSecond() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	second := p.second.Load()
	first := p.marks[(second+1)%int64(len(p.marks))]
	return max(1, (p.taken.Load()-first)/paceSeconds)
}

// patience is how long a peer may take nothing. A link that many share serves
// them in turn, and the more there are the longer it takes until a peer shows
// that it reads: a thousand on 20 Mbit/s, 64 KiB each, are 26 s. A peer of a
// crowd has the time of two such turns, if that is more than the timeout, and
// at most six timeouts.
func (b *Budget) patience(timeout time.Duration) time.Duration {
	b.mu.RLock()
	waiting := len(b.queues)
	b.mu.RUnlock()
	if waiting < crowd {
		return timeout
	}
	turn := float64(waiting) * stride / float64(b.pace.perSecond()) * float64(time.Second)
	return time.Duration(min(max(2*turn, float64(timeout)), float64(maxPatience*timeout)))
}
