package session

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reecho/replay"
)

// claimTold is a hold, loaded, that counts how often its connection is told that it is
// taken over.
func (n *node) claimTold(t *testing.T, socket string) (h *Hold, told *atomic.Int32) {
	t.Helper()
	h, told = &Hold{}, &atomic.Int32{}
	conn := page{over: func() { told.Add(1); h.Release(time.Now()) }}
	if err := n.Claim(h, Who{App: app, ID: id, Socket: socket, Address: home}, conn); err != nil {
		t.Fatal(err)
	}
	mustLoad(t, h)
	return h, told
}

// A connection that is half open on one node dies after its client has gone on over
// another, and subscribed to a further channel there: that is not forgotten. It was:
// the old node wrote what it knew over it, and of the further channel the client got
// neither the events nor a word. It is the same if the nodes cannot ask each other.
func TestOldConnectionDiesLast(t *testing.T) {
	for _, cut := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			records := newCluster()
			a, b := start(t, Config{}, records), start(t, Config{}, records)
			old, told := a.claimTold(t, "1.1")
			mustBegin(t, old, "match.1", 5)
			pass(2 * saveInterval)
			records.cutWires(cut)
			h := b.mustClaim(t, "2.1")
			wantClaim(t, h, "match.1", 5)
			mustBegin(t, h, "match.2", 7)
			confirm(h, "match.1", 6)
			pass(2 * saveInterval)
			if got := told.Load() == 0; got != cut {
				t.Errorf("cut %v: the old connection is not told: %v", cut, got)
			}
			a.written()
			confirm(old, "match.1", 5)
			old.Release(time.Now())
			pass(2 * saveInterval)
			if got := a.counts(); got != [3]int{} {
				t.Errorf("cut %v: the old node has sessions, apps, addresses %v", cut, got)
			}
			h.Release(time.Now())
			pass(2 * saveInterval)
			h = start(t, Config{}, records).mustClaim(t, "3.1")
			wantClaim(t, h, "match.1", 6)
			wantClaim(t, h, "match.2", 7)
		})
	}
}

// An old connection that goes on talking after the session was taken over is told so
// by its first write, to whichever record, and is not told that it joined anything.
func TestOldConnectionGoesOn(t *testing.T) {
	for name, write := range map[string]func(h *Hold) error{
		"confirms": func(h *Hold) error { confirm(h, "3", 9); return nil },
		"confirms in a later chunk": func(h *Hold) error {
			confirm(h, fmt.Sprint(2*chunkChannels), 9)
			return nil
		},
		"begins": func(h *Hold) error {
			line := lineOf("E1", "new")
			r, _ := h.Request("new", line)
			if err := r.Begin(context.Background(), line.At(1)); err == nil {
				return errors.New("its client is told that it joined")
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				records := newCluster()
				a, b := start(t, Config{}, records), start(t, Config{}, records)
				old, told := a.claimTold(t, "1.1")
				for i := range 2*chunkChannels + 1 {
					mustBegin(t, old, fmt.Sprint(i), 5)
				}
				records.cutWires(true)
				h := b.mustClaim(t, "2.1")
				if err := write(old); err != nil {
					t.Error(err)
				}
				pass(2 * saveInterval)
				if told.Load() != 1 {
					t.Errorf("the old connection is told %d times, want once", told.Load())
				}
				mustBegin(t, h, "new", 7)
				confirm(h, "3", 6)
				confirm(h, fmt.Sprint(2*chunkChannels), 6)
				pass(2 * saveInterval)
				b.kill()
				h = start(t, Config{}, records).mustClaim(t, "3.1")
				for channel, at := range map[string]uint64{"3": 6, fmt.Sprint(2 * chunkChannels): 6, "new": 7, "4": 5} {
					wantClaim(t, h, channel, at)
				}
			})
		})
	}
}

// What the old node writes after the new one has read is not lost: its client may have
// been told.
func TestWrittenWhileItIsTaken(t *testing.T) {
	for name, before := range map[string]string{"before the main record": app + "/" + id, "before a chunk": chunkKey(app+"/"+id, 1)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				records := newCluster()
				a, b := start(t, Config{}, records), start(t, Config{}, records)
				old, told := a.claimTold(t, "1.1")
				for i := range chunkChannels + 1 {
					mustBegin(t, old, fmt.Sprint(i), 5)
				}
				records.cutWires(true)
				done := false
				b.intercept(func(key string) {
					if key == before && !done {
						done = true
						mustBegin(t, old, "new", 7)
					}
				}, nil)
				h := b.mustClaim(t, "2.1")
				if !done {
					t.Fatal("nothing was written meanwhile")
				}
				wantClaim(t, h, "new", 7)
				wantClaim(t, h, "3", 5)
				confirm(old, "new", 8)
				pass(2 * saveInterval)
				if told.Load() != 1 {
					t.Errorf("the old connection is told %d times, want once", told.Load())
				}
				mustBegin(t, h, "newer", 7)
				b.kill()
				h = start(t, Config{}, records).mustClaim(t, "3.1")
				wantClaim(t, h, "new", 7)
				wantClaim(t, h, "newer", 7)
			})
		})
	}
}

// Nodes that claim a session at the same time are one after the other its owner.
func TestClaimsAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newCluster()
		first := start(t, Config{}, records)
		h := first.mustClaim(t, "1.1")
		mustBegin(t, h, "match.1", 5)
		h.Release(time.Now())
		pass(2 * saveInterval)
		type claimed struct {
			h    *Hold
			told *atomic.Int32
		}
		done := make(chan claimed)
		const nodes = 3
		for i := range nodes {
			n := start(t, Config{}, records)
			go func() {
				h, told := n.claimTold(t, fmt.Sprintf("%d.1", 2+i))
				done <- claimed{h, told}
			}()
		}
		var all []claimed
		for range nodes {
			all = append(all, <-done)
		}
		pass(2 * saveInterval)
		owners := 0
		for _, c := range all {
			if c.told.Load() == 0 {
				owners++
				wantClaim(t, c.h, "match.1", 5)
				mustBegin(t, c.h, "match.2", 5)
			}
		}
		if owners != 1 {
			t.Errorf("%d connections have the session, want 1", owners)
		}
	})
}

// Of a save no answer comes, though it was done: it is no conflict with the next one.
func TestAnswersThatAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, Config{}, newCluster())
		h, told := n.claimTold(t, "1.1")
		begin := func(channel string) error {
			r, _ := h.Request(channel, lineOf("E1", channel))
			return r.Begin(t.Context(), lineOf("E1", channel).At(5))
		}
		for i := range 3 * chunkChannels {
			n.intercept(nil, func(string) bool { return i%3 > 0 })
			if err := begin(fmt.Sprint(i)); (err != nil) != (i%3 > 0) {
				t.Fatalf("channel %d: error %v", i, err)
			}
		}
		n.intercept(nil, nil)
		pass(2 * saveInterval)
		if told.Load() != 0 {
			t.Error("the connection is told that it is taken over")
		}
		mustBegin(t, h, "new", 5)
	})
}

// An owner whose records are pushed out goes on. As another node might have had the
// session meanwhile, its client is told of a gap where it has no place when it
// comes back; a node that is alone knows that there is none.
func TestOwnersRecordsArePushedOut(t *testing.T) {
	for _, alone := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			records := newCluster()
			if alone {
				records = newTable()
			}
			n := start(t, Config{}, records)
			h, told := n.claimTold(t, "1.1")
			for i := range 2 * chunkChannels {
				mustBegin(t, h, fmt.Sprint(i), 5)
			}
			for _, key := range records.Keys() {
				records.Forget(key)
			}
			mustBegin(t, h, "new", 5)
			for i := range 2 * chunkChannels {
				confirm(h, fmt.Sprint(i), 6)
			}
			pass(4 * saveInterval)
			if told.Load() != 0 {
				t.Error("the connection is told that it is taken over")
			}
			n.kill()
			h = start(t, Config{}, records).mustClaim(t, "1.2")
			wantClaim(t, h, "new", 5)
			for i := range 2 * chunkChannels {
				wantClaim(t, h, fmt.Sprint(i), 6)
			}
			if alone {
				mustBegin(t, h, "never had", 5)
			} else {
				wantLost(t, h, "never had", replay.SessionExpired)
			}
		})
	}
}

// An answer of a server that is cut off is older than what was written: the session is
// not given up for it, though it was another node's then.
func TestStaleAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newCluster()
		m, n := start(t, Config{}, records), start(t, Config{}, records)
		former := m.mustClaim(t, "1.1")
		mustBegin(t, former, "match.1", 5)
		former.Release(time.Now())
		pass(2 * saveInterval)
		before := records.Copy()
		h, told := n.claimTold(t, "2.1")
		mustBegin(t, h, "match.2", 5)
		after := records.Copy()
		records.Restore(before)
		confirm(h, "match.1", 6)
		pass(2 * saveInterval)
		records.Restore(after)
		pass(2 * saveInterval)
		if told.Load() != 0 {
			t.Error("the connection is told that it is taken over")
		}
		mustBegin(t, h, "match.3", 5)
	})
}
