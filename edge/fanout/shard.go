package fanout

import (
	"runtime"
	"time"

	"reecho/edge/pusher"
)

// Bounds of what a shard writes in one go. More events per writev cost less
// per delivery; the bounds keep the first of them from waiting and the scratch
// memory small.
const (
	maxBatchEvents = 64
	maxBatchBytes  = 64 << 10
	maxBatchRefs   = 1 << 16
	maxBatchFrames = 1024 // of joins and sends with many
)

// coalesceMembers is the number of members from which copying a group's frames
// into one buffer is cheaper than a scatter list for each.
const coalesceMembers = 4

// A shard writes to its own share of the members. It owns their places in the
// groups, so that fan-out iterates without a lock; everything reaches it through
// its inbox, in order.
type shard struct {
	index int
	inbox *inbox
	tick  func(now time.Time) // looks at the members' clocks

	// Owned by run.
	dirty   []*Member // members with frames lined up
	refs    []ref     // the links; index 0 is unused
	frames  [][]byte  // scratch of one Send
	earlier earlier
	counted Written // of the current batch

	written  counters
	received counters
}

// ref is a link in a member's list of frames to write.
type ref struct {
	frame []byte
	next  int32
	own   bool // it answers a message of the member
}

func newShard(index int) *shard {
	return &shard{index: index, inbox: newInbox(), refs: make([]ref, 1, 256)}
}

// push queues o. It may be called by any goroutine, and never blocks.
func (s *shard) push(o *op) { s.inbox.push(o) }

// call queues a function.
func (s *shard) call(f func()) { s.push(&op{kind: opDo, more: &more{do: f}}) }

// run works until stop is closed; what is in the inbox then is still written.
func (s *shard) run(stop <-chan struct{}) {
	ticker := time.NewTicker(TickPeriod)
	defer ticker.Stop()
	var ops []op
	for {
		select {
		case <-s.inbox.wake:
			ops = s.drain(ops)
		case now := <-ticker.C:
			s.tick(now)
		case <-stop:
			s.inbox.close()
			s.drain(ops)
			return
		}
	}
}

// drain does what is in the inbox, and returns its buffer for the next time.
func (s *shard) drain(spare []op) []op {
	ops := s.inbox.take(spare)
	for rest := ops; len(rest) > 0; {
		n := s.work(rest)
		s.settle()
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

// work does leading ops and returns how many.
func (s *shard) work(ops []op) int {
	n, whole := plainRun(ops)
	if !whole {
		return s.batch(ops)
	}
	s.broadcast(ops[:n])
	return n
}

// plainRun is the number of leading ops that are events of one group for all its
// members, as many as go out together. It is whole if nothing else stopped it: then
// no member can get something of another group with it.
func plainRun(ops []op) (n int, whole bool) {
	bytes := 0
	for n < len(ops) && n < maxBatchEvents {
		o := &ops[n]
		if !o.plain() || o.group != ops[0].group {
			return n, false
		}
		bytes += len(o.Frame)
		if n > 0 && bytes > maxBatchBytes {
			return n, true
		}
		n++
	}
	return n, true
}

// broadcast writes a plain run to the group's members, the same bytes to each of a
// kind.
func (s *shard) broadcast(ops []op) {
	a := &ops[0].group.audiences[s.index]
	if len(a.plain) > 0 {
		s.sendAll(a.plain, ops, (*op).plainFrame)
	}
	if len(a.positioned) > 0 {
		s.sendAll(a.positioned, ops, (*op).positionedFrame)
	}
	if a.packed != nil {
		s.broadcastPacked(a.packed, ops)
	}
	for i := range ops {
		a.passed(ops[i].Sequence)
	}
}

// broadcastPacked is broadcast for those who take compressed frames.
func (s *shard) broadcastPacked(to *listeners, ops []op) {
	if len(to.plain) > 0 {
		s.sendAll(to.plain, ops, (*op).packedFrame)
	}
	if len(to.positioned) > 0 {
		s.sendAll(to.positioned, ops, (*op).packedPositionedFrame)
	}
}

// sendAll writes the ops' frames to members.
func (s *shard) sendAll(members []entry, ops []op, frame func(*op) []byte) {
	frames, bytes := s.frames[:0], 0
	for i := range ops {
		f := frame(&ops[i])
		frames, bytes = append(frames, f), bytes+len(f)
	}
	s.counted.Events += uint64(len(members) * len(frames))
	s.counted.Bytes += uint64(len(members) * bytes)
	if len(frames) > 1 && len(members) >= coalesceMembers {
		all := joined(frames)
		clear(frames)
		frames = append(frames[:0], all)
	}
	for i := range members {
		_ = members[i].member.conn.Send(frames) // a failed connection reports itself by Closed
	}
	clear(frames)
	s.frames = frames
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

// batch does leading ops, collecting what each member gets, then writes to each
// member once. It returns how many ops it did.
func (s *shard) batch(ops []op) int {
	n, events, frames := 0, 0, 0
	for n < len(ops) && events < maxBatchEvents && frames < maxBatchFrames && len(s.refs) < maxBatchRefs {
		o := &ops[n]
		switch {
		case o.kind == opPublish:
			events++
		case o.more != nil:
			frames += len(o.more.frames)
		}
		s.do(o)
		n++
	}
	s.flushAll()
	for i := range ops[:n] {
		if m := ops[i].more; m != nil && m.done != nil {
			close(m.done)
		}
	}
	return n
}

func (s *shard) do(o *op) {
	switch o.kind {
	case opPublish:
		s.publish(o)
	case opJoin:
		s.linkFrames(o)
		o.group.audiences[s.index].add(o.member, o.more.seat)
	case opComplete:
		s.linkFrames(o)
		o.group.audiences[s.index].complete(o.member, o.more.seat)
	case opLeave:
		o.group.audiences[s.index].remove(o.more.seat)
	case opRestart:
		o.group.audiences[s.index].restart(o.Sequence)
	case opSend:
		if o.more != nil {
			s.linkFrames(o)
		} else {
			s.link(o.member, o.Frame, o.own)
		}
	case opDo:
		o.more.do()
	}
}

func (s *shard) publish(o *op) {
	a := &o.group.audiences[s.index]
	if o.more != nil && o.more.only != nil {
		s.publishSome(a, o)
		return
	}
	if o.Except == noSocket {
		s.publishTo(a, o)
	} else {
		had := s.earlier.members[o.Except]
		exclude(had, true)
		s.publishTo(a, o)
		exclude(had, false)
	}
	// Also for those who were left out: they have got all that is for them.
	a.passed(o.Sequence)
}

// publishTo links an event for an audience, but those it is not for.
func (s *shard) publishTo(a *audience, o *op) {
	s.linkFor(a.plain, o, o.Frame)
	s.linkFor(a.positioned, o, o.positionedFrame())
	if p := a.packed; p != nil {
		if len(p.plain) > 0 {
			s.linkFor(p.plain, o, o.packedFrame())
		}
		if len(p.positioned) > 0 {
			s.linkFor(p.positioned, o, o.packedPositionedFrame())
		}
	}
}

func (s *shard) linkFor(members []entry, o *op, frame []byte) {
	if o.Except == noSocket {
		s.linkAll(members, frame)
		return
	}
	s.linkOthers(members, o.Except, frame)
}

// publishSome links what is for some of an audience, which has no position.
func (s *shard) publishSome(a *audience, o *op) {
	s.linkSome(a.plain, o, o.Frame)
	s.linkSome(a.positioned, o, o.Frame)
	s.linkSome(a.partial, o, o.Frame)
	if p := a.packed; p != nil && len(p.plain)+len(p.positioned) > 0 {
		s.linkSome(p.plain, o, o.packedFrame())
		s.linkSome(p.positioned, o, o.packedFrame())
	}
}

func (s *shard) linkAll(members []entry, frame []byte) {
	for _, e := range members {
		s.link(e.member, frame, false)
	}
}

func (s *shard) linkOthers(members []entry, except pusher.SocketID, frame []byte) {
	for _, e := range members {
		if e.member.id != except && !e.member.excluded {
			s.link(e.member, frame, false)
		}
	}
}

// exclude marks members, of whom any number may have had an id, so that what is
// asked of each of the audience does not depend on that.
func exclude(members []*Member, excluded bool) {
	for _, m := range members {
		m.excluded = excluded
	}
}

func (s *shard) linkSome(members []entry, o *op, frame []byte) {
	for _, e := range members {
		if o.more.only.takes(e.seat) {
			s.link(e.member, frame, false)
		}
	}
}

// linkFrames links answers.
func (s *shard) linkFrames(o *op) {
	for _, frame := range o.more.frames {
		if frame != nil {
			s.link(o.member, frame, true)
		}
	}
}

// link appends frame to what m gets at the end of the batch. own says that it
// answers a message of m.
func (s *shard) link(m *Member, frame []byte, own bool) {
	at := int32(len(s.refs))
	s.refs = append(s.refs, ref{frame: frame, own: own})
	s.counted.Bytes += uint64(len(frame))
	if own {
		s.counted.Answers++
	} else {
		s.counted.Events++
	}
	if m.firstRef == 0 {
		m.firstRef = at
		s.dirty = append(s.dirty, m)
	} else {
		s.refs[m.lastRef].next = at
	}
	m.lastRef = at
}

// flushAll writes what is linked.
func (s *shard) flushAll() {
	for _, m := range s.dirty {
		s.flush(m)
	}
	clear(s.dirty)
	s.dirty = s.dirty[:0]
	clear(s.refs)
	s.refs = s.refs[:1]
}

// flush writes what is linked to m: in one go, but answers to its own messages
// apart from the rest.
func (s *shard) flush(m *Member) {
	refs, at := s.refs, m.firstRef
	m.firstRef, m.lastRef = 0, 0
	for at != 0 {
		frames, own := s.frames[:0], refs[at].own
		for at != 0 && refs[at].own == own {
			r := &refs[at]
			frames, at = append(frames, r.frame), r.next
		}
		if own {
			_ = m.conn.Answer(frames) // a failed connection reports itself by Closed
		} else {
			_ = m.conn.Send(frames) // the same
		}
		clear(frames)
		s.frames = frames
	}
}
