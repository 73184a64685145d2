//go:build unix

package edge

import (
	"fmt"
	"testing"

	"reecho/broker"
	"reecho/edge/pusher"
)

// BenchmarkResume is a client that comes back to a channel whose ring has the 50
// events that it missed, up to the last write.
func BenchmarkResume(b *testing.B) {
	const events = 50
	text := pusher.AppendEvent(nil, "match.1", "score", fmt.Sprintf("%0200d", 0), "")
	owner := newTestTenant(b, Config{Shards: 1})
	ch := owner.channels.admit("match.1", 0)
	if err := ch.log.Attach(b.Context()); err != nil {
		b.Fatal(err)
	}
	for i := range uint64(events + 1) {
		ch.log.Live(broker.Event{Sequence: i + 1, Previous: i, Frame: text})
	}
	after := ch.log.Line().At(1).String()
	conn := &sinkConn{}
	b.ReportAllocs()
	for b.Loop() {
		c := owner.subscriber(conn)
		if wait := c.subscribeTo(pusher.Subscribe{Channel: "match.1", Replay: &pusher.Replay{After: after, Seen: 0}}, nil); wait != nil {
			wait()
		}
		written := make(chan struct{})
		c.Do(func() { close(written) })
		<-written
		c.leave(c.subs[0])
		owner.node.pool.Remove(c)
	}
}
