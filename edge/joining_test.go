//go:build unix

package edge

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"reecho/edge/pusher"
)

// A client that a full channel refused gave it up with the channel's log locked:
// when it was the last there, and idle channels had no memory, the channel was
// closed, which waited for that lock for ever.
func TestRefusedByTheLastOfAChannel(t *testing.T) {
	t.Parallel()
	owner := newTestTenant(t, Config{LingerMemory: 1, ChannelMemory: 1 << 20})
	owner.Limits.PresenceMembers = 0 // as if all left in between
	c := owner.subscriber(&sinkConn{})
	ask := &pusher.Replay{Last: 1, Seen: -1}
	ch := owner.channels.admit("presence-room", 0)
	j := &joining{c: c, ch: ch, member: pusher.Member{ID: "alice"}, ask: ask}
	if wait := j.start(); wait != nil {
		wait()
	}
	if len(c.subs) != 0 || owner.channels.find("presence-room") != nil {
		t.Errorf("%d subscriptions, channel %v; want none and a channel that is closed", len(c.subs), owner.channels.find("presence-room"))
	}
}

// A subscription that a shutdown interrupts is told so, and not that the channel
// is not available.
func TestInterruptedByTheShutdown(t *testing.T) {
	t.Parallel()
	for closing, code := range map[bool]int{false: pusher.CodeOverCapacity, true: pusher.CodeReconnect} {
		owner := newTestTenant(t, Config{})
		conn := &silentConn{}
		c := owner.subscriber(conn)
		c.protocol = newestProtocol
		if closing {
			owner.node.census.close()
		}
		c.cannotFollow(owner.channels.admit("match.1", 0), context.Canceled)
		if conn.code != code {
			t.Errorf("closing %v: closed with %d, want %d", closing, conn.code, code)
		}
	}
}

// Between the first part of what it missed and the last one a client is a member of
// a presence channel like any other, but for the events: a full channel refuses it
// with the first, and when its connection breaks it leaves.
func TestMemberBetweenParts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, "presence-lobby")
		r.owner.Limits.PresenceMembers = 2
		for range 8 { // three to a part
			r.publish()
		}
		r.join(pusher.Member{ID: "alice"})
		bob := r.joinByParts(pusher.Member{ID: "bob"})
		want := func(what string, newest uint64, between bool) {
			t.Helper()
			r.work()
			r.checkViews()
			if bob.newest != newest || bob.between() != between {
				t.Errorf("%s: bob got events up to %d, in the middle: %v; want %d, %v", what, bob.newest, bob.between(), newest, between)
			}
		}
		want("the first part", 3, true)

		carol := r.joinByParts(pusher.Member{ID: "carol"})
		r.all = r.all[:2]
		<-carol.over
		synctest.Wait()
		if all := carol.conn.texts; len(all) != 1 || !strings.Contains(all[0], "full") || carol.client.find(r.ch.name) != nil {
			t.Errorf("carol got %.200q, want to be refused", all)
		}
		if r.ch.refs != 3 {
			t.Errorf("%d references to the channel, want those of alice, bob and the test", r.ch.refs)
		}

		r.publish()
		want("an event", 3, true)
		r.leave(0)
		want("alice left", 3, true)
		r.join(pusher.Member{ID: "dave"})
		bob.conn.drain()
		want("the second part", 6, true)
		r.publish()
		bob.conn.drain()
		want("the third part", 9, true)
		bob.conn.drain()
		want("the last part", 10, false)
		r.publish()
		want("live", 11, false)

		r.owner.Limits.PresenceMembers = 3
		bob = r.joinByParts(pusher.Member{ID: "erin"})
		want("another member", 3, true)
		r.leave(2)
		r.work()
		r.checkViews()
		if ids := r.ch.memberIDs(); len(ids) != 2 {
			t.Errorf("%v are there, want bob and dave", ids)
		}
	})
}

// A gap that opens between two parts is told like any other: on a cache channel
// the cached event comes behind it, for it was not among the parts.
func TestGapBetweenParts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, "presence-cache-lobby")
		for range 8 {
			r.publish()
		}
		alice := r.joinByParts(pusher.Member{ID: "alice"})
		r.work()
		for range 150 { // more than the ring keeps
			r.publish()
		}
		r.log.Fail(true)
		alice.conn.drain()
		<-alice.over
		synctest.Wait()
		all := alice.conn.texts
		if len(all) != 2 || !strings.Contains(all[0], "unavailable") || !strings.HasPrefix(all[1], "158 ") {
			t.Errorf("got %.100q, want the gap and the cached event", all)
		}
	})
}
