package replay

import (
	"math/rand/v2"
	"slices"
	"testing"

	"reecho/broker/brokertest/seed"
)

func entriesOf(sequences ...uint64) []Entry {
	entries := make([]Entry, len(sequences))
	for i, s := range sequences {
		entries[i] = Entry{Sequence: s, Frame: []byte("frame")}
	}
	return entries
}

func sequencesOf(entries []Entry) []uint64 {
	var all []uint64
	for _, e := range entries {
		all = append(all, e.Sequence)
	}
	return all
}

func TestRing(t *testing.T) {
	t.Parallel()
	var r Ring
	r.Start(10)
	for _, e := range entriesOf(12, 15, 16) {
		r.Append(e)
	}
	for position, want := range map[uint64][]uint64{10: {12, 15, 16}, 11: {12, 15, 16}, 12: {15, 16}, 15: {16}, 16: nil} {
		if !r.Covers(position, 16) || !slices.Equal(sequencesOf(r.After(position)), want) {
			t.Errorf("after %d: covered %v, %v, want %v", position, r.Covers(position, 16), sequencesOf(r.After(position)), want)
		}
	}
	for _, position := range []uint64{0, 9, 17} {
		if r.Covers(position, 16) {
			t.Errorf("%d is covered", position)
		}
	}
	// Back, with an overlap.
	if !r.Prepend(3, 10, entriesOf(5, 8)) || !slices.Equal(sequencesOf(r.After(3)), []uint64{5, 8, 12, 15, 16}) {
		t.Errorf("extended: %v", sequencesOf(r.After(3)))
	}
	// A range that was read up to where the ring no longer begins.
	r.Trim(2, 1<<20)
	if r.Base() != 12 || r.Prepend(0, 10, entriesOf(5)) {
		t.Errorf("a hole was accepted: base %d", r.Base())
	}
	if !r.Prepend(5, 13, entriesOf(8, 12)) || !slices.Equal(sequencesOf(r.After(5)), []uint64{8, 12, 15, 16}) {
		t.Errorf("extended: %v", sequencesOf(r.After(5)))
	}
	r.Trim(0, 0)
	if r.Bytes() != 0 || r.Base() != 16 || !r.Covers(16, 16) {
		t.Errorf("emptied: %d bytes, base %d", r.Bytes(), r.Base())
	}
	r.Break()
	if r.Covers(16, 16) || r.Prepend(5, 20, nil) {
		t.Error("a broken ring covers something")
	}
	r.Append(entriesOf(20)[0])
	if r.Covers(18, 20) || !r.Covers(19, 20) {
		t.Error("a ring begins behind the event before its first")
	}
}

// A ring of a channel without retained events knows nothing until it is told
// or something comes.
func TestRingOfEmptyChannel(t *testing.T) {
	t.Parallel()
	var r Ring
	r.Start(0)
	if r.Known() || r.Covers(0, 9) {
		t.Error("it covers what may be gone")
	}
	r.Found(7)
	if !r.Covers(7, 7) || r.Covers(6, 7) {
		t.Error("it was told of 7")
	}
	r.Found(9) // known already
	if r.Base() != 7 {
		t.Error("it was told twice")
	}
}

// The memory of many rings stays within its limit, coldest first.
func TestMemory(t *testing.T) {
	t.Parallel()
	const limit = 1000
	m := NewMemory(limit)
	rng := rand.New(rand.NewPCG(seed.First(t), 2))
	shares := make([]Share, 20)
	bytes := make([]int, len(shares))
	used := make([]int, len(shares))
	for i := range shares {
		shares[i].Evict = func() {
			for j := range shares {
				if bytes[j] > 0 && used[j] < used[i] {
					t.Errorf("%d was evicted before %d, which is colder", i, j)
				}
			}
			bytes[i] = 0
			m.Use(&shares[i], 0)
		}
	}
	for step := range 10_000 {
		i := rng.IntN(len(shares))
		bytes[i] = rng.IntN(200)
		if step%100 == 0 {
			bytes[i] = 2 * limit
		}
		used[i] = step
		m.Use(&shares[i], bytes[i])
		m.Reclaim()
		sum := 0
		for _, n := range bytes {
			sum += n
		}
		// The warmest ring stays, however large it is.
		if int64(sum) != m.Bytes() || sum > limit && sum != slices.Max(bytes) {
			t.Fatalf("%d bytes counted, %d there, limit %d", m.Bytes(), sum, limit)
		}
	}
}
