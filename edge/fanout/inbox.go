package fanout

import "sync"

// Marks of an inbox's backlog. Above the high mark whoever feeds the shards
// waits (Pool.Wait); below the low mark it goes on. An event op is shared
// by all its members, so the bytes are frames, not deliveries.
const (
	inboxHighOps   = 8192
	inboxLowOps    = 4096
	inboxHighBytes = 16 << 20
	inboxLowBytes  = 8 << 20
)

// inboxKeepOps is the largest buffer an inbox keeps between drains.
const inboxKeepOps = 16384

// inbox is the queue of one shard: any goroutine pushes, the shard takes all
// there is. Pushing never blocks, so it may be done under a lock; the bound is
// kept by wait, which feeders call without one.
type inbox struct {
	mu      sync.Mutex
	relief  sync.Cond // backlog fell below the low mark, or closed
	ops     []op
	backlog int // ops pushed and not yet done
	bytes   int // their bytes
	waiters int
	closed  bool

	wake chan struct{} // capacity 1; never closed
}

func newInbox() *inbox {
	in := &inbox{wake: make(chan struct{}, 1)}
	in.relief.L = &in.mu
	return in
}

// push queues o. After close it does nothing.
func (in *inbox) push(o *op) {
	in.mu.Lock()
	if in.closed {
		in.mu.Unlock()
		return
	}
	in.ops = append(in.ops, *o)
	in.backlog++
	in.bytes += o.bytes()
	first := len(in.ops) == 1
	in.mu.Unlock()
	if first {
		select {
		case in.wake <- struct{}{}:
		default:
		}
	}
}

// take swaps the queued ops for the empty buffer spare.
func (in *inbox) take(spare []op) []op {
	if cap(spare) > inboxKeepOps {
		spare = nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	ops := in.ops
	in.ops = spare[:0]
	return ops
}

// done says that ops taken before are finished.
func (in *inbox) done(ops, bytes int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.backlog -= ops
	in.bytes -= bytes
	if in.waiters > 0 && in.backlog <= inboxLowOps && in.bytes <= inboxLowBytes {
		in.relief.Broadcast()
	}
}

// wait blocks while the backlog is above the high mark, until it is below the
// low mark or the inbox is closed. Only goroutines that the shard never waits
// for may call it, and without any lock.
func (in *inbox) wait() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.backlog <= inboxHighOps && in.bytes <= inboxHighBytes {
		return
	}
	in.waiters++
	for !in.closed && (in.backlog > inboxLowOps || in.bytes > inboxLowBytes) {
		in.relief.Wait()
	}
	in.waiters--
}

// close makes push a no-op and releases all waiters.
func (in *inbox) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	in.relief.Broadcast()
}
