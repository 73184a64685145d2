package socket

// queueOverhead is counted for each queued frame beside its bytes, so that
// tiny frames (pongs) cannot take much more memory than the limit says.
const queueOverhead = 32

// outbox holds the frames that the kernel did not take yet. It exists only
// while there are some. The frames are shared and never changed.
type outbox struct {
	entries []outgoing
	head    int // entries before it are done
	written int // bytes of entries[head] that are done
	busy    int // entries that a writer works on without the lock
	cost    int
}

type outgoing struct {
	frame []byte
	at    int64 // server clock
}

func frameCost(frame []byte) int { return len(frame) + queueOverhead }

func (o *outbox) empty() bool { return o.head == len(o.entries) }

// push appends frame, the first skip bytes of which are already written.
func (o *outbox) push(frame []byte, skip int, now int64) {
	switch {
	case o.empty():
		o.entries, o.head, o.written = o.entries[:0], 0, skip
	case o.head > len(o.entries)/2 && len(o.entries) == cap(o.entries):
		n := copy(o.entries, o.entries[o.head:])
		clear(o.entries[n:])
		o.entries, o.head = o.entries[:n], 0
	}
	o.entries = append(o.entries, outgoing{frame: frame, at: now})
	o.cost += frameCost(frame)
}

// oldest is when the frame that waits longest was queued.
func (o *outbox) oldest() int64 { return o.entries[o.head].at }

// advance takes n written bytes off the front.
func (o *outbox) advance(n int) {
	for n > 0 {
		e := &o.entries[o.head]
		left := len(e.frame) - o.written
		if n < left {
			o.written += n
			return
		}
		n -= left
		o.cost -= frameCost(e.frame)
		*e = outgoing{}
		o.head++
		o.written = 0
	}
}

// drop forgets the frames of which nothing is written yet. One that has begun
// must be finished, else the peer could not read what follows.
func (o *outbox) drop() {
	keep := o.busy
	if keep == 0 && o.written > 0 {
		keep = 1
	}
	for i := o.head + keep; i < len(o.entries); i++ {
		o.cost -= frameCost(o.entries[i].frame)
		o.entries[i] = outgoing{}
	}
	o.entries = o.entries[:min(o.head+keep, len(o.entries))]
}

// appendBytes appends up to limit bytes from the front to dst and marks their
// frames busy. The first frame is taken whole in any case.
func (o *outbox) appendBytes(dst []byte, limit int) []byte {
	o.busy = 0
	skip := o.written
	for _, e := range o.entries[o.head:] {
		if o.busy > 0 && len(dst)+len(e.frame) > limit {
			break
		}
		dst = append(dst, e.frame[skip:]...)
		skip = 0
		o.busy++
	}
	return dst
}
