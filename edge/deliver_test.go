//go:build unix

package edge

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"reecho/broker"
	"reecho/edge/app"
	"reecho/edge/fanout"
	"reecho/edge/limit"
	"reecho/edge/pusher"
	"reecho/edge/socket"
	"reecho/replay"
	"reecho/replay/replaytest"
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

// newTestTenant is an app with all that it needs of a node, over the model of a
// log.
func newTestTenant(t testing.TB, cfg Config) *Tenant {
	t.Helper()
	return newTestTenantOf(t, cfg, replaytest.NewLog(rand.New(rand.NewPCG(1, 1)),
		broker.Retention{EventsPerChannel: 1000, MaxAge: time.Hour, MaxBytes: 1 << 30}))
}

// newTestTenantOf is newTestTenant with a log of the test's.
func newTestTenantOf(t testing.TB, cfg Config, log *replaytest.Log) *Tenant {
	t.Helper()
	if cfg.Ledger == nil {
		cfg.Ledger = limit.NewLedger(slog.New(slog.DiscardHandler))
	}
	h := newHub(cfg, sources{logs: log, records: log}, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		h.stop()
		h.node.sessions.Close(context.Background())
		h.node.replay.Close()
		h.node.pool.Close()
	})
	return newTenant(h.node, &app.App{ID: "77", SubscriptionCounts: true, ActivityTimeout: time.Hour, Limits: app.DefaultLimits()})
}

// subscriber is a client without a network.
func (t *Tenant) subscriber(conn socket.Conn) *client {
	c := &client{Member: fanout.NewMember(conn, pusher.NewSocketID()), app: t}
	t.node.pool.Add(c)
	return c
}

// BenchmarkDeliver is what a stored event costs a channel before it reaches the
// shards: with subscribers as Pusher has them, and with ones that want positions,
// for whom another frame is made.
func BenchmarkDeliver(b *testing.B) {
	text := pusher.AppendEvent(nil, "match.1", "score", fmt.Sprintf("%0200d", 0), "")
	for _, positioned := range []bool{false, true} {
		b.Run(fmt.Sprintf("positions=%v", positioned), func(b *testing.B) {
			owner := newTestTenant(b, Config{Shards: 1})
			ch, c := newChannel(owner, "match.1"), owner.subscriber(&sinkConn{})
			if err := ch.log.Attach(b.Context()); err != nil {
				b.Fatal(err)
			}
			ch.group.Join(&c.Member, &fanout.Seat{Positioned: positioned}, nil, nil)
			sequence := uint64(0)
			work := c.hold()
			b.ReportAllocs()
			for b.Loop() {
				sequence++
				ch.log.Live(broker.Event{Sequence: sequence, Previous: sequence - 1, Frame: text})
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

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
