package metrics

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reecho/edge/config"
)

var update = flag.Bool("update", false, "write the tables of METRICS.md")

// The tables of METRICS.md are made from the families and from the limits.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	const file = "METRICS.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := string(text)
	for name, table := range map[string]string{"metrics": Markdown(), "limits": LimitsMarkdown()} {
		begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
		before, rest, begins := strings.Cut(want, begin)
		_, after, ends := strings.Cut(rest, end)
		if !begins || !ends {
			t.Fatalf("%s has no %s … %s for the table", file, strings.TrimSpace(begin), end)
		}
		want = before + begin + table + end + after
	}
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(string(text), "\n")); diff != "" {
		t.Errorf("%s does not say what the metrics are, run: go test ./edge/metrics -run TestDocumentation -update\n(-metrics +file):\n%s", file, diff)
	}
}

// What is said to show a limit is there.
func TestShown(t *testing.T) {
	t.Parallel()
	known := make(map[string]bool)
	for i := range families {
		known[families[i].name] = true
	}
	for _, l := range config.Limits() {
		if l.Shown != "" && !known[l.Shown] {
			t.Errorf("%s is shown by %s, which is no metric", l.Key, l.Shown)
		}
	}
}
