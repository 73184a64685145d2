//go:build unix

package edge

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/edge/app"
	"reecho/edge/pusher"
	"reecho/edge/socket"
	"reecho/replay"
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
func (c *sinkConn) Answer(frames [][]byte) error   { return c.Send(frames) }
func (*sinkConn) Owe(int, int)                     {}
func (*sinkConn) Close(int, string)                {}
func (*sinkConn) Ping()                            {}
func (*sinkConn) Tick(time.Time) (d time.Duration) { return d }
func (*sinkConn) Remote() netip.AddrPort           { return netip.AddrPort{} }
func (*sinkConn) Queued() int                      { return 0 }
func (*sinkConn) Drained() <-chan struct{}         { return closed() }

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

// newCrowdOn makes clients that want positions if positioned is given.
func newCrowdOn(b *broker.Broker, n int, positioned ...bool) *crowd {
	hub := &Hub{shards: []*shard{newShard(0)}, janitor: &janitor{}, broker: b, memory: replay.NewMemory(DefaultReplayMemory)}
	hub.census.gone = make(chan struct{})
	t := hub.newTenant(&app.App{ID: "77", Limits: app.DefaultLimits()})
	c := &crowd{shard: hub.shards[0], ch: newChannel(hub, t, "match.1")}
	for range n {
		conn := &sinkConn{}
		c.conns = append(c.conns, conn)
		member := &client{conn: conn, app: t, shard: c.shard, id: pusher.NewSocketID()}
		c.shard.do(&op{kind: opJoin, ch: c.ch, client: member, sub: &subscription{ch: c.ch, positioned: len(positioned) > 0 && positioned[0]}})
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

// BenchmarkDeliver is what a stored event costs a channel before it reaches the
// shards: with subscribers as Pusher has them, and with ones that want positions,
// for whom another frame is made.
func BenchmarkDeliver(b *testing.B) {
	log := brokertest.Start(b, broker.Config{})
	text := pusher.AppendEvent(nil, "match.1", "score", fmt.Sprintf("%0200d", 0), "")
	for _, positioned := range []bool{false, true} {
		b.Run(fmt.Sprintf("positions=%v", positioned), func(b *testing.B) {
			c := newCrowdOn(log, 1, positioned)
			c.ch.subs, c.ch.perShard[0] = 1, 1
			if positioned {
				c.ch.wanting = 1
			}
			sequence := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				sequence++
				c.ch.Deliver(broker.Event{Sequence: sequence, Frame: text})
				if sequence%1024 == 0 {
					c.deliver(c.shard.inbox.take(nil))
				}
			}
		})
	}
}

// BenchmarkRing is the memory of one event that is kept for clients that come
// back.
func BenchmarkRing(b *testing.B) {
	const events = 100_000
	text := pusher.AppendEvent(nil, "match.1", "score", fmt.Sprintf("%0200d", 0), "")
	for b.Loop() {
		before := heapBytes()
		var ring replay.Ring
		ring.Start(1)
		for i := range uint64(events) {
			ring.Append(replay.Entry{Sequence: i + 2, Frame: socket.Frame(text)})
		}
		b.ReportMetric(float64(heapBytes()-before)/events, "heap-B/event")
		b.ReportMetric(float64(ring.Bytes())/events, "counted-B/event")
		runtime.KeepAlive(&ring)
	}
}

// BenchmarkSession is the memory of a session with one channel whose client is
// connected.
func BenchmarkSession(b *testing.B) {
	const sessions = 10_000
	for b.Loop() {
		before := heapBytes()
		ss := &sessionsForMemory{}
		for i := range sessions {
			s := &session{key: fmt.Sprintf("77/%036d", i), marks: map[string]mark{"match.1": {prefix: "E-1-", sequence: 1}}, sockets: []string{"1.2"}}
			ss.all = append(ss.all, s)
			ss.conns = append(ss.conns, &sessionConn{session: s, subs: []*subscription{{}}, awaiting: make([]awaited, 1)})
		}
		b.ReportMetric(float64(heapBytes()-before)/sessions, "heap-B/session")
		runtime.KeepAlive(ss)
	}
}

type sessionsForMemory struct {
	all   []*session
	conns []*sessionConn
}

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
