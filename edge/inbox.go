package edge

import (
	"sync"

	"reecho/edge/pusher"
)

// Marks of an inbox's backlog. Above the high mark whoever feeds the shards
// waits (Hub.throttle); below the low mark it goes on. An event op is shared
// by all its subscribers, so the bytes are frames, not deliveries.
const (
	inboxHighOps   = 8192
	inboxLowOps    = 4096
	inboxHighBytes = 16 << 20
	inboxLowBytes  = 8 << 20
)

// inboxKeepOps is the largest buffer an inbox keeps between drains.
const inboxKeepOps = 16384

// op is one thing a shard has to do. Which fields count depends on kind.
type op struct {
	kind   opKind
	except pusher.SocketID // opEvent: the socket left out; zero: none
	ch     *channel        // opEvent, opMember, opJoin, opLeave, opGap
	client *client         // all but opEvent
	sub    *subscription   // opJoin, opLeave; opMember: one of the member
	frame  []byte          // opEvent, opMember, opReply, opTell, opGap
	more   [][]byte        // opJoin, opSend: the frames; nil ones are left out
	wave   uint32          // opDrain

	// Of a stored event (opEvent): its sequence, and the frame with its
	// position, nil if nobody wanted it when it came.
	sequence   uint64
	positioned []byte

	done chan<- struct{} // opJoin, opSend: closed when the frames are given to the connection; may be nil
}

type opKind uint8

const (
	opEvent  opKind = iota // write frame to each subscriber of ch but except
	opMember               // write frame to the subscribers of ch that are not of the member of sub
	opJoin                 // write more to client, register sub, then close done
	opLeave                // unregister sub
	opGap                  // write frame to the subscribers of ch that are told of gaps
	opReply                // write frame to client, which asked for it
	opTell                 // write frame to client
	opSend                 // write more to client, which asked for it, then close done
	opPong                 // client answered a ping
	opAdd                  // own client: tick it
	opRemove               // forget client
	opDrain                // close the clients of this wave with 4200
)

func (o *op) bytes() int {
	n := len(o.frame)
	for _, f := range o.more {
		n += len(f)
	}
	return n
}

// answers is how many frames the client of an opReply, opJoin or opSend is
// owed, and their bytes.
func (o *op) answers() (frames, bytes int) {
	if o.kind == opReply {
		return 1, len(o.frame)
	}
	for _, f := range o.more {
		if f != nil {
			frames++
			bytes += len(f)
		}
	}
	return frames, bytes
}

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
