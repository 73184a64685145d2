package edge

import (
	"context"
	"time"

	"reecho/edge/pusher"
)

// Bounds of what a shard writes in one go. More events per writev cost less
// per delivery (DESIGN §7); the bounds keep the first of them from waiting and
// the scratch memory small.
const (
	maxBatchEvents = 64
	maxBatchBytes  = 64 << 10
	maxBatchRefs   = 1 << 16
)

// coalesceSubscribers is the number of subscribers from which copying a
// channel's frames into one buffer is cheaper than a scatter list for each.
const coalesceSubscribers = 4

// tickPeriod is how often a shard looks at the clocks of its clients.
const tickPeriod = time.Second

// A shard writes to its own share of the clients. It owns their places in the
// subscriber lists, so that fan-out iterates without a lock; everything reaches
// it through its inbox, in order.
type shard struct {
	index int
	inbox *inbox

	// Owned by run.
	clients []*client
	dirty   []*client // clients with linked frames
	refs    []ref     // the links; index 0 is unused
	frames  [][]byte  // scratch of one Send
}

// ref is a link in a client's list of frames to write.
type ref struct {
	frame []byte
	next  int32
}

// entry is a place in a subscriber list.
type entry struct {
	client *client
	sub    *subscription
}

func newShard(index int) *shard {
	return &shard{index: index, inbox: newInbox(), refs: make([]ref, 1, 256)}
}

// run works until ctx ends; what is in the inbox then is still written.
func (s *shard) run(ctx context.Context) {
	ticker := time.NewTicker(tickPeriod)
	defer ticker.Stop()
	var ops []op
	for {
		select {
		case <-s.inbox.wake:
			ops = s.drain(ops)
		case now := <-ticker.C:
			for _, c := range s.clients {
				c.tick(now)
			}
		case <-ctx.Done():
			s.inbox.close()
			s.drain(ops)
			return
		}
	}
}

func (s *shard) drain(spare []op) []op {
	ops := s.inbox.take(spare)
	for rest := ops; len(rest) > 0; {
		n, whole := plainRun(rest)
		if whole {
			s.broadcast(rest[:n])
		} else {
			n = s.batch(rest)
		}
		bytes := 0
		for i := range rest[:n] {
			bytes += rest[i].bytes()
		}
		s.inbox.done(n, bytes)
		rest = rest[n:]
	}
	clear(ops)
	return ops
}

// plainRun is the number of leading ops that are events of one channel for
// all its subscribers, as many as go out together. It is whole if nothing else
// stopped it: then no client can get something of another channel with it.
func plainRun(ops []op) (n int, whole bool) {
	bytes := 0
	for n < len(ops) && n < maxBatchEvents {
		o := &ops[n]
		if o.kind != opEvent || o.ch != ops[0].ch || o.except != (pusher.SocketID{}) {
			return n, false
		}
		bytes += len(o.frame)
		if n > 0 && bytes > maxBatchBytes {
			return n, true
		}
		n++
	}
	return n, true
}

// broadcast writes a plain run to the channel's subscribers, the same bytes to
// each.
func (s *shard) broadcast(ops []op) {
	subscribers := ops[0].ch.lists[s.index]
	frames := s.frames[:0]
	if len(ops) > 1 && len(subscribers) >= coalesceSubscribers {
		frames = append(frames, joined(ops))
	} else {
		for i := range ops {
			frames = append(frames, ops[i].frame)
		}
	}
	for i := range subscribers {
		_ = subscribers[i].client.conn.Send(frames) // a failed connection reports itself by Closed
	}
	clear(frames)
	s.frames = frames
}

// joined returns the frames of ops in one new buffer: slow connections may
// keep it.
func joined(ops []op) []byte {
	size := 0
	for i := range ops {
		size += len(ops[i].frame)
	}
	all := make([]byte, 0, size)
	for i := range ops {
		all = append(all, ops[i].frame...)
	}
	return all
}

// batch does leading ops, collecting what each client gets, then writes to
// each client once. It returns how many ops it did.
func (s *shard) batch(ops []op) int {
	n, events := 0, 0
	for n < len(ops) && events < maxBatchEvents && len(s.refs) < maxBatchRefs {
		if ops[n].kind == opEvent {
			events++
		}
		s.do(&ops[n])
		n++
	}
	for _, c := range s.dirty {
		s.flush(c)
	}
	clear(s.dirty)
	s.dirty = s.dirty[:0]
	clear(s.refs)
	s.refs = s.refs[:1]
	return n
}

func (s *shard) do(o *op) {
	switch o.kind {
	case opEvent:
		for _, e := range o.ch.lists[s.index] {
			if e.client.id != o.except {
				s.link(e.client, o.frame)
			}
		}
	case opJoin:
		s.link(o.client, o.frame)
		if o.cached != nil {
			s.link(o.client, o.cached)
		}
		list := &o.ch.lists[s.index]
		o.sub.index = int32(len(*list)) //nolint:gosec // far fewer subscribers than 2^31
		*list = append(*list, entry{client: o.client, sub: o.sub})
	case opLeave:
		s.leave(o.ch, o.sub)
	case opReply:
		s.link(o.client, o.frame)
	case opAdd:
		o.client.index = int32(len(s.clients)) //nolint:gosec // far fewer clients than 2^31
		s.clients = append(s.clients, o.client)
		if o.client.app.channels.hub.census.isClosing() {
			// Admitted just before, its wave may be over.
			o.client.closeWith(shuttingDown())
		}
	case opRemove:
		s.remove(o.client)
	case opDrain:
		for _, c := range s.clients {
			if c.id.A%drainWaves == o.wave {
				c.closeWith(shuttingDown())
			}
		}
	}
}

func (s *shard) leave(ch *channel, sub *subscription) {
	list := ch.lists[s.index]
	end := len(list) - 1
	moved := list[end]
	list[sub.index], moved.sub.index = moved, sub.index
	list[end] = entry{}
	list = list[:end]
	if end == 0 {
		list = nil
	}
	ch.lists[s.index] = list
}

func (s *shard) remove(c *client) {
	end := len(s.clients) - 1
	moved := s.clients[end]
	s.clients[c.index], moved.index = moved, c.index
	s.clients[end] = nil
	s.clients = s.clients[:end]
}

// link appends frame to what c gets at the end of the batch.
func (s *shard) link(c *client, frame []byte) {
	at := int32(len(s.refs)) //nolint:gosec // bounded near maxBatchRefs
	s.refs = append(s.refs, ref{frame: frame})
	if c.firstRef == 0 {
		c.firstRef = at
		s.dirty = append(s.dirty, c)
	} else {
		s.refs[c.lastRef].next = at
	}
	c.lastRef = at
}

func (s *shard) flush(c *client) {
	frames := s.frames[:0]
	for at := c.firstRef; at != 0; at = s.refs[at].next {
		frames = append(frames, s.refs[at].frame)
	}
	c.firstRef, c.lastRef = 0, 0
	_ = c.conn.Send(frames) // a failed connection reports itself by Closed
	clear(frames)
	s.frames = frames
}
