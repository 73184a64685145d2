package config

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the tables of SETTINGS.md")

// The tables of SETTINGS.md are made from the settings.
func TestSettings(t *testing.T) {
	t.Parallel()
	const file, begin, end = "SETTINGS.md", "<!-- settings -->\n", "<!-- /settings -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(text), begin)
	_, after, ends := strings.Cut(rest, end)
	if !begins || !ends {
		t.Fatalf("%s has no %s … %s for the tables", file, strings.TrimSpace(begin), end)
	}
	want := before + begin + Markdown() + end + after
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(string(text), "\n")); diff != "" {
		t.Errorf("%s does not say what the settings are, run: go test ./edge/config -run TestSettings -update\n(-settings +file):\n%s", file, diff)
	}
}
