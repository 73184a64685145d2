package replay

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"reecho/broker/brokertest/seed"
)

func asker(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }

// One that asks for much has its turns between those of the others.
func TestTurnsAreFair(t *testing.T) {
	t.Parallel()
	var waiting turns
	for i := range 100 {
		waiting.add(&rangeRead{Range: Range{Asker: asker(1), After: uint64(i)}})
	}
	for i := range 3 {
		waiting.add(&rangeRead{Range: Range{Asker: asker(2 + i)}})
	}
	var order []string
	for range 8 {
		r := waiting.take()
		order = append(order, fmt.Sprintf("%d:%d", r.Asker.As4()[3], r.After))
	}
	if want := []string{"1:0", "2:0", "3:0", "4:0", "1:1", "1:2", "1:3", "1:4"}; !slices.Equal(order, want) {
		t.Errorf("got %v, want %v", order, want)
	}
}

// Whatever comes, is given up, taken and put back: each read is taken once, and
// in an asker's own order.
func TestTurns(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(seed.First(t), 3))
	var waiting turns
	var there []*rangeRead
	for i := range 20_000 {
		switch n := rng.IntN(10); {
		case n < 5:
			r := &rangeRead{Range: Range{Asker: asker(rng.IntN(6)), After: uint64(i)}}
			waiting.add(r)
			there = append(there, r)
		case n < 7 && len(there) > 0:
			at := rng.IntN(len(there))
			waiting.remove(there[at])
			waiting.remove(there[at]) // not there any more
			there = slices.Delete(there, at, at+1)
		case n < 8:
			all := waiting.takeAll()
			waiting.putBack(all[rng.IntN(len(all)+1):])
			there = slices.DeleteFunc(there, func(r *rangeRead) bool { return !slices.Contains(waiting.first, r) })
		case len(there) > 0:
			r := waiting.take()
			at := slices.IndexFunc(there, func(o *rangeRead) bool { return o.Asker == r.Asker })
			if there[at] != r {
				t.Fatalf("step %d: %d of %s before %d", i, r.After, r.Asker, there[at].After)
			}
			there = slices.Delete(there, at, at+1)
		}
		if waiting.n != len(there) || len(waiting.askers) != len(waiting.byAsker) {
			t.Fatalf("step %d: %d wait of %d askers (%d), want %d", i, waiting.n, len(waiting.askers), len(waiting.byAsker), len(there))
		}
	}
}

// A read that is given up is dropped at once.
func TestAbandonedIsDropped(t *testing.T) {
	t.Parallel()
	h := &History{streams: map[int]*readQueue{0: newReadQueue()}}
	for _, past := range []bool{false, true} {
		r := &rangeRead{Range: Range{Past: past}}
		c := h.streams[0].classOf(r)
		c.waiting.add(r)
		h.abandon(0, r)
		if c.waiting.n != 0 || !r.abandoned.Load() {
			t.Errorf("past %v: %d wait", past, c.waiting.n)
		}
	}
}

// Who wants the past waits for those who come back, and is read for when none
// of them waits.
func TestThePastWaits(t *testing.T) {
	t.Parallel()
	q := newReadQueue()
	q.past.waiting.add(&rangeRead{Range: Range{Past: true}})
	if !q.mayReadLocked(&q.past) {
		t.Error("nobody waits, and the past is not read")
	}
	q.back.waiting.add(&rangeRead{})
	if q.mayReadLocked(&q.past) || !q.mayReadLocked(&q.back) {
		t.Error("somebody who comes back waits for the past")
	}
}

// A pass is not made for pages of a long range, of which each reads a little.
func TestPagesAreReadApart(t *testing.T) {
	t.Parallel()
	var waiting turns
	for i := range 20 {
		waiting.add(&rangeRead{Range: Range{Asker: asker(i % 3), UpTo: 1_000_000, Keep: KeepOldest}})
	}
	if waiting.scanPays() {
		t.Error("a million events are read for 20 pages")
	}
	for i := range 20 {
		waiting.add(&rangeRead{Range: Range{Asker: asker(i % 3), After: 999_000, UpTo: 1_000_000, Keep: KeepNewest}})
	}
	if !waiting.scanPays() {
		t.Error("20 times the same thousand is read apart")
	}
	if reads := waiting.takeForPass(); len(reads) != 20 || waiting.n != 20 || !reads[0].passes() || waiting.take().passes() {
		t.Errorf("a pass for %d reads, %d wait", len(reads), waiting.n)
	}
}
