package session

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reecho/replay"
)

// evict makes the records forget a session, but not that it was there.
func (n *node) evict(key string) { n.table.Forget(key) }

// A session of which nothing is left but its id is told of a gap on whatever it
// subscribes to: it was taken for new, and got neither events nor a word. An id
// that never had anything to keep is new.
func TestEvictedSessionIsTold(t *testing.T) {
	for _, c := range []struct {
		name   string
		after  func(n *node, in table, h *Hold) *node
		reason replay.Reason
	}{
		{"on the same node", func(n *node, _ table, h *Hold) *node { h.Release(time.Now()); pass(2 * saveInterval); return n }, replay.SessionExpired},
		{"after a stop", func(n *node, _ table, _ *Hold) *node { n.end(context.Background()); return n }, replay.SessionExpired},
		{"after a kill", func(n *node, _ table, _ *Hold) *node { pass(2 * flushInterval); n.kill(); return n }, replay.SessionExpired},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				records := newTable()
				n := start(t, Config{}, records)
				h := n.mustClaim(t, "1.1")
				mustBegin(t, h, "match.1", 5)
				if n = c.after(n, records, h); n.isClosed() {
					n = start(t, Config{}, records)
				}
				n.evict(app + "/" + id)
				h = n.mustClaim(t, "1.2")
				wantLost(t, h, "match.1", c.reason)
				h.Joined("match.1", lineOf("E1", "match.1").At(9), c.reason, true)
				confirm(h, "match.1", 9)
				wantClaim(t, h, "match.1", 9)
				pass(2 * saveInterval)
				n.kill()
				n = start(t, Config{}, records)
				h = n.mustClaim(t, "1.3")
				wantClaim(t, h, "match.1", 9)
				wantLost(t, h, "match.2", c.reason) // it came after the break
				other := must(n.try(Who{App: app, ID: "another one of them", Address: home}))(t)
				mustLoad(t, other)
				mustBegin(t, other, "match.1", 9)
			})
		})
	}
}

// Ids without a place to keep cost nothing in the store.
func TestIdsWithoutChannelsAreFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, Config{}, newTable())
		for i := range 50 {
			h := must(n.try(Who{App: app, ID: fmt.Sprint(i), Address: home}))(t)
			mustLoad(t, h)
			h.Release(time.Now())
		}
		pass(2 * saveInterval)
		if written := n.written(); written != 0 || n.ids.knows(app+"/1") {
			t.Errorf("%d records are written, remembered %v", written, n.ids.knows(app+"/1"))
		}
	})
}

// The records of one address have a share of the store. What is above is not
// stored, nor silent: the client is told when it comes back.
func TestShareOfAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newTable()
		cfg := Config{Bytes: MinBytes}
		n := start(t, cfg, records)
		long := strings.Repeat("x", 200)
		begin := func(id string, who Who) *Hold {
			who.App, who.ID = app, id
			h := must(n.try(who))(t)
			mustLoad(t, h)
			mustBegin(t, h, "match."+long, 5)
			return h
		}
		const flood = 2000 // of half a KB
		for i := range flood {
			begin(fmt.Sprint("flood", i), Who{Address: home}).Release(time.Now())
		}
		begin("honest", Who{Address: home.Next()}).Release(time.Now())
		pass(2 * saveInterval)
		bytes := 0
		for _, key := range records.Keys() {
			if strings.HasPrefix(key, app+"/flood") {
				bytes += len(key)
			}
		}
		if stored := bytes / len(app+"/flood1000"); stored < flood/10 || stored > flood/2 {
			t.Errorf("%d of %d records are stored", stored, flood)
		}
		for id, lost := range map[string]bool{"honest": false, "flood1": false, fmt.Sprint("flood", flood-1): true} {
			h := must(n.try(Who{App: app, ID: id, Address: home.Next()}))(t)
			mustLoad(t, h)
			if lost {
				wantLost(t, h, "match."+long, replay.SessionExpired)
			} else {
				wantClaim(t, h, "match."+long, 5)
			}
		}
		// It gets its share back.
		pass(n.cfg.Time + n.cfg.refresh())
		h := begin("later", Who{Address: home})
		h.Release(time.Now())
		pass(2 * saveInterval)
		h = must(n.try(Who{App: app, ID: "later", Address: home}))(t)
		mustLoad(t, h)
		wantClaim(t, h, "match."+long, 5)
	})
}

// So many ids are remembered, the newest; each for as long as it should be, from the
// time on when its client was there last.
func TestIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newTable()
		n := start(t, Config{IDs: 4 * segmentIDs, Memory: 4 * time.Hour, Retention: time.Hour}, records)
		d := n.ids
		kept := uint64(0)
		for i := range 8 * segmentIDs {
			d.add(fmt.Sprint(i), 0, time.Now())
			kept = d.add("renewed", kept, time.Now())
		}
		check := func(d *ids, what string) {
			t.Helper()
			for i := range 8 * segmentIDs {
				// The last segment is filled.
				if known := d.knows(fmt.Sprint(i)); known && i < 4*segmentIDs || !known && i > 5*segmentIDs {
					t.Fatalf("%s: %d is known: %v", what, i, known)
				}
			}
			if !d.knows("renewed") || d.knows("never added") {
				t.Errorf("%s: known are %v, %v; want the first", what, d.knows("renewed"), d.knows("never added"))
			}
		}
		check(d, "at once")
		pass(2 * flushInterval)
		n.kill()
		n = start(t, Config{IDs: 4 * segmentIDs, Memory: 4 * time.Hour, Retention: time.Hour}, records)
		check(n.ids, "after a kill")
		pass(4 * time.Hour)
		check(n.ids, "after its time")
		pass(4 * time.Hour)
		if n.ids.knows("renewed") && n.ids.knows(fmt.Sprint(6*segmentIDs)) {
			t.Error("an id is known for ever")
		}
	})
}

// Before so much is stored that it could push out a record, its id is stored.
func TestIDsAreStoredBeforeRecordsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newTable()
		n := start(t, Config{Bytes: MinBytes}, records)
		h := n.mustClaim(t, "1.1")
		mustBegin(t, h, "match.1", 5)
		n.wrote.Store(MinBytes / 4)
		mustBegin(t, h, "match.2", 5)
		n.kill() // before the ids are stored by time
		n = start(t, Config{}, records)
		n.evict(app + "/" + id)
		wantLost(t, n.mustClaim(t, "1.2"), "match.1", replay.SessionExpired)
	})
}

// A session lives as long as its connection, however quiet, and its times count
// from the loss of it.
func TestQuietSession(t *testing.T) {
	for _, killed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			records := newTable()
			cfg := Config{Memory: time.Minute, Time: 20 * time.Second}
			n := start(t, cfg, records)
			h := n.mustClaim(t, "1.1")
			for i := range 2 * chunkChannels {
				mustBegin(t, h, fmt.Sprint(i), 5)
			}
			// The client says nothing for an hour.
			for range 120 {
				pass(30 * time.Second)
				records.Expire(n.cfg.Memory + 2*n.cfg.refresh())
			}
			if killed {
				n.kill()
				n = start(t, cfg, records)
			} else {
				h.Release(time.Now())
				pass(2 * saveInterval)
			}
			records.Expire(n.cfg.Memory + 2*n.cfg.refresh() - n.cfg.Time)
			h = n.mustClaim(t, "1.2")
			for i := range 2 * chunkChannels {
				wantClaim(t, h, fmt.Sprint(i), 5)
			}
		})
	}
}

// The socket id of a connection that came back is stored before it gets anything.
func TestSocketIsStoredAtTheReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newTable()
		n := start(t, Config{}, records)
		mustBegin(t, n.mustClaim(t, "1.1"), "match.1", 5)
		n.kill()
		for i := 2; i < 20; i++ {
			n = start(t, Config{}, records)
			h := n.mustClaim(t, fmt.Sprintf("1.%d", i))
			r, _ := h.Request("match.1", lineOf("E1", "match.1"))
			if len(r.Except) != i || r.Except[0] != "1.1" || r.Except[i-1] != fmt.Sprintf("1.%d", i) {
				t.Fatalf("connection %d: events are not for %v", i, r.Except)
			}
			n.kill()
		}
	})
}

// Fifty thousand clients behind one address that lose their connections at once fit
// with the defaults, each with eight channels of ordinary names.
func TestFiftyThousandFit(t *testing.T) {
	t.Parallel()
	s := newSession("12345/1d2f7a50-6c6e-4f7e-9df0-000000000001", "12345")
	h := &Hold{store: &Store{cfg: Config{}.withDefaults()}, socket: "1234567890.1234567890", decided: make(chan struct{})}
	s.claim(h)
	for i := range 8 {
		channel := fmt.Sprintf("private-conversation.%d", 100_000+i)
		s.start(h, channel, lineOf("7XK2MPQ4RA", channel).At(12_345_678), "")
	}
	s.release(h, time.Now())
	bytes := 0
	for _, p := range mustParts(t, s, time.Now()) {
		bytes += p.bytes()
	}
	t.Logf("%d bytes", bytes)
	if share := DefaultBytes / 4; 50_000*bytes > share {
		t.Errorf("%d bytes, the share of an address has room for %d sessions", bytes, share/bytes)
	}
}

// The id of a session is remembered by each node that has it: one whose first node was
// killed before it had stored the id was taken for new when its record was pushed out.
func TestIDIsRememberedAtTheReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newTable()
		n := start(t, Config{}, records)
		mustBegin(t, n.mustClaim(t, "1.1"), "match.1", 5)
		n.kill() // within the second
		n = start(t, Config{}, records)
		n.mustClaim(t, "1.2")
		pass(2 * flushInterval)
		n.kill()
		n.evict(app + "/" + id)
		wantLost(t, start(t, Config{}, records).mustClaim(t, "1.3"), "match.1", replay.SessionExpired)
	})
}
