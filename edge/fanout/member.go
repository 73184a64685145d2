package fanout

import (
	"reecho/edge/pusher"
	"reecho/edge/socket"
)

// Member is one connection. It is embedded by value in its Owner and must not be
// copied after Pool.Add. Its methods are safe for concurrent use; those that send
// or do something may be called from Pool.Add on, never block and allocate nothing
// for a single frame. What is sent after Pool.Close is dropped.
type Member struct {
	conn  socket.Conn
	id    pusher.SocketID
	shard *shard

	// Owned by the shard.
	firstRef, lastRef int32 // frames lined up in the current batch
	index             int32 // among the owners of the shard
	excluded          bool  // while an event is linked that is not for it

	packed bool // the connection takes compressed frames; never changes
}

// NewMember makes a member of a connection, for its Owner to hold.
func NewMember(conn socket.Conn, id pusher.SocketID) Member {
	d, ok := conn.(socket.Deflated)
	return Member{conn: conn, id: id, packed: ok && d.Deflated()}
}

// Conn returns the connection. What is sent on it directly does not wait for what
// is on its way through the shard.
func (m *Member) Conn() socket.Conn { return m.conn }

// ID returns the socket id, which never changes.
func (m *Member) ID() pusher.SocketID { return m.id }

// Send writes a frame that the peer did not ask for. Here and below a frame is
// finished (see socket.Conn.Send), is kept, and must never change.
func (m *Member) Send(frame []byte) {
	m.shard.push(&op{kind: opSend, member: m, Event: Event{Frame: frame}})
}

// Reply writes a frame that answers a message of the peer. Until answers are
// written they keep the peer from asking for too much (see socket.Conn.Owe).
func (m *Member) Reply(frame []byte) {
	m.conn.Owe(1, len(frame))
	m.shard.push(&op{kind: opSend, member: m, own: true, Event: Event{Frame: frame}})
}

// Answer is Reply with several frames, of which nil ones are left out. done, if
// not nil, is closed when they are given to the connection.
func (m *Member) Answer(frames [][]byte, done chan<- struct{}) {
	m.conn.Owe(owed(frames))
	m.shard.push(&op{kind: opSend, member: m, own: true, more: &more{frames: frames, done: done}})
}

// Do calls f on the member's shard, after what was pushed before took effect and
// before anything that is pushed later does. What the member got just before may
// not have been given to the connection yet: to close it overtakes that. f must
// not block.
func (m *Member) Do(f func()) { m.shard.call(f) }

// Had says which ids the peer had before this connection: what is not for one of
// them (Event.Except) is not for the member either, from what is pushed next on. Of
// each member the first 128 count. ids must not change any more.
func (m *Member) Had(ids []pusher.SocketID) { m.Do(func() { m.shard.earlier.add(m, ids) }) }

func (m *Member) member() *Member { return m }

// owed counts the frames that there are.
func owed(all [][]byte) (frames, bytes int) {
	for _, f := range all {
		if f != nil {
			frames++
			bytes += len(f)
		}
	}
	return frames, bytes
}
