package fanout

import (
	"sync/atomic"
	"testing"
)

// However many shards and members there are, a frame is compressed once, with a position
// and without, and not at all if nobody takes it.
func TestCompressedOnce(t *testing.T) {
	t.Parallel()
	const events = 200
	pool := start(t, 4)
	group := pool.NewGroup()
	var times atomic.Int32
	group.Compress(func(frame []byte) []byte {
		times.Add(1)
		return shout(frame)
	})
	publish := func() {
		for range events {
			pool.Wait()
			group.Publish(Event{Frame: []byte("plain "), Positioned: []byte("at "), Sequence: 1})
			group.Publish(Event{Frame: []byte("other "), Except: noOne})
			group.TellOthers([]byte("told "), "nobody")
		}
	}
	join := func(conn *keepConn, seat *Seat) *peer {
		p := newPeerOn(pool, conn)
		group.Join(&p.Member, seat, nil, nil)
		return p
	}
	var all []*peer
	for range 8 {
		all = append(all, join(&keepConn{}, &Seat{}), join(&keepConn{}, &Seat{Positioned: true}))
	}
	want := func(what string, n int32) {
		t.Helper()
		for _, p := range all {
			p.settle()
		}
		if got := times.Swap(0); got != n {
			t.Errorf("%s: compressed %d times, want %d", what, got, n)
		}
	}
	publish()
	want("nobody takes it", 0)
	for range 8 {
		all = append(all, join(&keepConn{packed: true}, &Seat{}))
	}
	publish()
	want("some do", 3*events)
	for range 8 {
		all = append(all, join(&keepConn{packed: true}, &Seat{Positioned: true}))
	}
	publish()
	want("some with positions", 4*events)
}
