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

// A channel that is new begins where the log ends, which is stored before; one
// that the client had goes on behind what it confirmed, on this node and another.
func TestRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newTable()
		n := start(t, Config{}, records)
		a := n.mustClaim(t, "1.1")
		mustBegin(t, a, "match.1", 5)
		if r, _ := a.Request("match.2", lineOf("E1", "match.2")); !slices.Equal(r.Except, []string{"1.1"}) {
			t.Errorf("events that were not meant for %v are sent again, want 1.1", r.Except)
		}
		confirmed := time.Now()
		confirm(a, "match.1", 7)
		pass(2 * saveInterval)
		n.kill()

		n = start(t, Config{}, records)
		b := n.mustClaim(t, "1.2")
		r, returning := b.Request("match.1", lineOf("E1", "match.1"))
		want := replay.Claim{Sequence: 7, Confirmed: confirmed}
		if !returning || r.Want != replay.WantMissed || r.Claim.Sequence != want.Sequence || !r.Claim.Confirmed.Equal(want.Confirmed.Truncate(time.Millisecond)) {
			t.Errorf("returning %v, %+v; want the claim %+v", returning, r, want)
		}
		if !slices.Equal(r.Except, []string{"1.1", "1.2"}) {
			t.Errorf("except %v, want those of both connections", r.Except)
		}
	})
}

// A place of another life of the stream, or of another channel, says nothing.
func TestRequestOnAnotherLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, Config{}, newTable()).mustClaim(t, "1.1")
		mustBegin(t, h, "match.1", 5)
		for _, c := range []struct {
			line replay.Line
			want replay.Reason
		}{
			{lineOf("E2", "match.1"), replay.EpochChanged},
			{lineOf("E1", "match.2"), replay.ForeignPosition},
		} {
			if r, returning := h.Request("match.1", c.line); !returning || r.Lost != c.want || r.Want != replay.WantNothing {
				t.Errorf("returning %v, %+v; want it lost, %s", returning, r, c.want)
			}
		}
	})
}

// A channel that the client had goes on where it was however long after the return
// it is subscribed: there was silence when that was more than two minutes. One that
// it left on this connection is new.
func TestRequestLongAfterTheReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, Config{}, newTable())
		h := n.mustClaim(t, "1.1")
		mustBegin(t, h, "match.1", 5)
		mustBegin(t, h, "match.2", 5)
		h.Release(time.Now())
		h = n.mustClaim(t, "1.2")
		h.Joined("match.2", lineOf("E1", "match.2").At(9), replay.TrimmedByAge, true)
		pass(time.Hour)
		wantClaim(t, h, "match.1", 5)
		wantLost(t, h, "match.2", replay.TrimmedByAge)
		h.Forget("match.1")
		mustBegin(t, h, "match.1", 8)
	})
}

// A client is told of a gap until it has confirmed something behind it, over as
// many connections and nodes as that takes; then it goes on from there.
func TestGapIsToldUntilConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newTable()
		n := start(t, Config{}, records)
		line := lineOf("E1", "match.1")
		h := n.mustClaim(t, "1.1")
		mustBegin(t, h, "match.1", 5)
		h.Joined("match.1", line.At(9), "", true) // nothing was missing
		wantClaim(t, h, "match.1", 5)
		h.Joined("match.1", line.At(9), replay.TrimmedByCount, true)
		wantLost(t, n.mustClaim(t, "1.2"), "match.1", replay.TrimmedByCount)
		n.end(t.Context())

		n = start(t, Config{}, records)
		h = n.mustClaim(t, "1.3")
		wantLost(t, h, "match.1", replay.TrimmedByCount)
		h.Joined("match.1", line.At(9), replay.TrimmedByCount, true)
		confirm(h, "match.1", 9)
		wantClaim(t, h, "match.1", 9)
		n.end(t.Context())
		wantClaim(t, start(t, Config{}, records).mustClaim(t, "1.4"), "match.1", 9)
	})
}

// Where nothing is retained each answer moves the place.
func TestJoinedWhereNothingIsRetained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, Config{}, newTable()).mustClaim(t, "1.1")
		h.Joined("match.1", lineOf("E1", "match.1").At(3), "", false)
		wantClaim(t, h, "match.1", 3)
		h.Joined("match.1", lineOf("E1", "match.1").At(8), "", false)
		wantClaim(t, h, "match.1", 8)
	})
}

// Confirmations move a place forward only, but those of another line replace it:
// the stream has begun again, at lower sequences. They did not, and what was new
// was confirmed as position of an old sequence.
func TestConfirm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, Config{}, newTable()).mustClaim(t, "1.1")
		mustBegin(t, h, "match.1", 500)
		old, fresh := lineOf("E1", "match.1"), lineOf("E2", "match.1")
		for i, c := range []struct {
			at, want replay.Position
			behind   bool
		}{
			{old.At(500), old.At(500), false},
			{old.At(502), old.At(502), true},
			{old.At(501), old.At(502), false},
			{fresh.At(3), fresh.At(3), true},
			{fresh.At(2), fresh.At(3), false},
			{fresh.At(4), fresh.At(4), true},
		} {
			if got := h.Behind("match.1", c.at); got != c.behind {
				t.Errorf("%d: behind %v is %v, want %v", i, c.at, got, c.behind)
			}
			pass(time.Second)
			h.Confirm([]Reached{{Channel: "match.1", Position: c.at}, {Channel: "not followed", Position: c.at}}, time.Now())
			if m := h.session.marks["match.1"]; m.position != c.want || !m.confirmed.Equal(time.Now()) {
				t.Errorf("%d: %v is confirmed, at %v; want %v, now", i, m.position, m.confirmed, c.want)
			}
		}
		if h.Behind("not followed", old.At(1)) {
			t.Error("behind on a channel that the session does not follow")
		}
	})
}

// What was confirmed is stored again before a claim based on it is in doubt,
// though nothing moves; and not more often.
func TestConfirmRenews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, Config{Retention: 8 * time.Minute}, newTable())
		h := n.mustClaim(t, "1.1")
		mustBegin(t, h, "match.1", 5)
		if h.Refresh() != 2*time.Minute {
			t.Fatalf("refresh every %v, want a quarter of the retention", h.Refresh())
		}
		pass(saveInterval)
		n.written()
		for range 58 {
			pass(time.Second)
			confirm(h, "match.1", 5)
		}
		synctest.Wait()
		if written := n.written(); written != 0 {
			t.Errorf("%d records are written of what did not move", written)
		}
		pass(time.Second)
		confirm(h, "match.1", 5)
		pass(time.Second)
		if written := n.written(); written != 1 {
			t.Errorf("%d records are written after half of the time to refresh, want 1", written)
		}
	})
}

// Of more channels than are followed the client is told a gap when it comes back,
// for it may have had them.
func TestTooManyChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newTable()
		n := start(t, Config{Channels: 3}, records)
		h := n.mustClaim(t, "1.1")
		for i := range 5 {
			mustBegin(t, h, fmt.Sprint(i), 5)
		}
		n.kill()
		n = start(t, Config{Channels: 3}, records)
		h = n.mustClaim(t, "1.2")
		wantClaim(t, h, "2", 5)
		for _, channel := range []string{"3", "4"} {
			wantLost(t, h, channel, replay.OverLimit)
			h.Joined(channel, lineOf("E1", channel).At(5), replay.OverLimit, true)
		}
		pass(time.Hour)
		wantLost(t, h, "never had", replay.OverLimit) // for all that is known
		mustBegin(t, h, "3", 5)                       // is new: it was told already
	})
}

// A channel that the client left is new when it comes again, on any node.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newTable()
		n := start(t, Config{}, records)
		h := n.mustClaim(t, "1.1")
		for i := range 2 * chunkChannels {
			mustBegin(t, h, fmt.Sprint(i), 5)
		}
		h.Forget("7")
		h.Forget("20")
		h.Forget("never had")
		mustBegin(t, h, "7", 6)
		h.Forget("7")
		n.end(t.Context())
		h = start(t, Config{}, records).mustClaim(t, "1.2")
		wantClaim(t, h, "6", 5)
		mustBegin(t, h, "7", 6)
		mustBegin(t, h, "20", 6)
	})
}

// What a hold tells that is not the newest counts for nothing.
func TestStaleHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, Config{}, newTable())
		a := n.mustClaim(t, "1.1")
		mustBegin(t, a, "match.1", 5)
		b := n.mustClaim(t, "1.2")
		confirm(a, "match.1", 9)
		a.Joined("match.1", lineOf("E1", "match.1").At(9), replay.Unavailable, true)
		a.Forget("match.1")
		r, _ := a.Request("match.2", lineOf("E1", "match.2"))
		if err := r.Begin(t.Context(), lineOf("E1", "match.2").At(1)); !errors.Is(err, errOvertaken) {
			t.Errorf("error %v, want %v: its client would be told that it joined", err, errOvertaken)
		}
		a.Release(time.Now())
		pass(2 * saveInterval)
		wantClaim(t, b, "match.1", 5)
		mustBegin(t, b, "match.2", 4)
		if got, want := n.counts(), [3]int{1, 1, 1}; got != want {
			t.Errorf("sessions, apps, addresses %v, want %v", got, want)
		}
	})
}

// One loads for all. Who waited for another's attempt that failed tries itself,
// and gives up waiting with its context.
func TestLoadIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newTable()
		n := start(t, Config{}, records)
		mustBegin(t, n.mustClaim(t, "1.1"), "match.1", 5)
		n.end(t.Context())

		n = start(t, Config{}, records)
		synctest.Wait()
		h, err := n.try(Who{App: app, ID: id, Socket: "1.2", Address: home})
		if err != nil {
			t.Fatal(err)
		}
		n.breakOff(errIO)
		err = h.Load(t.Context())
		if want := "load a session: the disk is gone"; err == nil || err.Error() != want || h.Loaded() {
			t.Errorf("load: %v, want %s; loaded %v", err, want, h.Loaded())
		}
		n.breakOff(nil)
		ended := make(chan error, 10)
		gone, cancel := context.WithCancel(t.Context())
		release := n.holdReads()
		go func() { ended <- h.Load(gone) }()
		synctest.Wait()
		for range 8 {
			go func() { ended <- h.Load(t.Context()) }()
		}
		impatient, leave := context.WithCancel(t.Context())
		leave()
		err = h.Load(impatient)
		if want := "wait for a session: context canceled"; err == nil || err.Error() != want {
			t.Errorf("load: %v, want %s", err, want)
		}
		cancel()
		if err := <-ended; err == nil {
			t.Error("no error of who gave up")
		}
		release()
		for range 8 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if gets := n.reads(); gets != 3+1 { // two failed; one, and when the other node was alive
			t.Errorf("the records were asked %d times", gets)
		}
		wantClaim(t, h, "match.1", 5)
	})
}
