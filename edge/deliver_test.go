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
	"reecho/edge/fanout"
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

// BenchmarkDeliver is what a stored event costs a channel before it reaches the
// shards: with subscribers as Pusher has them, and with ones that want positions,
// for whom another frame is made.
func BenchmarkDeliver(b *testing.B) {
	log := brokertest.Start(b, broker.Config{})
	text := pusher.AppendEvent(nil, "match.1", "score", fmt.Sprintf("%0200d", 0), "")
	for _, positioned := range []bool{false, true} {
		b.Run(fmt.Sprintf("positions=%v", positioned), func(b *testing.B) {
			hub := &Hub{pool: fanout.NewPool[*client](1), janitor: &janitor{}, broker: log, memory: replay.NewMemory(DefaultReplayMemory)}
			defer hub.pool.Close()
			owner := hub.newTenant(&app.App{ID: "77", ActivityTimeout: time.Hour, Limits: app.DefaultLimits()})
			ch, c := newChannel(hub, owner, "match.1"), hub.subscriber(owner, &sinkConn{})
			ch.group.Join(&c.Member, &fanout.Seat{Positioned: positioned}, nil, nil)
			sequence := uint64(0)
			work := c.hold()
			b.ReportAllocs()
			for b.Loop() {
				sequence++
				ch.Deliver(broker.Event{Sequence: sequence, Frame: text})
				if sequence%1024 == 0 {
					work()
					work = c.hold()
				}
			}
			work()
		})
	}
}

// hold keeps the client's shard from working until work is called, which returns
// when it has done what there was: so that the two do not run side by side.
func (c *client) hold() (work func()) {
	gate, done := make(chan struct{}), make(chan struct{})
	c.Do(func() { <-gate })
	return func() {
		c.Do(func() { close(done) })
		close(gate)
		<-done
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
			ss.conns = append(ss.conns, &sessionConn{session: s, acks: acks{subs: []*subscription{{}}, awaiting: make([]awaited, 1)}})
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
