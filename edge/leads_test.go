package edge

import (
	"testing"
	"testing/synctest"
	"time"

	"reecho/edge/fanout"
	"reecho/edge/pusher"
)

func leadClient(a uint64) *client {
	return &client{Member: fanout.NewMember(&silentConn{}, pusher.SocketID{A: a, B: 1})}
}

// Each turn of a client is taken once, by whoever comes first, and a turn that is over is
// not taken while its grant lives.
func TestLeads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const keep = time.Minute
		var ls leads
		root := pusher.SocketID{A: 1, B: 1}
		first, second, third := leadClient(1), leadClient(2), leadClient(3)
		take := func(turn uint32, c, wantFormer *client, want bool) {
			t.Helper()
			if former, taken := ls.take(root, turn, c, keep); former != wantFormer || taken != want {
				t.Errorf("turn %d: former %v, taken %v", turn, former, taken)
			}
		}
		take(0, first, nil, true)
		take(1, second, first, true)
		take(1, third, nil, false)
		ls.release(root, first, keep) // it is not the newest any more
		take(2, second, nil, true)    // it signed in
		ls.release(root, second, keep)
		take(2, third, nil, false)
		take(3, third, nil, true)
		if former, answer := ls.heard(root, 3, third.ID(), keep); former != nil || answer != nil {
			t.Error("what is known is news")
		}
		if former, answer := ls.heard(root, 2, second.ID(), keep); former != nil || answer == nil || answer.turn != 3 || answer.id != third.ID() {
			t.Errorf("an older turn is answered with %+v", answer)
		}
		// Of two that took one turn the same is left everywhere.
		if former, answer := ls.heard(root, 3, second.ID(), keep); former != nil || answer == nil {
			t.Errorf("the lower id of two wins: %v, %+v", former, answer)
		}
		if former, answer := ls.heard(root, 3, pusher.SocketID{A: 4, B: 1}, keep); former != third || answer != nil {
			t.Errorf("the higher id of two does not win: %v, %+v", former, answer)
		}
		ls.release(root, third, keep)
		take(3, third, nil, false)
		if len(ls.byRoot) != 1 || ls.away != 1 {
			t.Errorf("%d are known, %d away", len(ls.byRoot), ls.away)
		}
		time.Sleep(keep + 1) //nolint:forbidigo // of synctest
		other := pusher.SocketID{A: 9, B: 1}
		if _, taken := ls.take(other, 0, first, keep); !taken || len(ls.byRoot) != 1 || ls.away != 0 {
			t.Errorf("after their time %d are known, %d away", len(ls.byRoot), ls.away)
		}
		// One that nobody went on from, or long ago, leaves nothing.
		ls.release(other, first, keep)
		if len(ls.byRoot) != 0 || ls.away != 0 {
			t.Errorf("in the end %d are known, %d away", len(ls.byRoot), ls.away)
		}
	})
}

// What is remembered is bounded: above it no grants are taken, and others are as before.
func TestLeadsAreBounded(t *testing.T) {
	t.Parallel()
	const keep = time.Hour
	var ls leads
	for i := range uint64(maxLeads + 10) {
		ls.heard(pusher.SocketID{A: i + 1, B: 1}, 1, pusher.SocketID{A: i + 1, B: 2}, keep)
	}
	if len(ls.byRoot) != maxLeads || ls.away != maxLeads {
		t.Errorf("%d are known, %d away, limit %d", len(ls.byRoot), ls.away, maxLeads)
	}
	c := leadClient(2)
	if _, taken := ls.take(pusher.SocketID{A: 1, B: 9}, 1, c, keep); taken {
		t.Error("one more is remembered")
	}
	if _, taken := ls.take(pusher.SocketID{A: 1, B: 9}, 0, c, keep); !taken {
		t.Error("a new client is refused")
	}
	if _, taken := ls.take(pusher.SocketID{A: 1, B: 1}, 2, c, keep); !taken || ls.away != maxLeads-1 {
		t.Errorf("a known one is refused, %d away", ls.away)
	}
}

// A user's grants end with a termination, also one that seems to be given a little later
// on another node.
func TestTerminationEndsGrants(t *testing.T) {
	t.Parallel()
	var all terminations
	now := time.Now()
	if all.endsGrant("alice", now) {
		t.Error("ended before anything was")
	}
	mustEnd(t, &all, "alice", time.Hour)
	for after, want := range map[time.Duration]bool{-time.Minute: true, time.Second: true, clockSkew - time.Second: true, clockSkew + time.Minute: false} {
		if got := all.endsGrant("alice", now.Add(after)); got != want {
			t.Errorf("given %s after: %v", after, got)
		}
	}
	if all.endsGrant("bob", now) {
		t.Error("it is not alice alone")
	}
}
