package broker

import (
	"strings"
	"testing"
	"time"
)

// A stream that is put into another place goes on in a run of its own, and its
// positions from before the last move of a channel are void, for a cluster knows none.
func TestTransferred(t *testing.T) {
	t.Parallel()
	began := time.Unix(1_700_000_000, 0)
	runs := Runs{{Token: "first", First: 1}, {Token: "second", First: 11, Began: began}, {Token: "third", First: 21, Began: began}}
	many := make(Runs, maxRuns)
	for i := range many {
		many[i] = Run{Token: newRun(), First: uint64(i + 1), Began: began}
	}
	tests := map[string]struct {
		runs  Runs
		moves []move
		gave  map[string]bool // of sequence 20, by run
		count int
	}{
		"runs":       {runs, nil, map[string]bool{"first": false, "second": true}, 4},
		"a move":     {runs, []move{{Run: "second", App: "1", Channels: "*"}}, map[string]bool{"first": false, "second": true}, 3},
		"two moves":  {runs, []move{{Run: "second", App: "1", Channels: "*"}, {Run: "third", App: "1", Channels: "a"}}, map[string]bool{"second": false}, 2},
		"no runs":    {nil, nil, map[string]bool{"": true}, 2},
		"many of it": {many, nil, nil, maxRuns},
	}
	for name, tt := range tests {
		metadata := map[string]string{metadataEpoch: "epoch", metadataPartitions: "4", metadataRuns: tt.runs.String(), metadataMoves: movesText(tt.moves)}
		got, err := Transferred(metadata, 30, time.Now())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		after, err := parseRuns(got[metadataRuns])
		if err != nil || len(after) != tt.count {
			t.Errorf("%s: got runs %v, %v, want %d", name, after, err, tt.count)
		}
		for token, want := range tt.gave {
			if after.Gave(token, 20) != want {
				t.Errorf("%s: run %q gave 20: %v, want %v", name, token, !want, want)
			}
		}
		last := after[len(after)-1]
		if last.First != 31 || last.Token == "third" || got[metadataMoves] != "" || OriginOf(got).Epoch != "epoch" || metadata[metadataRuns] != tt.runs.String() {
			t.Errorf("%s: got %v of %v", name, got, metadata)
		}
		// What the old place gives afterwards is none of it.
		if name == "runs" && after.Gave("third", 31) {
			t.Errorf("%s: the old run goes on", name)
		}
	}
	if _, err := Transferred(map[string]string{metadataRuns: "nonsense"}, 1, time.Now()); err == nil {
		t.Error("took nonsense for runs")
	}
}

func TestPulseSubject(t *testing.T) {
	t.Parallel()
	l := &lane{token: "abc-1"}
	if got, want := PulseSubject(l.stored()), l.subject(storedRoot, pulseRef); got != want || strings.Contains(got, "*") {
		t.Errorf("got %s, want %s", got, want)
	}
	now := time.UnixMilli(1_700_000_000_123)
	if got := OriginOf(Doubted(map[string]string{}, now)).Void; got != now.UnixMilli() {
		t.Errorf("got %d", got)
	}
}
