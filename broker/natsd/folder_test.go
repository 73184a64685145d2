package natsd

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A stream that was removed, or made anew, by a command to the servers of a mesh has
// other files than before; that files are gone of one that is the same is a failure.
func TestStreamMadeAnew(t *testing.T) {
	t.Parallel()
	first := time.Unix(1_700_000_000, 0)
	for name, tt := range map[string]struct {
		after map[string]time.Time
		fails bool
	}{
		"the same":    {map[string]time.Time{"EVENTS-0": first}, true},
		"made anew":   {map[string]time.Time{"EVENTS-0": first.Add(time.Second)}, false},
		"removed":     {map[string]time.Time{}, false},
		"of no mesh":  {nil, true},
		"not known":   {map[string]time.Time{"EVENTS-1": first}, false},
		"known later": {map[string]time.Time{"EVENTS-0": first, "EVENTS-1": first}, true},
	} {
		dir := t.TempDir()
		mustMakeStreams(t, dir, "EVENTS-0")
		stream := filepath.Join(dir, storeFolder, filepath.FromSlash(streamsPath), "EVENTS-0")
		for _, file := range []string{"meta.inf", "msgs/1.blk", "msgs/2.blk"} {
			if err := os.WriteFile(filepath.Join(stream, file), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		made := map[string]time.Time{"EVENTS-0": first}
		f := &folder{dir: dir}
		if tt.after != nil {
			f.made = func() map[string]time.Time { return maps.Clone(made) }
		}
		if err := f.remember(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(stream, "msgs/2.blk")); err != nil {
			t.Fatal(err)
		}
		made = tt.after
		if err := f.check(); err != nil {
			t.Errorf("%s: at once: %v", name, err)
		}
		f.streams["EVENTS-0"].missing = time.Now().Add(-missingFor)
		err := f.check()
		if tt.fails != (err != nil) || err != nil && !strings.Contains(err.Error(), "a file of EVENTS-0 was removed") {
			t.Errorf("%s: got %v", name, err)
		}
		if err := f.check(); !tt.fails && err != nil {
			t.Errorf("%s: again: %v", name, err)
		}
	}
}
