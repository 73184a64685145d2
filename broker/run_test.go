package broker

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRunsText(t *testing.T) {
	t.Parallel()
	for _, runs := range []Runs{nil, {{}}, {{Token: "A", First: 1, Began: time.Unix(1e9, 0)}, {Token: "B", First: 1 << 63, Began: time.Unix(2e9, 0)}}} {
		got, err := parseRuns(runs.String())
		if err != nil || !cmp.Equal(got, runs, cmp.AllowUnexported(Run{})) {
			t.Errorf("%q is read as %v, %v", runs.String(), got, err)
		}
	}
	for _, text := range []string{"A", "A:1", "A:!:1", "A:1:!", "A:1:1:1"} {
		if runs, err := parseRuns(text); err == nil {
			t.Errorf("%q is read as %v", text, runs)
		}
	}
}

// What is kept of runs is bounded, and none goes while somebody may come back
// from it who misses nothing.
func TestRunsPruned(t *testing.T) {
	t.Parallel()
	now := time.Now()
	run := func(first uint64, ago time.Duration) Run { return Run{First: first, Began: now.Add(-ago)} }
	many := make(Runs, maxRuns+5)
	for i := range many {
		many[i] = run(uint64(i), 0)
	}
	for name, tt := range map[string]struct {
		runs  Runs
		first uint64
		want  int
	}{
		"one":                        {Runs{run(1, 9*time.Hour)}, 100, 1},
		"events of it are there":     {Runs{run(1, 9*time.Hour), run(50, 8*time.Hour)}, 49, 2},
		"what follows on it is":      {Runs{run(1, 9*time.Hour), run(50, 8*time.Hour)}, 50, 2},
		"all is gone":                {Runs{run(1, 9*time.Hour), run(50, 8*time.Hour)}, 51, 1},
		"it ended not long ago":      {Runs{run(1, 9*time.Hour), run(50, 59*time.Minute)}, 51, 2},
		"only the first of them are": {Runs{run(1, 9*time.Hour), run(50, 8*time.Hour), run(60, time.Minute)}, 99, 2},
		"too many":                   {many, 0, maxRuns},
	} {
		got := tt.runs.pruned(tt.first, now, time.Hour)
		if len(got) != tt.want || got[len(got)-1] != tt.runs[len(tt.runs)-1] {
			t.Errorf("%s: %d are kept, want the newest %d", name, len(got), tt.want)
		}
	}
}
