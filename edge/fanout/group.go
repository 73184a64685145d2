package fanout

import "reecho/edge/pusher"

// Group is the members that get the same, like the subscribers of a channel. The
// verbs that push to the shards are called one at a time, under a lock of its
// owner, and that order is what each member sees. Reached and Vacate are the
// shards' own. It must not be copied once it is used; a group that Pool.NewGroup
// did not make has nobody in it and takes nobody.
type Group struct {
	shards *shards
	// compress is set before the group is used; nil: nothing is compressed.
	compress func(frame []byte) []byte
	// audiences[i] belongs to shard i.
	audiences []audience

	// Guarded by the owner's lock.
	counts     []int32 // members by shard
	positioned int     // members that want positions, now or once they are whole
	packed     int     // members that take compressed frames, the same
}

// Event is what goes to a whole group. Its frames are kept and must never change.
type Event struct {
	// Frame is a finished frame (see socket.Conn.Send).
	Frame []byte
	// Positioned is what seats with Positioned get in its place; nil: Frame too.
	Positioned []byte
	// Sequence is the place of a stored event in its log, above those before it;
	// 0: it is not stored.
	Sequence uint64
	// Except is the id of who is left out: the member that has it, and those that
	// had it before (Member.Had); the zero id: nobody's.
	Except pusher.SocketID
}

// noSocket is the id of no connection.
var noSocket pusher.SocketID

func newGroup(all *shards) Group {
	return Group{shards: all, audiences: make([]audience, len(*all)), counts: make([]int32, len(*all))}
}

// Compress says how frames are compressed (see socket.Compression) for members whose
// connections take that (see socket.Deflated): each once, by the first shard that has
// such a member. With nil, and without it, all get the frames as they are. It is called
// before the group is used.
func (g *Group) Compress(compress func(frame []byte) []byte) { g.compress = compress }

// Publish writes an event to all members but those it is not for.
func (g *Group) Publish(e Event) {
	o := op{kind: opPublish, Event: e, group: g}
	if p := g.pack(); p != nil {
		o.more = &more{packed: p}
	}
	g.push(&o)
}

// TellOthers writes a frame to the seats of another name.
func (g *Group) TellOthers(frame []byte, name string) { g.tell(frame, &filter{but: name}) }

// Alert writes a frame to the seats with Alerts.
func (g *Group) Alert(frame []byte) { g.tell(frame, &filter{alerts: true}) }

func (g *Group) tell(frame []byte, only *filter) {
	g.push(&op{kind: opPublish, Event: Event{Frame: frame}, group: g, more: &more{only: only, packed: g.pack()}})
}

// pack makes room for the compressed frames of an event; nil if nobody takes them.
func (g *Group) pack() *packed {
	if g.packed == 0 || g.compress == nil {
		return nil
	}
	return &packed{compress: g.compress}
}

// push gives an op to every shard that has members.
func (g *Group) push(o *op) {
	for i, n := range g.counts {
		if n > 0 {
			(*g.shards)[i].push(o)
		}
	}
}

// Positioned reports whether a member wants positions.
func (g *Group) Positioned() bool { return g.positioned > 0 }

// Join gives a member a seat, a new one: it gets what is published from now on, or
// what is told if the seat is Partial, behind frames, which answer its request (see
// Member.Answer). done, if not nil, is closed when they are given to the connection.
func (g *Group) Join(m *Member, s *Seat, frames [][]byte, done chan<- struct{}) {
	g.count(m, s, 1)
	m.conn.Owe(owed(frames))
	m.shard.push(&op{kind: opJoin, group: g, member: m, more: &more{seat: s, frames: frames, done: done}})
}

// Complete gives the member in a seat that is Partial what is published from now
// on, too, behind frames, as Join does. It is called once, between Join and Leave.
func (g *Group) Complete(m *Member, s *Seat, frames [][]byte, done chan<- struct{}) {
	m.conn.Owe(owed(frames))
	m.shard.push(&op{kind: opComplete, group: g, member: m, more: &more{seat: s, frames: frames, done: done}})
}

// Leave takes the seat of a member that has joined away, once for each Join, even
// if it was vacated: the member gets nothing that is published from now on.
func (g *Group) Leave(m *Member, s *Seat) {
	g.count(m, s, -1)
	m.shard.push(&op{kind: opLeave, group: g, member: m, more: &more{seat: s}})
}

func (g *Group) count(m *Member, s *Seat, n int) {
	g.counts[m.shard.index] += int32(n)
	if s.Positioned {
		g.positioned += n
	}
	if m.packed {
		g.packed += n
	}
}

// Restart says that sequences begin anew: what is published from now on is above the
// one given, and those before mean nothing.
func (g *Group) Restart(sequence uint64) {
	// Also where nobody is now: who joins later must not be taken to have what was.
	for _, s := range *g.shards {
		s.push(&op{kind: opRestart, Event: Event{Sequence: sequence}, group: g})
	}
}

// Reached is the sequence up to which the member in a seat was given what is
// stored: what was written to all on its shard, or what it had when it joined. It is
// one of those after so many calls of Restart. To be called on the member's shard.
func (g *Group) Reached(m *Member, s *Seat) (sequence uint64, restarts int) {
	a := &g.audiences[m.shard.index]
	return max(s.Joined, a.written), a.restarts
}

// Vacate takes a seat away at once: the member gets nothing more, not even what
// was published and has not been written yet. It does nothing if the seat is empty.
// To be called on the member's shard.
func (g *Group) Vacate(m *Member, s *Seat) { g.audiences[m.shard.index].remove(s) }
