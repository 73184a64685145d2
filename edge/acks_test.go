package edge

import (
	"testing"

	"reecho/edge/fanout"
	"reecho/replay"
	"reecho/replay/session"
)

// A pong for what was sent to a subscription says nothing of the next one to the
// same channel: a client that was told of a gap there is told again until it has
// confirmed that.
func TestPongOfALeftSubscription(t *testing.T) {
	t.Parallel()
	owner := newTestTenant(t, Config{Shards: 1})
	c, ch := owner.subscriber(&sinkConn{}), newChannel(owner, "match.1")
	a := &acks{client: c}
	if err := owner.node.sessions.Claim(&a.hold, session.Who{App: "77", ID: "id", Socket: c.ID().String()}, a); err != nil {
		t.Fatal(err)
	}
	if err := a.hold.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, second := &subscription{ch: ch}, &subscription{ch: ch, Seat: fanout.Seat{Joined: 5}}
	c.onShard(func() {
		a.hold.Joined(ch.name, ch.log.Line().At(5), replay.Unavailable, true)
		a.joined(first)
		a.left(first)
		a.joined(second)
		a.ponged() // the first one's
	})
	wantLost := func(want replay.Reason) {
		t.Helper()
		if r, _ := a.hold.Request(ch.name, ch.log.Line()); r.Lost != want {
			t.Errorf("the next connection is told of the gap %q, want %q", r.Lost, want)
		}
	}
	wantLost(replay.Unavailable)
	c.onShard(a.ponged) // the second one's
	wantLost("")
}

// onShard calls f on the client's shard and waits for it.
func (c *client) onShard(f func()) {
	done := make(chan struct{})
	c.Do(func() {
		defer close(done)
		f()
	})
	<-done
}
