package natsd

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A folder is for servers of one kind and name: NATS would keep the events of one
// that was alone below a stream of the cluster that has others.
func TestMode(t *testing.T) {
	t.Parallel()
	alone := func(dir string) *Config { return &Config{Dir: dir} }
	node := func(cluster, name string) func(string) *Config {
		return func(dir string) *Config { return &Config{Dir: dir, Name: name, Mesh: &Mesh{Cluster: cluster}} }
	}
	for name, tt := range map[string]struct {
		first, second func(dir string) *Config
		events        bool
		want          string
	}{
		"alone again":            {alone, alone, true, ""},
		"the same node":          {node("a", "n1"), node("a", "n1"), true, ""},
		"another node":           {node("a", "n1"), node("a", "n2"), true, "it belongs to node n1 of cluster a, and this is node n2 of cluster a"},
		"another cluster":        {node("a", "n1"), node("b", "n1"), false, "it belongs to node n1 of cluster a"},
		"alone, then a node":     {alone, node("a", "n1"), true, "it has the events of a server that was alone"},
		"empty, then a node":     {alone, node("a", "n1"), false, ""},
		"a node, then alone":     {node("a", "n1"), alone, true, "it belongs to node n1 of cluster a, start it with that"},
		"an empty one of a node": {node("a", "n1"), alone, false, "it belongs to node n1 of cluster a"},
	} {
		dir := t.TempDir()
		if err := checkMode(tt.first(dir)); err != nil {
			t.Fatal(err)
		}
		if tt.events {
			mustMakeStreams(t, dir, "EVENTS-0")
		}
		err := checkMode(tt.second(dir))
		if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, ErrMode) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, modeFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkMode(alone(dir)); err == nil {
		t.Error("a mark that cannot be read is taken for none")
	}
}
