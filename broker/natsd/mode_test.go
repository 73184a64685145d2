package natsd

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
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

// Who else can change what is in the data folder is warned of, and with private keys who
// can read it.
func TestWarnOfMode(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has other rights")
	}
	for _, tt := range []struct {
		mode    os.FileMode
		private bool
		want    string
	}{
		{0o700, true, ""},
		{0o755, false, ""},
		{0o755, true, "can read the data folder"},
		{0o750, true, "can read the data folder"},
		{0o711, true, "can read the data folder"},
		{0o770, true, "can write to the data folder"},
		{0o702, false, "can write to the data folder"},
	} {
		dir := t.TempDir()
		if err := os.Chmod(dir, tt.mode); err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		warnOfMode(dir, tt.private, slog.New(slog.NewTextHandler(&said, nil)))
		if !strings.Contains(said.String(), tt.want) || (tt.want == "") != (said.Len() == 0) || tt.want != "" && !strings.Contains(said.String(), "chmod 700") {
			t.Errorf("mode %04o, private %t: said %q, want %q", tt.mode, tt.private, said.String(), tt.want)
		}
	}
}
