package replay

import (
	"strings"
	"testing"
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

// Any text: no panic, and what is taken for a position is one.
func FuzzPosition(f *testing.F) {
	p := NewLine("E1", "77", "match.1")
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
