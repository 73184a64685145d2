// Package tables keeps tables of documents that are made from code what the code says.
package tables

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the tables of documents")

// Check compares the tables of a file, each between <!-- NAME --> and <!-- /NAME -->, with
// what they should be, by name. With the flag -update it writes them.
func Check(t *testing.T, file string, tables map[string]string) {
	t.Helper()
	text, err := os.ReadFile(file) //nolint:gosec // a file of the package that is tested
	if err != nil {
		t.Fatal(err)
	}
	want := string(text)
	for name, table := range tables {
		begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
		before, rest, begins := strings.Cut(want, begin)
		_, after, ends := strings.Cut(rest, end)
		if !begins || !ends {
			t.Fatalf("%s has no %s … %s for the table", file, strings.TrimSpace(begin), end)
		}
		want = before + begin + table + end + after
	}
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil { //nolint:gosec // a document, for all to read
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(string(text), "\n")); diff != "" {
		t.Errorf("%s does not say what the code does: run this test with -update\n(-code +file):\n%s", file, diff)
	}
}
