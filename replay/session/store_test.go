package session

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"reecho/broker"
	"reecho/replay"
)

// The sessions of an app and of an address are counted while they are here: with
// a connection, or not yet stored.
func TestClaimLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, Config{PerAddress: 2}, newTable())
		away := netip.MustParseAddr("192.0.2.2")
		claim := func(id, app string, address netip.Addr, most int) (*Hold, error) {
			return n.try(Who{App: app, ID: id, Address: address, Most: most})
		}
		want := func(err error, full *FullError, text string) {
			t.Helper()
			var got *FullError
			if !errors.As(err, &got) || *got != *full || err.Error() != text {
				t.Errorf("error %v, want %s", err, text)
			}
		}
		a := must(claim("a", "77", home, 1))(t)
		_, err := claim("b", "77", away, 1)
		want(err, &FullError{Limit: 1}, "the app has 1 sessions already")
		second := must(claim("a", "77", home, 1))(t) // has the same
		must(claim("b", "77", home, 0))(t)
		_, err = claim("a", "78", home, 1)
		want(err, &FullError{OfAddress: true, Limit: 2}, "clients of the address have 2 sessions already")
		c := must(claim("c", "78", away, 1))(t)
		must(claim("d", "79", away, 1))(t)
		_, err = claim("a", "77", away, 0) // moves there
		want(err, &FullError{OfAddress: true, Limit: 2}, "clients of the address have 2 sessions already")
		c.Release(time.Now())
		moved := must(claim("a", "77", away, 0))(t)
		must(claim("a", "78", home, 1))(t)
		a.Release(time.Now())
		second.Release(time.Now())
		moved.Release(time.Now())
		must(claim("e", "77", away, 0))(t)
		if got, want := n.counts(), [3]int{4, 3, 2}; got != want {
			t.Errorf("sessions, apps, addresses %v, want %v", got, want)
		}
	})
}

// must is the hold of a claim that is not refused.
func must(h *Hold, err error) func(*testing.T) *Hold {
	return func(t *testing.T) *Hold {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
}

// A client that comes back later than a session is kept is told so, wherever the
// session has been meanwhile.
func TestExpiry(t *testing.T) {
	const keep = 10 * time.Second
	// What the node says of being alive is so old at most.
	const doubt = alivePeriod
	for _, c := range []struct {
		name    string
		away    time.Duration
		leave   func(n *node, h *Hold)
		expired bool
	}{
		{"on a node that cannot store it, in time", keep, func(n *node, h *Hold) { n.breakOff(errIO); h.Release(time.Now()) }, false},
		{"on a node that cannot store it, too late", keep + 1, func(n *node, h *Hold) { n.breakOff(errIO); h.Release(time.Now()) }, true},
		{"stored, in time", keep - time.Second, func(_ *node, h *Hold) { h.Release(time.Now()) }, false},
		{"stored, too late", keep + time.Second, func(_ *node, h *Hold) { h.Release(time.Now()) }, true},
		{"on a node that was killed, in time", keep, func(n *node, _ *Hold) { n.kill() }, false},
		{"on a node that was killed, too late", keep + doubt + time.Second, func(n *node, _ *Hold) { n.kill() }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				records := newTable()
				n := start(t, Config{Time: keep}, records)
				h := n.mustClaim(t, "1.1")
				mustBegin(t, h, "match.1", 5)
				pass(time.Minute)
				confirm(h, "match.1", 7)
				pass(2 * saveInterval)
				c.leave(n, h)
				left := time.Now()
				if n.isClosed() {
					n = start(t, Config{Time: keep}, records)
				}
				pass(c.away - time.Since(left))
				h, err := n.try(Who{App: app, ID: id, Socket: "1.2", Address: home})
				if err != nil {
					t.Fatal(err)
				}
				if err := h.Load(t.Context()); err != nil {
					t.Fatal(err)
				}
				if c.expired {
					wantLost(t, h, "match.1", replay.SessionExpired)
				} else {
					wantClaim(t, h, "match.1", 7)
				}
			})
		})
	}
}

// A session whose client left is forgotten here, but not in the records: once it
// is stored, or at once if it had nothing to keep.
func TestDiscard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, Config{}, newTable())
		h := n.mustClaim(t, "1.1")
		mustBegin(t, h, "match.1", 5)
		h.Release(time.Now())
		if got := n.counts(); got != [3]int{1, 1, 1} {
			t.Errorf("before it is stored: %v", got)
		}
		pass(2 * saveInterval)
		if got := n.counts(); got != [3]int{} {
			t.Errorf("when it is stored: %v", got)
		}
		n.written()
		h, err := n.try(Who{App: app, ID: id, Socket: "1.2", Address: home})
		if err != nil {
			t.Fatal(err)
		}
		h.Forget("match.1") // of what is not known here
		h.Release(time.Now())
		pass(2 * saveInterval)
		if got := n.counts(); got != [3]int{} {
			t.Errorf("when it was not loaded: %v", got)
		}
		h = n.mustClaim(t, "1.3")
		wantClaim(t, h, "match.1", 5)
		if r, _ := h.Request("match.1", lineOf("E1", "match.1")); len(r.Except) != 3 {
			t.Errorf("events are not for %v, want the id of the lost connection, too", r.Except)
		}
		h = must(n.try(Who{App: app, ID: "made up", Address: home}))(t)
		h.Release(time.Now())
		if got := n.counts(); got != [3]int{1, 1, 1} {
			t.Errorf("when it was made up: %v", got)
		}
	})
}

// What cannot be loaded or read is an error, and is asked for again.
func TestLoadFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newTable()
		n := start(t, Config{}, records)
		key := app + "/" + id
		long := `{"node":"x","dropped":1,"chunks":2}`
		for _, c := range []struct{ name, main, chunk, want string }{
			{"no record", `{`, "", "read a stored session: unexpected end of JSON input"},
			{"no position", `{"channels":{"a":{"p":"5"}}}`, "", `read a stored session: "5" is no position`},
			{"no chunk", long, `[]`, "read a stored session: json: cannot unmarshal array into Go value of type session.chunkRecord"},
			{"nothing wrong", long, `{}`, ""},
		} {
			for k, text := range map[string]string{key: c.main, chunkKey(key, 1): c.chunk} {
				if _, err := records.Put(t.Context(), k, []byte(text), broker.AnyRevision); err != nil {
					t.Fatal(err)
				}
			}
			h, err := n.try(Who{App: app, ID: id, Socket: "1.1", Address: home})
			if err != nil {
				t.Fatal(err)
			}
			if err := h.Load(t.Context()); err == nil && c.want != "" || err != nil && err.Error() != c.want {
				t.Errorf("%s: %v, want %s", c.name, err, c.want)
			}
		}
	})
}

// Each of the reads of a session may be the one that fails.
func TestLoadFailsHalfway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newTable()
		n := start(t, Config{}, records)
		h := n.mustClaim(t, "1.1")
		for i := range chunkChannels + 1 {
			mustBegin(t, h, fmt.Sprint(i), 5)
		}
		n.kill()
		n = start(t, Config{}, records)
		h, err := n.try(Who{App: app, ID: id, Socket: "1.2", Address: home})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"load a session: ", "load a session: ", "ask when a node was last alive: "} {
			n.failRead(n.reads() + i)
			if err := h.Load(t.Context()); !errors.Is(err, errIO) || err.Error() != want+errIO.Error() {
				t.Errorf("load: %v, want %s%v", err, want, errIO)
			}
		}
		if err := h.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantClaim(t, h, fmt.Sprint(chunkChannels), 5)
	})
}

// Close stores what is not stored, in its newest state.
func TestCloseSaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newTable()
		n := start(t, Config{}, records)
		for i := range 3 * writers {
			h := must(n.try(Who{App: app, ID: fmt.Sprint(i), Address: home}))(t)
			if err := h.Load(t.Context()); err != nil {
				t.Fatal(err)
			}
			mustBegin(t, h, "match.1", 5)
			confirm(h, "match.1", 7) // a moment after a save: put off
			if i%2 == 0 {
				h.Release(time.Now())
			}
		}
		n.end(t.Context())
		n = start(t, Config{}, records)
		for i := range 3 * writers {
			h := must(n.try(Who{App: app, ID: fmt.Sprint(i), Address: home}))(t)
			if err := h.Load(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantClaim(t, h, "match.1", 7)
		}
	})
}

// Close gives up what is not stored when its context ends, also if it had ended
// before.
func TestCloseWithoutTime(t *testing.T) {
	for _, before := range []bool{false, true} {
		t.Run(fmt.Sprintf("before=%v", before), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := start(t, Config{}, newTable())
				putOff(t, n, 10*writers)
				defer n.hold()()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if before {
					cancel()
				}
				began := time.Now()
				n.end(ctx)
				if written := n.written(); written > writers {
					t.Errorf("%d sessions are written, want no more than were on their way", written)
				}
				if d := time.Since(began); d > saveTimeout {
					t.Errorf("closing took %v, want no more than one save", d)
				}
			})
		})
	}
}

// putOff makes sessions that changed just after they were saved.
func putOff(t *testing.T, n *node, sessions int) {
	t.Helper()
	var all []*Hold
	for i := range sessions {
		h := must(n.try(Who{App: app, ID: fmt.Sprint(i), Address: home}))(t)
		all = append(all, h)
		if err := h.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	pass(2 * saveInterval)
	for _, h := range all {
		h.Joined("match.1", lineOf("E1", "match.1").At(5), "", false)
	}
	pass(saveInterval / 2)
	for _, h := range all {
		confirm(h, "match.1", 6)
	}
	n.written()
}

// A save is never put off when the store is closing: whoever asks for one while
// Close begins is either found by it, or knows. It was not so: what had looked
// before Close, and asked after, was lost.
func TestCloseFindsWhatIsPutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, Config{}, newTable())
		h := n.mustClaim(t, "1.1")
		mustBegin(t, h, "match.1", 5)
		synctest.Wait() // until that save is over
		s := h.session
		s.mu.Lock()
		asked := make(chan when)
		go func() { asked <- s.saveSoon(&n.closing) }()
		for range 1000 {
			runtime.Gosched() // until it waits for the session
		}
		n.closing.Store(true)
		s.mu.Unlock()
		w := <-asked
		if !w.queue || w.after != 0 {
			t.Errorf("it is put off by %v while the store closes", w.after)
		}
		n.carryOut(s, w)
	})
}

// The store of a broker that is closed or has failed is told of there.
func TestBrokersFailuresAreNotLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, Config{}, newTable())
		for _, err := range []error{broker.ErrClosed, broker.ErrUnavailable} {
			n.breakOff(fmt.Errorf("store a value: %w", err))
			pass(2 * alivePeriod)
		}
		if n.lines.text.Len() > 0 {
			t.Errorf("logged: %s", n.lines.text.String())
		}
	})
}

// When the records are a copy that was put back, who has a session may have got
// further than it says, and of whom nothing is known may have had one: both are told.
// What is put from then on is right.
func TestRecordsPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newTable()
		n := start(t, Config{Memory: time.Hour}, records)
		a := n.mustClaim(t, "1.1")
		mustBegin(t, a, "match.1", 5)
		pass(2 * saveInterval)
		copied := records.Copy()
		confirm(a, "match.1", 7)
		mustBegin(t, a, "match.2", 7)
		n.end(t.Context())
		records.Restore(copied)

		n = start(t, Config{Memory: time.Hour}, records)
		b := n.mustClaim(t, "1.2")
		wantLost(t, b, "match.1", replay.EpochChanged)
		wantLost(t, b, "match.2", replay.SessionExpired)
		b.Joined("match.1", lineOf("E1", "match.1").At(9), replay.EpochChanged, true)
		confirm(b, "match.1", 9)
		other := n.mustClaimID(t, "4f7e9df0-0002", "1.3")
		wantLost(t, other, "match.1", replay.SessionExpired)
		n.end(t.Context())

		pass(30 * time.Minute)
		n = start(t, Config{Time: time.Hour, Memory: time.Hour}, records)
		wantClaim(t, n.mustClaim(t, "1.4"), "match.1", 9)
		pass(time.Hour)
		mustBegin(t, n.mustClaimID(t, "4f7e9df0-0003", "1.5"), "match.1", 9)
	})
}
