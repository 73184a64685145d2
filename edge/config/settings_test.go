package config

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the tables of SETTINGS.md")

// The tables of SETTINGS.md are made from the settings, and from the variables of other
// servers.
func TestSettings(t *testing.T) {
	t.Parallel()
	const file = "SETTINGS.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := string(text)
	for name, tables := range map[string]string{"settings": Markdown(), "foreign": ForeignMarkdown()} {
		begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
		before, rest, begins := strings.Cut(want, begin)
		_, after, ends := strings.Cut(rest, end)
		if !begins || !ends {
			t.Fatalf("%s has no %s … %s for the tables", file, strings.TrimSpace(begin), end)
		}
		want = before + begin + tables + end + after
	}
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
