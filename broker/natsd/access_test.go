package natsd

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Who asks for the way into a server is told what there is instead.
func TestAccessWithoutAServer(t *testing.T) {
	t.Parallel()
	alone, member, killed := t.TempDir(), t.TempDir(), t.TempDir()
	mustClose(t, mustStart(t, Config{Dir: alone}))
	if err := checkMode(&Config{Dir: member, Name: "n1", Mesh: &Mesh{Cluster: "live"}}); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		filepath.Join(alone, "other"): "there is no folder",
		alone:                         "is not the folder of a node of a cluster",
		member:                        "is the folder of node n1 of cluster live, which does not run",
	} {
		if _, err := ReadAccess(dir); !errors.Is(err, ErrNoServer) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", dir, err, want)
		}
	}
	if err := os.WriteFile(filepath.Join(killed, accessFile), []byte(`{"node":"n1","url":"nats://127.0.0.1:1"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	access, err := ReadAccess(killed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := access.Connect(true); !errors.Is(err, ErrNoServer) || !strings.Contains(err.Error(), "node n1 was killed") {
		t.Errorf("of a server that was killed: %v", err)
	}
}

func TestInspect(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Inspect(filepath.Join(dir, "other")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	want := func(what string, want Folder) {
		t.Helper()
		if got, err := Inspect(dir); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", what, got, err, want)
		}
	}
	want("an empty folder", Folder{Closed: true})
	s := mustStart(t, Config{Dir: dir})
	mustMakeStreams(t, dir, "EVENTS-0")
	want("while a server runs", Folder{Streams: true, InUse: true})
	// Left to be judged by the next server, as if none had had it.
	if err := s.Abandon(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("a folder that is let go", Folder{Streams: true, Closed: true})
	if _, _, err := openMarks(dir); err != nil {
		t.Fatal(err)
	}
	want("after a kill", Folder{Streams: true})
}
