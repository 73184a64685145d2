package replay

import (
	"testing"
	"time"

	"reecho/broker"
)

// DESIGN §6, trim rule. The channel's events have the sequences 10, 20, 30, …;
// other channels have the rest.
func TestDecide(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	limits := Limits{PerChannel: 5, MaxAge: time.Hour, MaxBytes: 1000, Events: 100, Bytes: 100}
	for name, tt := range map[string]struct {
		claim    Claim
		retained Retained
		limits   func(*Limits)
		want     Reason
	}{
		"nothing happened, the event is there": {
			Claim{Sequence: 20}, Retained{First: 20, StreamFirst: 15, StreamFirstTime: ago(time.Minute)}, nil, "",
		},
		"an older event is there": {
			Claim{Sequence: 25}, Retained{First: 20, Newer: 5, StreamFirst: 20, StreamFirstTime: ago(time.Minute)}, nil, "",
		},
		"as many newer ones as are kept": {
			Claim{Sequence: 20}, Retained{First: 30, Newer: 5, StreamFirst: 1, StreamFirstTime: ago(time.Minute)}, nil, TrimmedByCount,
		},
		"fewer, and nothing of the stream is gone": {
			Claim{Sequence: 20}, Retained{First: 30, Newer: 4, StreamFirst: 21, StreamFirstTime: ago(time.Minute)}, nil, "",
		},
		"fewer, but something of the stream is gone": {
			Claim{Sequence: 20}, Retained{First: 30, Newer: 4, StreamFirst: 22, StreamFirstTime: ago(time.Minute)}, nil, TrimmedByAge,
		},
		"everything expired since": {
			Claim{Sequence: 20, Confirmed: ago(2 * time.Hour)}, Retained{StreamFirst: 500}, nil, TrimmedByAge,
		},
		"a quiet channel in an empty stream": {
			Claim{Sequence: 20, Confirmed: ago(time.Minute)}, Retained{StreamFirst: 500}, nil, "",
		},
		"a quiet channel, the stream goes back further": {
			Claim{Sequence: 20, Confirmed: ago(30 * time.Minute)},
			Retained{StreamFirst: 500, StreamFirstTime: ago(59 * time.Minute), StreamBytes: 1000},
			nil, "",
		},
		"a quiet channel in a quiet stream": {
			Claim{Sequence: 20, Confirmed: ago(30 * time.Minute)},
			Retained{StreamFirst: 500, StreamFirstTime: ago(time.Minute), StreamBytes: 10},
			nil, "",
		},
		"a quiet channel, and clocks differ by what is allowed for": {
			Claim{Sequence: 20, Confirmed: ago(time.Minute)}, Retained{StreamFirst: 500}, func(l *Limits) { l.Skew = broker.MaxSkew }, "",
		},
		"a quiet channel, and clocks differ by more": {
			Claim{Sequence: 20, Confirmed: ago(time.Minute)}, Retained{StreamFirst: 500}, func(l *Limits) { l.Skew = broker.MaxSkew + 1 }, TrimmedByAge,
		},
		"the same, and the stream seems to go back further": {
			Claim{Sequence: 20, Confirmed: ago(30 * time.Minute)},
			Retained{StreamFirst: 500, StreamFirstTime: ago(59 * time.Minute)},
			func(l *Limits) { l.Skew = 11 * time.Second }, TrimmedByAge,
		},
		"the same, and the event is there": {
			Claim{Sequence: 20, Confirmed: ago(30 * time.Minute)},
			Retained{First: 20, StreamFirst: 500},
			func(l *Limits) { l.Skew = time.Hour }, "",
		},
		"the same, and nothing of the stream is gone": {
			Claim{Sequence: 20}, Retained{First: 30, Newer: 4, StreamFirst: 21}, func(l *Limits) { l.Skew = time.Hour }, "",
		},
		"what the node itself has, while clocks differ": {
			Claim{Sequence: 20, Confirmed: ago(30 * time.Minute), Own: true}, Retained{StreamFirst: 500}, func(l *Limits) { l.Skew = 10 * time.Minute }, "",
		},
		"what the node itself has, while they differ by half of the age": {
			Claim{Sequence: 20, Confirmed: ago(time.Minute), Own: true}, Retained{StreamFirst: 500}, func(l *Limits) { l.Skew = 30 * time.Minute }, TrimmedByAge,
		},
		"a full stream that does not go back so far": {
			Claim{Sequence: 20, Confirmed: ago(30 * time.Minute)},
			Retained{StreamFirst: 500, StreamFirstTime: ago(time.Minute), StreamBytes: 999},
			nil, TrimmedBySize,
		},
		"what the live path may still owe counts": {
			Claim{Sequence: 20, Confirmed: ago(10 * time.Minute)},
			Retained{StreamFirst: 500, StreamFirstTime: ago(10*time.Minute + confirmSlack/2), StreamBytes: 999},
			nil, TrimmedBySize,
		},
		"never confirmed": {
			Claim{Sequence: 20}, Retained{StreamFirst: 500, StreamFirstTime: ago(59 * time.Minute)}, nil, TrimmedByAge,
		},
		"older events of others stay, but those of the app were removed": {
			Claim{Sequence: 20}, Retained{StreamFirst: 1, StreamFirstTime: ago(time.Minute), Removed: 21}, nil, TrimmedBySize,
		},
		"the same, and there are newer ones": {
			Claim{Sequence: 20}, Retained{First: 90, Newer: 1, StreamFirst: 1, StreamFirstTime: ago(time.Minute), Removed: 80}, nil, TrimmedBySize,
		},
		"removed, but not of this channel": {
			Claim{Sequence: 20}, Retained{First: 20, Newer: 1, StreamFirst: 1, StreamFirstTime: ago(time.Minute), Removed: 80}, nil, "",
		},
		"removed up to the claim": {
			Claim{Sequence: 20}, Retained{First: 30, Newer: 1, StreamFirst: 1, StreamFirstTime: ago(time.Minute), Removed: 20}, nil, "",
		},
		"whole after all that was removed": {
			Claim{Sequence: 20, Confirmed: ago(5 * time.Minute)},
			Retained{StreamFirst: 1, StreamFirstTime: ago(time.Hour), StreamBytes: 999, Removed: 80, RemovedTime: ago(10 * time.Minute)},
			nil, "",
		},
		"whole before it": {
			Claim{Sequence: 20, Confirmed: ago(15 * time.Minute)},
			Retained{StreamFirst: 1, StreamFirstTime: ago(time.Hour), StreamBytes: 10, Removed: 80, RemovedTime: ago(10 * time.Minute)},
			nil, TrimmedBySize,
		},
		"a stream that is not full because of a removal": {
			Claim{Sequence: 20, Confirmed: ago(30 * time.Minute)},
			Retained{StreamFirst: 500, StreamFirstTime: ago(time.Minute), StreamBytes: 10, Shrunk: ago(10 * time.Minute)},
			nil, TrimmedBySize,
		},
		"too many for one replay": {
			Claim{Sequence: 20}, Retained{First: 20, Newer: 3, StreamFirst: 1}, func(l *Limits) { l.Events = 2 }, OverLimit,
		},
		"too much for one replay": {
			Claim{Sequence: 20}, Retained{First: 20, Newer: 3, Bytes: 101, StreamFirst: 1}, nil, OverLimit,
		},
	} {
		l := limits
		if tt.limits != nil {
			tt.limits(&l)
		}
		if got := Decide(tt.claim, tt.retained, l, now); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
