package edge

import (
	"context"
	"runtime"
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
	maxBatchReplay = 1024 // events sent again
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
	own   bool // it answers a message of the client
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
			s.flushAll()
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
		// Else it would be preempted only every 10 ms, and an event on its way
		// here is handed from goroutine to goroutine several times. Whoever has
		// the turn fills the next batch.
		runtime.Gosched()
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
// each of a kind.
func (s *shard) broadcast(ops []op) {
	a := &ops[0].ch.audiences[s.index]
	if len(a.plain) > 0 {
		s.sendAll(a.plain, ops, (*op).plainFrame)
	}
	if len(a.positioned) > 0 {
		s.sendAll(a.positioned, ops, (*op).positionedFrame)
	}
	a.passed(ops[len(ops)-1].sequence)
}

// sendAll writes the ops' frames to subscribers.
func (s *shard) sendAll(subscribers []entry, ops []op, frame func(*op) []byte) {
	frames := s.frames[:0]
	for i := range ops {
		frames = append(frames, frame(&ops[i]))
	}
	if len(frames) > 1 && len(subscribers) >= coalesceSubscribers {
		all := joined(frames)
		clear(frames)
		frames = append(frames[:0], all)
	}
	for i := range subscribers {
		_ = subscribers[i].client.conn.Send(frames) // a failed connection reports itself by Closed
	}
	clear(frames)
	s.frames = frames
}

func (o *op) plainFrame() []byte { return o.frame }

// positionedFrame is the frame for those who want positions. What is not stored
// has none.
func (o *op) positionedFrame() []byte {
	if o.positioned != nil {
		return o.positioned
	}
	return o.frame
}

// passed notes that the audience got everything up to a stored event; 0 is one
// that is not stored.
func (a *audience) passed(sequence uint64) {
	if sequence != 0 {
		a.done = sequence
	}
}

// joined returns the frames in one new buffer: slow connections may keep it.
func joined(frames [][]byte) []byte {
	size := 0
	for _, f := range frames {
		size += len(f)
	}
	all := make([]byte, 0, size)
	for _, f := range frames {
		all = append(all, f...)
	}
	return all
}

// batch does leading ops, collecting what each client gets, then writes to
// each client once. It returns how many ops it did.
func (s *shard) batch(ops []op) int {
	n, events, replayed := 0, 0, 0
	for n < len(ops) && events < maxBatchEvents && replayed < maxBatchReplay && len(s.refs) < maxBatchRefs {
		o := &ops[n]
		if o.kind == opEvent {
			events++
		}
		replayed += len(o.more)
		s.do(o)
		n++
	}
	s.flushAll()
	for i := range ops[:n] {
		if ops[i].done != nil {
			close(ops[i].done)
		}
	}
	return n
}

// flushAll writes what is linked.
func (s *shard) flushAll() {
	for _, c := range s.dirty {
		s.flush(c)
	}
	clear(s.dirty)
	s.dirty = s.dirty[:0]
	clear(s.refs)
	s.refs = s.refs[:1]
}

func (s *shard) do(o *op) {
	switch o.kind {
	case opEvent:
		a := &o.ch.audiences[s.index]
		s.linkAll(a.plain, o, o.frame)
		s.linkAll(a.positioned, o, o.positionedFrame())
		a.passed(o.sequence)
	case opMember:
		s.linkOthers(o)
	case opGap:
		s.gap(o)
	case opJoin:
		s.linkFrames(o)
		s.join(o)
	case opLeave:
		s.leave(o.ch, o.sub)
	case opReply:
		s.link(o.client, o.frame, true)
	case opTell:
		s.link(o.client, o.frame, false)
	case opSend:
		s.linkFrames(o)
	case opPong:
		o.client.session.ponged()
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
			if c.id.A%drainWaves == uint64(o.wave) {
				s.drainClient(c)
			}
		}
	}
}

func (s *shard) linkAll(subscribers []entry, o *op, frame []byte) {
	for _, e := range subscribers {
		if e.client.id != o.except {
			s.link(e.client, frame, false)
		}
	}
}

// linkOthers links a frame about a member for all who are somebody else.
func (s *shard) linkOthers(o *op) {
	a := &o.ch.audiences[s.index]
	for _, list := range [...][]entry{a.plain, a.positioned} {
		for _, e := range list {
			if e.sub.userID != o.sub.userID {
				s.link(e.client, o.frame, false)
			}
		}
	}
}

func (s *shard) linkFrames(o *op) {
	for _, frame := range o.more {
		if frame != nil {
			s.link(o.client, frame, true)
		}
	}
}

func (s *shard) gap(o *op) {
	a := &o.ch.audiences[s.index]
	for _, list := range [...][]entry{a.plain, a.positioned} {
		for _, e := range list {
			if e.sub.told {
				s.link(e.client, o.frame, false)
			}
		}
	}
}

func (s *shard) join(o *op) {
	list := o.ch.audiences[s.index].list(o.sub.positioned)
	o.sub.index = int32(len(*list)) //nolint:gosec // far fewer subscribers than 2^31
	*list = append(*list, entry{client: o.client, sub: o.sub})
	if o.client.session != nil {
		o.client.session.joined(o.sub)
	}
}

// leave takes sub out of its audience, once.
func (s *shard) leave(ch *channel, sub *subscription) {
	if sub.index < 0 {
		return
	}
	list := ch.audiences[s.index].list(sub.positioned)
	end := len(*list) - 1
	client, moved := (*list)[sub.index].client, (*list)[end]
	(*list)[sub.index], moved.sub.index = moved, sub.index
	(*list)[end] = entry{}
	*list = (*list)[:end]
	if end == 0 {
		*list = nil
	}
	sub.index = -1
	if client.session != nil {
		client.session.left(sub)
	}
}

// drainClient tells a client to reconnect. One with a session is asked first
// what it got, so that nothing has to be repeated to it: it gets nothing more
// meanwhile, and its pong or the next tick ends it.
func (s *shard) drainClient(c *client) {
	if c.session == nil || !c.session.lastPing() {
		c.closeWith(shuttingDown())
		return
	}
	for _, sub := range c.session.shardSubs() {
		s.leave(sub.ch, sub)
	}
}

func (s *shard) remove(c *client) {
	end := len(s.clients) - 1
	moved := s.clients[end]
	s.clients[c.index], moved.index = moved, c.index
	s.clients[end] = nil
	s.clients = s.clients[:end]
}

// link appends frame to what c gets at the end of the batch. own says that it
// answers a message of c.
func (s *shard) link(c *client, frame []byte, own bool) {
	at := int32(len(s.refs)) //nolint:gosec // bounded near maxBatchRefs
	s.refs = append(s.refs, ref{frame: frame, own: own})
	if c.firstRef == 0 {
		c.firstRef = at
		s.dirty = append(s.dirty, c)
	} else {
		s.refs[c.lastRef].next = at
	}
	c.lastRef = at
}

// flush writes what is linked to c: in one go, but answers to its own messages
// apart from the rest.
func (s *shard) flush(c *client) {
	refs, at := s.refs, c.firstRef
	c.firstRef, c.lastRef = 0, 0
	for at != 0 {
		frames, own := s.frames[:0], refs[at].own
		for at != 0 && refs[at].own == own {
			r := &refs[at]
			frames, at = append(frames, r.frame), r.next
		}
		if own {
			_ = c.conn.Answer(frames) // a failed connection reports itself by Closed
		} else {
			_ = c.conn.Send(frames) // the same
		}
		clear(frames)
		s.frames = frames
	}
}
