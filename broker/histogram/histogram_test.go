package histogram

import (
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{0, 100 * time.Microsecond, 101 * time.Microsecond, time.Second, time.Hour} {
		h.Observe(d)
	}
	s := h.Snapshot()
	if want := time.Hour + time.Second + 201*time.Microsecond; s.Count != 5 || s.Sum != want {
		t.Errorf("count %d, sum %s, want 5 and %s", s.Count, s.Sum, want)
	}
	for i, want := range map[int]uint64{0: 2, 1: 3, len(Bounds) - 1: 4} {
		if got := s.Cumulative[i]; got != want {
			t.Errorf("%d were at most %s, want %d", got, Bounds[i], want)
		}
	}
	if n := testing.AllocsPerRun(10, func() { h.Observe(time.Millisecond) }); n != 0 {
		t.Errorf("Observe allocates %v times", n)
	}
}
