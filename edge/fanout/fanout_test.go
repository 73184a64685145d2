//go:build unix

package fanout

import (
	"fmt"
	"testing"

	"reecho/broker/brokertest"
	"reecho/edge/pusher"
	"reecho/edge/socket"
)

// crowd is a shard that works when told, with members in one group.
type crowd struct {
	shard   *shard
	group   Group
	conns   []*sinkConn
	members []*Member
}

func newCrowd(n int) *crowd {
	c := &crowd{shard: newShard(0)}
	c.group = newGroup(&shards{c.shard})
	c.add(n, func(s *sinkConn) socket.Conn { return s })
	return c
}

// packedConn is one that takes compressed frames.
type packedConn struct{ *sinkConn }

func (packedConn) Deflated() bool { return true }

// add lets n members in.
func (c *crowd) add(n int, conn func(*sinkConn) socket.Conn) {
	for range n {
		sink := &sinkConn{}
		c.conns = append(c.conns, sink)
		owner := &struct {
			Member
			_ [168]byte // as a client has: members are not neighbours in memory
		}{Member: NewMember(conn(sink), pusher.NewSocketID())}
		owner.shard = c.shard
		c.members = append(c.members, &owner.Member)
		c.group.Join(&owner.Member, &Seat{}, nil, nil)
	}
	c.shard.drain(nil)
}

// events are n ops of frames of about 250 bytes; except marks each as not for
// everybody, which takes the general path.
func (c *crowd) events(n int, except pusher.SocketID) []op {
	frame := socket.Frame(pusher.AppendEvent(nil, "match.1", "score", fmt.Sprintf("%0200d", 0), ""))
	ops := make([]op, n)
	for i := range ops {
		ops[i] = op{kind: opPublish, group: &c.group, Event: Event{Frame: frame, Except: except}}
	}
	return ops
}

// deliver does what drain does with ops.
func (c *crowd) deliver(ops []op) {
	for len(ops) > 0 {
		ops = ops[c.shard.work(ops):]
	}
}

// Fan-out allocates nothing per delivery: on the general path nothing at all,
// on the path of plain runs one buffer for all members when there are several
// events to join.
func TestFanOutAllocations(t *testing.T) {
	const members = 1000
	c := newCrowd(members)
	c.members[0].Had([]pusher.SocketID{earlierID})
	c.shard.drain(nil)
	for _, tt := range []struct {
		name   string
		ops    []op
		allows float64
	}{
		{"one event", c.events(1, pusher.SocketID{}), 0},
		{"eight events", c.events(8, pusher.SocketID{}), 1},
		{"eight events with an exclusion", c.events(8, noOne), 0},
		{"eight events that are not for an earlier id", c.events(8, earlierID), 0},
	} {
		c.deliver(tt.ops) // scratch buffers grow once
		if n := testing.AllocsPerRun(20, func() { c.deliver(tt.ops) }); n > tt.allows {
			t.Errorf("%s to %d members: %v allocations, want %v", tt.name, members, n, tt.allows)
		}
	}
}

// Members that take compressed frames cost as little as others do: a buffer more, when
// several events are joined.
func TestPackedAllocations(t *testing.T) {
	const members = 500
	c := newCrowd(members)
	c.add(members, func(s *sinkConn) socket.Conn { return packedConn{s} })
	for _, tt := range []struct {
		except pusher.SocketID
		allows float64
	}{{noSocket, 2}, {noOne, 0}} {
		ops := c.events(8, tt.except)
		for i := range ops {
			ops[i].more = &more{packed: &packed{compress: shout}}
		}
		c.deliver(ops)
		if n := testing.AllocsPerRun(20, func() { c.deliver(ops) }); n > tt.allows {
			t.Errorf("except %v: %v allocations, want %v", tt.except, n, tt.allows)
		}
	}
}

// What each member gets is the same on both paths.
func TestFanOutDelivers(t *testing.T) {
	t.Parallel()
	for _, except := range []pusher.SocketID{{}, noOne} {
		c := newCrowd(10)
		ops := c.events(5, except)
		c.deliver(ops)
		for i, conn := range c.conns {
			if got, want := conn.Bytes, 5*len(ops[0].Frame); got != want {
				t.Errorf("except %v: connection %d got %d bytes, want %d", except, i, got, want)
			}
		}
	}
}

// BenchmarkFanOut is the shard's own work per delivery, without the kernel's:
// BenchmarkSend of package socket has that.
func BenchmarkFanOut(b *testing.B) {
	const members = 1000
	for _, except := range []pusher.SocketID{{}, noOne} {
		for _, n := range []int{1, 8, 60} {
			path := "plain"
			if except != (pusher.SocketID{}) {
				path = "general"
			}
			b.Run(fmt.Sprintf("%s/events=%d", path, n), func(b *testing.B) {
				c := newCrowd(members)
				ops := c.events(n, except)
				b.ReportAllocs()
				start := brokertest.CPUTime(b)
				for b.Loop() {
					c.deliver(ops)
				}
				deliveries := float64(b.N) * float64(n) * members
				b.ReportMetric(float64(brokertest.CPUTime(b)-start)/deliveries, "cpu-ns/delivery")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
