//go:build unix

package edge

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/edge/app"
	"reecho/edge/pusher"
	"reecho/edge/socket"
)

// sinkConn is a connection that takes everything at once, as a kernel with room
// does.
type sinkConn struct{ frames, bytes int }

var _ socket.Conn = (*sinkConn)(nil)

func (c *sinkConn) Send(frames [][]byte) error {
	c.frames += len(frames)
	for _, f := range frames {
		c.bytes += len(f)
	}
	return nil
}
func (*sinkConn) Close(int, string)                {}
func (*sinkConn) Ping()                            {}
func (*sinkConn) Tick(time.Time) (d time.Duration) { return d }
func (*sinkConn) Remote() netip.AddrPort           { return netip.AddrPort{} }
func (*sinkConn) Queued() int                      { return 0 }

// crowd is a shard with clients on one channel.
type crowd struct {
	shard *shard
	ch    *channel
	conns []*sinkConn
}

func newCrowd(t testing.TB, n int) *crowd {
	t.Helper()
	return newCrowdOn(brokertest.Start(t, broker.Config{}), n)
}

func newCrowdOn(b *broker.Broker, n int) *crowd {
	hub := &Hub{shards: []*shard{newShard(0)}, janitor: &janitor{}, broker: b}
	hub.census.gone = make(chan struct{})
	t := hub.newTenant(&app.App{ID: "77", Limits: app.DefaultLimits()})
	c := &crowd{shard: hub.shards[0], ch: newChannel(hub, t, "match.1")}
	for range n {
		conn := &sinkConn{}
		c.conns = append(c.conns, conn)
		member := &client{conn: conn, app: t, shard: c.shard, id: pusher.NewSocketID()}
		c.shard.do(&op{kind: opJoin, ch: c.ch, client: member, sub: &subscription{ch: c.ch}})
	}
	c.shard.batch(nil) // writes what the joins linked
	return c
}

// events are n ops of frames of about 250 bytes; except marks each as not for
// everybody, which takes the general path.
func (c *crowd) events(n int, except pusher.SocketID) []op {
	frame := socket.Frame(pusher.AppendEvent(nil, "match.1", "score", fmt.Sprintf("%0200d", 0), ""))
	ops := make([]op, n)
	for i := range ops {
		ops[i] = op{kind: opEvent, ch: c.ch, frame: frame, except: except}
	}
	return ops
}

// deliver does what drain does with ops.
func (c *crowd) deliver(ops []op) {
	for len(ops) > 0 {
		n, whole := plainRun(ops)
		if whole {
			c.shard.broadcast(ops[:n])
		} else {
			n = c.shard.batch(ops)
		}
		ops = ops[n:]
	}
}

// Fan-out allocates nothing per delivery: on the general path nothing at all,
// on the path of plain runs one buffer for all subscribers when there are
// several events to join.
func TestFanOutAllocations(t *testing.T) {
	const subscribers = 1000
	c := newCrowd(t, subscribers)
	for _, tt := range []struct {
		name   string
		ops    []op
		allows float64
	}{
		{"one event", c.events(1, pusher.SocketID{}), 0},
		{"eight events", c.events(8, pusher.SocketID{}), 1},
		{"eight events with an exclusion", c.events(8, pusher.SocketID{A: 1, B: 2}), 0},
	} {
		c.deliver(tt.ops) // scratch buffers grow once
		if n := testing.AllocsPerRun(20, func() { c.deliver(tt.ops) }); n > tt.allows {
			t.Errorf("%s to %d subscribers: %v allocations, want %v", tt.name, subscribers, n, tt.allows)
		}
	}
}

// What each subscriber gets is the same on both paths.
func TestFanOutDelivers(t *testing.T) {
	t.Parallel()
	for _, except := range []pusher.SocketID{{}, {A: 1, B: 2}} {
		c := newCrowd(t, 10)
		before := *c.conns[0]
		ops := c.events(5, except)
		c.deliver(ops)
		for i, conn := range c.conns {
			if got, want := conn.bytes-before.bytes, 5*len(ops[0].frame); got != want {
				t.Errorf("except %v: connection %d got %d bytes, want %d", except, i, got, want)
			}
		}
	}
}

// BenchmarkFanOut is the shard's own work per delivery, without the kernel's:
// BenchmarkSend of package socket has that.
func BenchmarkFanOut(b *testing.B) {
	const subscribers = 1000
	log := brokertest.Start(b, broker.Config{})
	for _, except := range []pusher.SocketID{{}, {A: 1, B: 2}} {
		for _, n := range []int{1, 8, 60} {
			path := "plain"
			if except != (pusher.SocketID{}) {
				path = "general"
			}
			b.Run(fmt.Sprintf("%s/events=%d", path, n), func(b *testing.B) {
				c := newCrowdOn(log, subscribers)
				ops := c.events(n, except)
				b.ReportAllocs()
				start := brokertest.CPUTime(b)
				for b.Loop() {
					c.deliver(ops)
				}
				deliveries := float64(b.N) * float64(n) * subscribers
				b.ReportMetric(float64(brokertest.CPUTime(b)-start)/deliveries, "cpu-ns/delivery")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
