package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Anchors, aliases and merge keys keep working, and blocks are text.
func TestYAML(t *testing.T) {
	t.Parallel()
	file := mustWrite(t, "reecho.yaml", `%YAML 1.2
--- # comment
x-base: &base {watchlist: yes, limits: &l {batch_events: 7}}
linger: !!str 7
apps:
  - &first
    id: 1
    key: k
    secret: >-
      abc
    <<: *base
    limits: *l
  - {<<: *first, id: 2, key: k2, "secret": 'it''s'}
`)
	c, err := Load(source(map[string]string{"config": file}, nil))
	if err == nil || !strings.Contains(err.Error(), `unknown key "x-base" on line 3`) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
	a, b := c.Apps[0], c.Apps[1]
	if c.Edge.Linger != 7*time.Second || a.Credentials[0].Secret != "abc" || !a.Watchlist || !b.Watchlist || b.ID != "2" ||
		b.Credentials[0].Secret != "it's" || b.Limits.BatchEvents != 7 {
		t.Errorf("got %+v, %+v", a, b)
	}
}

// A merge key brings a map or a list of maps, each of them once: lists of lists of
// lists would be endless work.
func TestMerge(t *testing.T) {
	t.Parallel()
	text := "a0: &a0 [{x: 1}, {y: 2}]\n"
	for i := range 60 {
		text += fmt.Sprintf("a%d: &a%d [*a%d, *a%[3]d]\n", i+1, i+1, i)
	}
	root, err := parseTree([]byte(text + "one: {<<: *a0}\nall: {<<: *a60}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := root.field("one").keys; !cmp.Equal(got, []string{"x", "y"}) {
		t.Errorf("a list of maps brings %q", got)
	}
	if got := root.field("all").keys; len(got) > 0 {
		t.Errorf("lists of lists bring %q", got)
	}
}

// No text stops the process, and no error repeats much of it.
func FuzzTree(f *testing.F) {
	f.Add("apps:\n  - &a {id: 1, k: [1, *a]}\n  - <<: *a\n")
	f.Add(`{"a": [1, null, {"b": "c"}]}`)
	f.Add("a: |\n  b\n? c\n: d\n--- e\n")
	f.Add("%YAML 1.2\n---\n!!map {a: b}")
	f.Fuzz(func(t *testing.T, text string) {
		tree, err := parseTree([]byte(text))
		if (tree == nil) == (err == nil) {
			t.Errorf("tree %v, error %v", tree, err)
		}
		if err != nil && len(err.Error()) > 200 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	})
}
