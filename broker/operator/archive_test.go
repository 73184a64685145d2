package operator

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// silent is a Progress that nobody looks at.
type silent struct{}

func (silent) Say(string)         {}
func (silent) Count(int64, int64) {}

// mustArchive writes an archive of two streams.
func mustArchive(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events.tar")
	w, err := createArchive(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"STORE-sessions", "EVENTS-0"} {
		w.begin(name)
		for i := range 3 {
			if err := w.add(bytes.Repeat([]byte{byte(i + 1)}, 3000)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.end(&snapshotAnswer{Config: []byte(`{"name":"x"}`), State: []byte(`{"messages":7,"first_seq":3,"last_seq":9}`)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("it has its name before it is whole")
	}
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestArchive(t *testing.T) {
	t.Parallel()
	path := mustArchive(t)
	m, err := readManifest(path, silent{})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Streams) != 2 || m.events() != 7 || m.Streams[1].Bytes != 9000 || m.Streams[1].Parts != 3 || m.Streams[1].Last != 9 {
		t.Errorf("got %+v", m)
	}
	if _, err := createArchive(path); !errors.Is(err, ErrRefused) {
		t.Errorf("would write over what is there: %v", err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
}

// Every byte of an archive counts: whatever is changed, cut off or missing, it is refused
// as a whole.
func TestArchiveThatIsDamaged(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(mustArchive(t))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "damaged.tar")
	refuse := func(what string, at int, text []byte) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readManifest(path, silent{}); err == nil {
			t.Errorf("%s at %d is not noticed", what, at)
		}
	}
	const block = 512
	for at := 0; at < len(text)-2*block; at += block {
		refuse("an end", at, text[:at])
		if at > 0 {
			refuse("half a block", at, text[:at-block/2])
		}
		// Padding behind a part says nothing, so what is flipped is where a part begins.
		if at%(7*block) == block {
			flipped := slices.Clone(text)
			flipped[at] ^= 1
			refuse("a flipped bit", at, flipped)
		}
	}
	for _, other := range [][]byte{nil, []byte("no archive"), bytes.Repeat([]byte{0}, 4*block)} {
		refuse("something else", 0, other)
	}
}
