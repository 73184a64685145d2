//go:build unix

package edge

import (
	"fmt"
	"runtime"
	"testing"

	"reecho/broker"
	"reecho/edge/fanout"
	"reecho/edge/pusher"
	"reecho/edge/socket"
	"reecho/replay"
)

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
