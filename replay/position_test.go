package replay

import (
	"strings"
	"testing"

	"reecho/broker"
)

func TestPositions(t *testing.T) {
	t.Parallel()
	p := NewLine("E1", "77", "match.1")
	position := p.At(42).String()
	prefix := strings.TrimSuffix(position, "42")
	for name, tt := range map[string]struct {
		text     string
		sequence uint64
		reason   Reason
	}{
		"itself":           {position, 42, ""},
		"zero":             {p.At(0).String(), 0, ""},
		"another channel":  {NewLine("E1", "77", "match.2").At(42).String(), 0, ForeignPosition},
		"another app":      {NewLine("E1", "78", "match.1").At(42).String(), 0, ForeignPosition},
		"another epoch":    {NewLine("E2", "77", "match.1").At(42).String(), 0, EpochChanged},
		"nothing":          {"", 0, UnknownPosition},
		"no number":        {prefix, 0, UnknownPosition},
		"a negative one":   {prefix + "-1", 0, UnknownPosition},
		"one too large":    {prefix + "18446744073709551616", 0, UnknownPosition},
		"more behind it":   {position + "-1", 0, UnknownPosition},
		"only a number":    {"42", 0, UnknownPosition},
		"spaces around it": {" " + position + " ", 0, UnknownPosition},
	} {
		if sequence, reason := p.Parse(tt.text); sequence != tt.sequence || reason != tt.reason {
			t.Errorf("%s: got %d %q, want %d %q", name, sequence, reason, tt.sequence, tt.reason)
		}
	}
	if got, want := PositionTag(position), ChannelTag("77", "match.1"); got != want {
		t.Errorf("the tag of %s is %s, want %s", position, got, want)
	}
	if got, ok := ParsePosition(position); !ok || got != p.At(42) || got.Tag() != ChannelTag("77", "match.1") {
		t.Errorf("%s is parsed as %v", position, got)
	}
}

// runsLog is a log of which only the line is asked.
type runsLog struct {
	Log
	runs broker.Runs
}

func (runsLog) Ref() broker.Ref     { return broker.Ref{App: "77", Channel: "match.1"} }
func (runsLog) Epoch() string       { return "E1" }
func (l runsLog) Runs() broker.Runs { return l.runs }

// A position says something if its run can have given it. Seen: a log that was put
// back from a copy took those of the future it never had for its own.
func TestPositionsOfRuns(t *testing.T) {
	t.Parallel()
	runs := broker.Runs{{}, {Token: "RUNA", First: 10}, {Token: "RUNB", First: 10}, {Token: "RUNC", First: 20}}
	of := func(run string) Line { return NewLine("E1"+run, "77", "match.1") }
	for name, tt := range map[string]struct {
		runs   broker.Runs
		at     Position
		reason Reason
	}{
		"the current run":                {runs, of("RUNC").At(30), ""},
		"an event of before, read in it": {runs, of("RUNC").At(3), ""},
		"the end of a run":               {runs, of("RUNB").At(19), ""},
		"behind its end":                 {runs, of("RUNB").At(20), EpochChanged},
		"a run that gave nothing":        {runs, of("RUNA").At(9), ""},
		"behind that":                    {runs, of("RUNA").At(10), EpochChanged},
		"before there were runs":         {runs, of("").At(9), ""},
		"after that":                     {runs, of("").At(10), EpochChanged},
		"a run that is not known":        {runs, of("RUND").At(3), EpochChanged},
		"no run, where all are known":    {runs[1:], of("").At(3), EpochChanged},
		"another epoch":                  {runs, NewLine("E2RUNC", "77", "match.1").At(3), EpochChanged},
		"an epoch that is longer":        {runs, NewLine("E1XRUNC", "77", "match.1").At(3), EpochChanged},
		"another channel":                {runs, NewLine("E1RUNC", "77", "match.2").At(3), ForeignPosition},
		"a run, where there are none":    {nil, of("RUNC").At(3), EpochChanged},
		"none, where there are none":     {nil, of("").At(3), ""},
	} {
		sequence, reason := LineOf(runsLog{runs: tt.runs}).Parse(tt.at.String())
		if reason != tt.reason || reason == "" && sequence != tt.at.Sequence {
			t.Errorf("%s, %s: got %d %q, want %q", name, tt.at, sequence, reason, tt.reason)
		}
	}
}

// Any text: no panic, and what is taken for a position is one.
func FuzzPosition(f *testing.F) {
	p := LineOf(runsLog{runs: broker.Runs{{Token: "RUN", First: 8}}})
	for _, text := range []string{"", "-", "--", "a-b-c", p.At(7).String(), p.At(0).String() + "07"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		sequence, reason := p.Parse(text)
		if again, r := p.Parse(p.At(sequence).String()); reason == "" && (again != sequence || r != "") {
			t.Errorf("%q is %d, which is %d %s", text, sequence, again, r)
		}
	})
}
