package session

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"reecho/replay"
)

// A session of which nothing is left but its id is told of a gap on every node of a
// cluster, not only on the one that it was on; an id that is new is new. It was
// not known where it had not been, and when it was, each node stored its ids over
// those of the others.
func TestEvictedSessionIsToldOnOtherNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newCluster()
		var nodes []*node
		for range 3 {
			nodes = append(nodes, start(t, Config{}, records))
		}
		for round := range 3 {
			// Each has one of its own.
			for i, n := range nodes {
				h := n.mustClaimID(t, fmt.Sprint("of ", i, " in ", round), fmt.Sprintf("%d.1", i))
				mustBegin(t, h, "match.1", 5)
				h.Release(time.Now())
			}
			pass(listInterval)
			for i, n := range nodes {
				for j := range nodes {
					id := fmt.Sprint("of ", j, " in ", round)
					n.evict(app + "/" + id)
					h := n.mustClaimID(t, id, fmt.Sprintf("%d.2", i))
					wantLost(t, h, "match.1", replay.SessionExpired)
					h.Release(time.Now())
				}
				pass(2 * saveInterval)
				h := n.mustClaimID(t, fmt.Sprint("new in ", round, i), "9.9")
				mustBegin(t, h, "match.1", 5)
				h.Release(time.Now())
			}
		}
		nodes[0].kill()
		pass(listInterval)
		late := start(t, Config{}, records)
		for i := range 3 {
			late.evict(fmt.Sprint(app, "/of ", i, " in 0"))
			wantLost(t, late.mustClaimID(t, fmt.Sprint("of ", i, " in 0"), "9.9"), "match.1", replay.SessionExpired)
		}
	})
}

// However many ids come that nobody knows, what other nodes have stored is read once a
// second, and what does not change is read once.
func TestUnknownIDsAreNoLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newCluster()
		n, m := start(t, Config{}, records), start(t, Config{}, records)
		for i := range 3*segmentIDs + 1 {
			m.ids.add(fmt.Sprint(i), 0, time.Now())
		}
		pass(2 * flushInterval)
		read := func(at time.Duration) (reads int) {
			began := time.Now()
			for i := 0; time.Since(began) < at; i++ {
				known, err := n.ids.known(t.Context(), fmt.Sprint("new ", at, i))
				if known || err != nil {
					t.Fatalf("known: %v, %v", known, err)
				}
				pass(10 * time.Millisecond)
			}
			return n.idReads()
		}
		if reads := read(flushInterval / 2); reads > 2+4 { // its own, and of the other
			t.Errorf("%d reads at first", reads)
		}
		if reads := read(10 * flushInterval); reads > 10*2 { // which is the newest, and that
			t.Errorf("%d reads in ten seconds", reads)
		}
		for _, i := range []int{0, segmentIDs, 3 * segmentIDs} {
			if !n.ids.knows(fmt.Sprint(i)) {
				t.Errorf("%d is not known", i)
			}
		}
	})
}

// Of the ids of others no more are kept than of its own; the oldest go.
func TestIDsOfOthersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newCluster()
		cfg := Config{IDs: 2 * segmentIDs}
		n := start(t, cfg, records)
		for node := range 3 {
			m := start(t, cfg, records)
			for i := range segmentIDs {
				m.ids.add(fmt.Sprint(node, "/", i), 0, time.Now())
			}
			pass(2 * flushInterval)
		}
		for range 2 {
			for node, want := range []bool{false, true, true} {
				if got, err := n.ids.known(t.Context(), fmt.Sprint(node, "/", 7)); got != want || err != nil {
					t.Errorf("ids of node %d are known: %v, %v; want %v", node, got, err, want)
				}
			}
			pass(2 * flushInterval)
		}
		n.idReads()
		if _, err := n.ids.known(t.Context(), "new"); err != nil || n.idReads() > 3 {
			t.Errorf("what was dropped is read again; %v", err)
		}
	})
}
