package session

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"reecho/replay"
)

// A page that lives keeps its session, whichever node another page with the id comes
// to: that has one of its own, and nobody is closed. Which of them comes back later is
// not known.
func TestTwoPagesOnTwoNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newCluster()
		n, m := start(t, Config{}, records), start(t, Config{}, records)
		var a, b Hold
		closed := func() { t.Error("a page that lives is taken over") }
		if err := n.Claim(&a, Who{App: app, ID: id, Socket: "1.1", Address: home}, page{
			asked: func() { time.AfterFunc(askTime/2, a.Answered) }, over: closed,
		}); err != nil {
			t.Fatal(err)
		}
		mustLoad(t, &a)
		mustBegin(t, &a, "match.1", 5)
		if err := m.Claim(&b, Who{App: app, ID: id, Socket: "2.1", Address: home}, page{over: closed}); err != nil {
			t.Fatal(err)
		}
		for range 3 { // several subscriptions at once
			go func() { _ = b.Load(t.Context()) }()
		}
		mustLoad(t, &b)
		for _, channel := range []string{"match.1", "match.2"} {
			wantLost(t, &b, channel, replay.SessionExpired)
			b.Joined(channel, lineOf("E1", channel).At(9), replay.SessionExpired, true)
			confirm(&b, channel, 9)
			wantClaim(t, &b, channel, 9)
		}
		confirm(&a, "match.1", 7)
		mustBegin(t, &a, "match.3", 5)
		b.Release(time.Now())
		a.Release(time.Now())
		pass(2 * saveInterval)
		if got := m.counts(); got != [3]int{} {
			t.Errorf("sessions, apps, addresses %v are left", got)
		}
		wantLost(t, m.mustClaim(t, "2.2"), "match.1", replay.SessionExpired)
	})
}

// A session is taken over from a node whose client does not answer, or that does not
// answer itself, after a time; and at once when there is nobody to wait for.
func TestTakeOverFromAnotherNode(t *testing.T) {
	const soon = 500 * time.Millisecond
	for name, c := range map[string]struct {
		do    func(in table, n *node, h *Hold)
		soon  bool
		place uint64
	}{
		"the client is gone":      {func(table, *node, *Hold) {}, false, 6},
		"the node is cut off":     {func(in table, _ *node, _ *Hold) { in.cutWires(true) }, false, 6},
		"the node is dead":        {func(in table, n *node, _ *Hold) { n.kill(); in.leave(n) }, true, 6},
		"the connection is ended": {func(_ table, _ *node, h *Hold) { confirm(h, "match.1", 7); h.Release(time.Now()) }, true, 7},
		"the node stops":          {func(in table, n *node, h *Hold) { h.Release(time.Now()); n.end(context.Background()); in.leave(n) }, true, 6},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				records := newCluster()
				n, m := start(t, Config{}, records), start(t, Config{}, records)
				h, _ := n.claimTold(t, "1.1")
				mustBegin(t, h, "match.1", 5)
				pass(2 * saveInterval)
				confirm(h, "match.1", 6)
				pass(saveInterval / 2)
				c.do(records, n, h)
				began := time.Now()
				b := m.mustClaim(t, "2.1")
				if waited := time.Since(began); waited < soon != c.soon || waited > askTime+2*time.Second {
					t.Errorf("waited for %v", waited)
				}
				wantClaim(t, b, "match.1", c.place)
			})
		})
	}
}

// A client that comes back to a node that it had left, and that does not know it, goes
// on where it was on the other.
func TestBackToTheFirstNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newCluster()
		n, m := start(t, Config{}, records), start(t, Config{}, records)
		h, told := n.claimTold(t, "1.1")
		mustBegin(t, h, "match.1", 5)
		records.cutWires(true)
		b := m.mustClaim(t, "2.1")
		mustBegin(t, b, "match.2", 7)
		b.Release(time.Now())
		pass(2 * saveInterval)
		c, again := n.claimTold(t, "1.2")
		wantClaim(t, c, "match.1", 5)
		wantClaim(t, c, "match.2", 7)
		mustBegin(t, c, "match.3", 8)
		pass(time.Hour)
		if told.Load() != 1 || again.Load() != 0 {
			t.Errorf("the first connection is told %d times, the last %d; want once and never", told.Load(), again.Load())
		}
	})
}

// So does one that had nothing yet when it was on the first node: that has no record by
// which it could notice.
func TestBackToANodeThatKnewNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newCluster()
		n, m := start(t, Config{}, records), start(t, Config{}, records)
		n.mustClaim(t, "1.1")
		b := m.mustClaim(t, "2.1")
		mustBegin(t, b, "match.2", 7)
		b.Release(time.Now())
		pass(2 * saveInterval)
		wantClaim(t, n.mustClaim(t, "1.2"), "match.2", 7)
	})
}

// A connection that is lost before it has asked for anything takes nothing from the
// node that has the session.
func TestLostBeforeItAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newCluster()
		n, m := start(t, Config{}, records), start(t, Config{}, records)
		h, told := n.claimTold(t, "1.1")
		mustBegin(t, h, "match.1", 5)
		pass(2 * flushInterval)
		other := must(m.try(Who{App: app, ID: "4f7e9df0-0002", Socket: "2.0", Address: home}))(t)
		mustLoad(t, other) // so that the ids are known
		b := must(m.try(Who{App: app, ID: id, Socket: "2.1", Address: home}))(t)
		b.Release(time.Now())
		pass(2 * saveTimeout)
		confirm(h, "match.1", 6)
		mustBegin(t, h, "match.2", 6)
		if told.Load() != 0 {
			t.Error("the connection is told that it is taken over")
		}
		if got := m.counts(); got != [3]int{1, 1, 1} {
			t.Errorf("sessions, apps, addresses %v, want that of the other client", got)
		}
	})
}

// What is no question gets no answer.
func TestNoQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, Config{}, newCluster())
		if text, err := n.answer([]byte("{")); err == nil {
			t.Errorf("the answer is %q", text)
		}
	})
}
