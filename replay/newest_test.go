package replay

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/broker/brokertest/seed"
)

// windowRun looks for the newest want of sequences by windows, as readNewest
// does. It returns how many it found, how many windows there were and how many
// sequences were looked at.
func windowRun(t *testing.T, r Range, sequences []uint64, want int) (found, windows int, looked uint64) {
	t.Helper()
	high := r.UpTo
	for w, more := firstWindow(&r, sequences[0], len(sequences), want), true; more; windows++ {
		if w.high != high || w.low >= w.high || w.low < r.After {
			t.Fatalf("window %d is above %d up to %d, should end at %d", windows, w.low, w.high, high)
		}
		high = w.low
		looked += w.high - w.low
		n := 0
		for _, s := range sequences {
			if s > w.low && s <= w.high {
				n++
			}
		}
		n = min(n, want-found)
		if found += n; found == want {
			return found, windows + 1, looked
		}
		more = w.next(n, want-found)
	}
	return found, windows, looked
}

// The newest are found in few windows, none of which is read twice, and without
// looking at much more than holds them.
func TestWindows(t *testing.T) {
	t.Parallel()
	const last = 1_000_000
	even := func(step uint64) (all []uint64) {
		for s := step; s <= last; s += step {
			all = append(all, s)
		}
		return all
	}
	thinner := []uint64{last}
	for gap := uint64(1); thinner[len(thinner)-1] > gap; gap += gap/8 + 1 {
		thinner = append(thinner, thinner[len(thinner)-1]-gap)
	}
	slices.Reverse(thinner)
	old := append(even(100)[:500], last)
	for _, tt := range []struct {
		name      string
		sequences []uint64
		want      int
		windows   int
		looked    uint64
	}{
		{"even", even(1000), 50, 1, 70_000},
		{"every event", even(1), 50, 1, 300},
		{"all of it", even(1000), 5000, 1, last},
		{"few", even(200_000), 50, 1, last},
		{"thinner and thinner", thinner, 100, 20, last},
		{"all but one long ago", old, 50, 12, last},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found, windows, looked := windowRun(t, Range{UpTo: last}, tt.sequences, tt.want)
			if want := min(tt.want, len(tt.sequences)); found != want || windows > tt.windows || looked > tt.looked {
				t.Errorf("found %d of %d in %d windows over %d, want at most %d over %d",
					found, want, windows, looked, tt.windows, tt.looked)
			}
		})
	}
}

// However a channel's events are spread over a stream, the newest are those that
// all of it ends with.
func TestReadNewest(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(seed.First(t), 4))
	b := brokertest.Start(t, broker.Config{Partitions: 1, EventsPerChannel: 300})
	h := NewHistory(LogsOf(b), 1<<20)
	defer h.Close()
	var records []broker.Record
	burst, density := 0, 1
	for i := range 6000 {
		if burst--; burst < 0 {
			burst, density = rng.IntN(500), 1+rng.IntN(200)
		}
		records = append(records, broker.Record{App: "77", Channel: channelOf(rng.IntN(density)), Frame: []byte(fmt.Sprint(i))})
		if len(records) == 200 {
			if err := b.Publish(t.Context(), records); err != nil {
				t.Fatal(err)
			}
			records = nil
		}
	}
	for range 300 {
		channel := channelOf(rng.IntN(12))
		all, _, err := h.Read(t.Context(), Range{Log: logOf(b, channel), UpTo: 6000, Events: 6000, Bytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		r := Range{
			Log: logOf(b, channel), After: uint64(rng.IntN(6001)), UpTo: uint64(rng.IntN(7000)),
			Events: 1 + rng.IntN(400), Bytes: rng.IntN(1000), Keep: KeepNewest, Past: true,
		}
		if rng.IntN(2) == 0 {
			r.After = 0
		}
		got, older, err := h.Read(t.Context(), r)
		want := rangeRead{Range: r}
		for _, ev := range all {
			want.add(ev)
		}
		if err != nil || older != want.cut || !slices.EqualFunc(got, want.events, func(a, b broker.Event) bool { return a.Sequence == b.Sequence }) {
			t.Fatalf("%+v: %d events, older %v, %v; want %d, %v", r, len(got), older, err, len(want.events), want.cut)
		}
	}
}
