package session

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// A session that changes all the time is written once a second, and at last as it
// is then.
func TestSavesArePutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newTable()
		n := start(t, Config{}, records)
		h := n.mustClaim(t, "1.1")
		mustBegin(t, h, "match.1", 5)
		pass(2 * saveInterval)
		n.written()
		for i := range uint64(100) {
			confirm(h, "match.1", 6+i)
			pass(100 * time.Millisecond)
		}
		if written := n.written(); written < 9 || written > 11 {
			t.Errorf("%d records are written in ten seconds, want one in each", written)
		}
		pass(saveInterval)
		n.kill()
		wantClaim(t, start(t, Config{}, records).mustClaim(t, "1.2"), "match.1", 105)
	})
}

// What changes while a session is written is written once more, and who waits for
// that is told when it is.
func TestSaveDuringASave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, Config{}, newTable())
		h := n.mustClaim(t, "1.1")
		mustBegin(t, h, "match.1", 5)
		pass(2 * saveInterval)
		n.written()
		release := n.hold()
		confirm(h, "match.1", 6)
		synctest.Wait()
		confirm(h, "match.1", 7)
		waited := make(chan error, 2)
		for _, channel := range []string{"match.2", "match.3"} {
			r, _ := h.Request(channel, lineOf("E1", channel))
			go func() { waited <- r.Begin(t.Context(), lineOf("E1", channel).At(1)) }()
		}
		synctest.Wait()
		if written := n.written(); written != 1 || len(waited) > 0 {
			t.Errorf("%d records are being written, %d know of it; want 1 and nobody", written, len(waited))
		}
		release()
		for range 2 {
			if err := <-waited; err != nil {
				t.Error(err)
			}
		}
		if written := n.written(); written != 1 {
			t.Errorf("%d records are written after that, want 1", written)
		}
	})
}

// A save that fails is an error for who waits, is logged once and tried again,
// until it works, which is logged too.
func TestFailingSavesAreRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newTable()
		n := start(t, Config{}, records)
		h := n.mustClaim(t, "1.1")
		mustBegin(t, h, "match.1", 5)
		n.breakOff(errIO)
		r, _ := h.Request("match.2", lineOf("E1", "match.2"))
		if err := r.Begin(t.Context(), lineOf("E1", "match.2").At(1)); !errors.Is(err, errIO) {
			t.Errorf("error %v, want %v", err, errIO)
		}
		confirm(h, "match.1", 7)
		pass(10 * time.Second)
		wantLines(t, n, 1, 0)
		n.breakOff(nil)
		pass(2 * alivePeriod)
		wantLines(t, n, 1, 1)
		n.kill()
		h = start(t, Config{}, records).mustClaim(t, "1.2")
		wantClaim(t, h, "match.1", 7)
		mustBegin(t, h, "match.2", 1) // nobody was told that it joined
	})
}

// wantLines checks how often it was logged that saving fails, and works again.
func wantLines(t *testing.T, n *node, failing, working int) {
	t.Helper()
	const fails = `level=WARN msg="cannot save sessions: after a crash clients may get events again" error="the disk is gone"`
	if got := n.lines.count(fails); got != failing {
		t.Errorf("logged %d times that saving fails, want %d", got, failing)
	}
	if got := n.lines.count(`level=INFO msg="sessions are saved again"`); got != working {
		t.Errorf("logged %d times that it works again, want %d", got, working)
	}
}

// The session of a client that left is kept here while it cannot be stored, so
// that the client finds it, but no longer than it is of use.
func TestFailingSavesAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, Config{Time: 10 * time.Second}, newTable())
		h := n.mustClaim(t, "1.1")
		mustBegin(t, h, "match.1", 5)
		n.breakOff(errIO)
		confirm(h, "match.1", 7)
		h.Release(time.Now())
		pass(9 * time.Second)
		h, err := n.try(Who{App: app, ID: id, Socket: "1.2", Address: home})
		if err != nil {
			t.Fatal(err)
		}
		wantClaim(t, h, "match.1", 7)
		h.Release(time.Now())
		pass(10 * time.Second)
		if got := n.counts(); got != [3]int{1, 1, 1} {
			t.Errorf("sessions, apps, addresses %v, want one of each while it is of use", got)
		}
		pass(2 * time.Second)
		if got := n.counts(); got != [3]int{} {
			t.Errorf("sessions, apps, addresses %v, want none", got)
		}
	})
}

// A write that hangs is given up, so that the others are not held up for ever.
func TestSavesThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, Config{}, newTable())
		h := n.mustClaim(t, "1.1")
		release := n.hold()
		r, _ := h.Request("match.1", lineOf("E1", "match.1"))
		if err := r.Begin(t.Context(), lineOf("E1", "match.1").At(5)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want the deadline's", err)
		}
		r, _ = h.Request("match.2", lineOf("E1", "match.2"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := r.Begin(ctx, lineOf("E1", "match.2").At(5))
		if want := "wait for a session to be saved: context deadline exceeded"; err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
		release()
		pass(2 * saveTimeout)
		h.Release(time.Now())
		pass(2 * saveInterval)
		if got := n.counts(); got != [3]int{} {
			t.Errorf("sessions, apps, addresses %v: it is not stored when writing works again", got)
		}
	})
}

// Saves that are waited for are done at once up to a burst; those above it take
// turns, and wait for as long as their context lets them.
func TestSavesWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const more = 40
		n := start(t, Config{SavesPerSecond: 10}, newTable())
		h := n.mustClaim(t, "1.1")
		save := func(ctx context.Context) error { return n.saveNow(ctx, h.session) }
		began := time.Now()
		done := make(chan error)
		for range savesBurst + more {
			go func() { done <- save(t.Context()) }()
		}
		for range savesBurst {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("the burst took %v", d)
		}
		for range more {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(began); d < more/10*time.Second || d > 2*more/10*time.Second {
			t.Errorf("the rest took %v, want 10 in a second", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/20)
		defer cancel()
		err := save(ctx)
		if want := "wait until a session may be saved: context deadline exceeded"; err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	})
}

// Who gives up waiting for a turn holds up nobody: whoever has time for the next
// one gets it, though many were in front.
func TestTurnsThatAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, Config{SavesPerSecond: 10}, newTable())
		h := n.mustClaim(t, "1.1")
		for h.session.takeTurn(n.cfg.SavesPerSecond) {
		}
		impatient, leave := context.WithCancel(t.Context())
		gone := make(chan error)
		for range 100 {
			go func() { gone <- n.saveNow(impatient, h.session) }()
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		served := make(chan error)
		go func() { served <- n.saveNow(ctx, h.session) }()
		synctest.Wait()
		leave()
		for range 100 {
			<-gone
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// The limiter of a session that has all its turns again is not kept.
func TestFullTurnsAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, Config{}, newTable())
		h := n.mustClaim(t, "1.1")
		for i := range 40 {
			mustBegin(t, h, fmt.Sprint(i), 5)
		}
		if !h.session.hasTurns() {
			t.Fatal("none after many saves")
		}
		pass(10 * time.Second)
		confirm(h, "7", 6)
		pass(time.Second)
		if h.session.hasTurns() {
			t.Error("it is kept")
		}
	})
}

func (s *session) hasTurns() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.turns != nil
}
