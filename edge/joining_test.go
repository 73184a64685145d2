//go:build unix

package edge

import (
	"context"
	"testing"

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
