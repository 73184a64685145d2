package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"reecho/replay"
)

// mustWait is a hold of which Load has to wait for the owner.
func (n *node) mustWait(t *testing.T, socket string, conn Connection) *Hold {
	t.Helper()
	h := &Hold{}
	if err := n.Claim(h, Who{App: app, ID: id, Socket: socket, Address: home}, conn); err != nil {
		t.Fatal(err)
	}
	now, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Load(now); !errors.Is(err, context.Canceled) || h.Loaded() {
		t.Errorf("load: %v, loaded %v; want it to wait", err, h.Loaded())
	}
	return h
}

func mustLoad(t *testing.T, h *Hold) {
	t.Helper()
	if err := h.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A connection whose client does not answer is taken over by the newer one, without
// a lock, once; the newest of several is the owner in the end.
func TestClaimTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, Config{}, newTable())
		var holds [3]Hold
		var told []string
		conn := func(i int) Connection {
			return page{over: func() {
				h := &holds[i]
				h.Behind("match.1", replay.Position{})
				h.Release(time.Now())
				if n.counts()[0] != 1 {
					t.Error("the session is gone")
				}
				told = append(told, h.socket)
			}}
		}
		for i := range holds {
			if err := n.Claim(&holds[i], Who{App: app, ID: id, Socket: fmt.Sprint(i), Address: home}, conn(i)); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				mustLoad(t, &holds[0])
				mustBegin(t, &holds[0], "match.1", 5)
			}
		}
		began := time.Now()
		mustLoad(t, &holds[2])
		if waited := time.Since(began); waited > askTime+time.Second {
			t.Errorf("waited for %v", waited)
		}
		synctest.Wait() // until those who were taken over have been told
		if got := fmt.Sprint(told); got != "[0 1]" {
			t.Errorf("taken over: %v, want 0 and 1", got)
		}
		wantClaim(t, &holds[2], "match.1", 5)
	})
}

// A page that answers keeps its session; the other has one of its own, that is told
// of a gap on every channel, and confirms nothing of the first.
func TestTwoPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newTable()
		n := start(t, Config{}, records)
		var a, b Hold
		closed := func() { t.Error("a page that lives is taken over") }
		if err := n.Claim(&a, Who{App: app, ID: id, Socket: "1.1", Address: home}, page{
			asked: func() { time.AfterFunc(askTime-time.Millisecond, a.Answered) }, over: closed,
		}); err != nil {
			t.Fatal(err)
		}
		mustLoad(t, &a)
		mustBegin(t, &a, "match.1", 5)
		if err := n.Claim(&b, Who{App: app, ID: id, Socket: "1.2", Address: home}, page{over: closed}); err != nil {
			t.Fatal(err)
		}
		mustLoad(t, &b)
		for _, channel := range []string{"match.1", "match.2"} {
			wantLost(t, &b, channel, replay.SessionExpired)
			b.Joined(channel, lineOf("E1", channel).At(9), replay.SessionExpired, true)
			confirm(&b, channel, 9)
			wantClaim(t, &b, channel, 9)
		}
		b.Forget("match.1")
		mustBegin(t, &b, "match.1", 10) // it has had this one
		wantClaim(t, &a, "match.1", 5)
		mustBegin(t, &a, "match.3", 5)
		confirm(&a, "match.1", 7)
		b.Release(time.Now())
		a.Release(time.Now())

		// Which of the two comes back is not known, on any node: what was not for
		// the one may be for the other.
		back := func(n *node, socket string) {
			h := n.mustClaim(t, socket)
			wantLost(t, h, "match.1", replay.SessionExpired)
			wantLost(t, h, "match.2", replay.SessionExpired)
			if r, _ := h.Request("match.1", lineOf("E1", "match.1")); !slices.Equal(r.Except, []string{socket}) {
				t.Errorf("events are not for %v, want %s only", r.Except, socket)
			}
		}
		back(n, "1.3")
		n.kill()
		back(start(t, Config{}, records), "1.4")
	})
}

// An owner whose connection ends while it is asked leaves the session at once, with
// all it has; also to the next when the first that waited is gone.
func TestOwnerLeavesWhileAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, Config{}, newTable())
		a := n.mustClaim(t, "1.1")
		mustBegin(t, a, "match.1", 5)
		b := n.mustWait(t, "1.2", page{})
		c := n.mustWait(t, "1.3", page{})
		b.Release(time.Now())
		a.Release(time.Now())
		mustLoad(t, c)
		wantClaim(t, c, "match.1", 5)
	})
}

// What a connection tells that has lost its session, and what it had begun to tell
// before, is stored nowhere: the session goes on without it, or is gone.
func TestLateWordsAreNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newTable()
		n := start(t, Config{}, records)
		h := n.mustClaim(t, "1.1")
		mustBegin(t, h, "match.1", 5)
		h.Release(time.Now())
		pass(2 * saveInterval)

		// It is loaded only after its connection was lost, and had left the node.
		late, err := n.try(Who{App: app, ID: id, Socket: "1.2", Address: home})
		if err != nil {
			t.Fatal(err)
		}
		release := n.holdReads()
		loaded := make(chan error)
		go func() { loaded <- late.Load(t.Context()) }()
		synctest.Wait()
		late.Release(time.Now())
		release()
		if err := <-loaded; err != nil {
			t.Fatal(err)
		}
		newer := n.mustClaim(t, "1.3")
		confirm(newer, "match.1", 9)
		pass(2 * saveInterval)
		n.written()
		confirm(late, "match.1", 7)
		late.Joined("match.1", lineOf("E1", "match.1").At(7), replay.Unavailable, true)
		late.Forget("match.1")
		late.Release(time.Now())
		pass(2 * saveInterval)
		if written := n.written(); written != 0 {
			t.Errorf("%d records are written of what came late", written)
		}
		if got, want := n.counts(), [3]int{1, 1, 1}; got != want {
			t.Errorf("sessions, apps, addresses %v, want %v", got, want)
		}
		wantClaim(t, newer, "match.1", 9)
	})
}
