package natsd

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func mustOpenLedger(t *testing.T, dir string) (l *ledger, said func() string) {
	t.Helper()
	var text bytes.Buffer
	l, err := openLedger(dir, slog.New(slog.NewTextHandler(&text, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.release() })
	return l, text.String
}

// mustMakeStreams makes the folders of streams.
func mustMakeStreams(t *testing.T, dir string, streams ...string) {
	t.Helper()
	for _, stream := range streams {
		if err := os.MkdirAll(filepath.Join(dir, filepath.FromSlash(messagesFolder(stream))), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// The newest sequences are known at the next start, whether the server was closed
// or killed, and what cannot be read is said and not a failure.
func TestPromises(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustStart(t, Config{Dir: dir})
	if s.Acknowledged("EVENTS-0") != 0 || s.Damaged("EVENTS-0") != "" || s.Copied() {
		t.Error("something is known of a new folder")
	}
	mustMakeStreams(t, dir, "EVENTS-0", "EVENTS-1", "STORE-x")
	first, err := s.Watch("EVENTS-0", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Watch("EVENTS-1", 7); err != nil {
		t.Fatal(err)
	}
	for _, sequence := range []uint64{1, 3, 2, 1 << 40, 5} {
		first(sequence)
	}
	want := func(when string, want map[string]uint64) {
		t.Helper()
		l, _ := mustOpenLedger(t, dir)
		for stream, sequence := range want {
			if got := l.promises.before[stream]; got != sequence {
				t.Errorf("%s: %s promised %d, want %d", when, stream, got, sequence)
			}
		}
	}
	want("killed", map[string]uint64{"EVENTS-0": 1 << 40, "EVENTS-1": 7})
	mustClose(t, s)
	want("closed", map[string]uint64{"EVENTS-0": 1 << 40, "EVENTS-1": 7})

	// Who has been told of a loss begins again lower.
	s = mustStart(t, Config{Dir: dir})
	mustMakeStreams(t, dir, "EVENTS-0", "STORE-x")
	for _, stream := range []string{"STORE-x", "EVENTS-0"} {
		if _, err := s.Watch(stream, 4); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, s)
	want("lower", map[string]uint64{"EVENTS-0": 4, "EVENTS-1": 7, "STORE-x": 4})
	if _, err := s.ledger.promises.add(strings.Repeat("x", 200), 0); err == nil {
		t.Error("a name that is too long is taken")
	}
}

// Files that cannot be read are said, and not a failure: a power cut may have left
// anything.
func TestLedgerThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for file, texts := range map[string][]string{
		ledgerFile:   {"{\"streams\":", "\x00\x00"},
		promisesFile: {"EVENTS-0 7", strings.Repeat("x", entryLength)},
	} {
		for _, text := range texts {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			l, said := mustOpenLedger(t, dir)
			if len(l.now.Streams) != 0 || len(l.promises.before) != 0 || !strings.Contains(said(), "cannot be read") {
				t.Errorf("%s: %q: got %v, %v, said %s", file, text, l.now.Streams, l.promises.before, said())
			}
			if _, err := l.promises.add("EVENTS-0", 9); err != nil {
				t.Error(err)
			}
		}
	}
}

// A copy of a folder says so, also if it has kept the times, and is a folder of its
// own from then on.
func TestCopied(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustStart(t, Config{Dir: dir})
	if birth(filepath.Join(dir, storeFolder)) == 0 {
		t.Skip("the file system does not tell when a folder was made")
	}
	mustMakeStreams(t, dir, "EVENTS-0")
	if _, err := s.Watch("EVENTS-0", 0); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		dir  string
		want bool
	}{{dir, false}, {copied, true}, {copied, false}} {
		s := mustStart(t, Config{Dir: tt.dir})
		if s.Copied() != tt.want {
			t.Errorf("%s is a copy: %v, want %v", tt.dir, s.Copied(), tt.want)
		}
		mustMakeStreams(t, tt.dir, "EVENTS-0")
		if _, err := s.Watch("EVENTS-0", 0); err != nil {
			t.Fatal(err)
		}
		mustClose(t, s)
	}
}

// The files of a stream that runs are known but the one that is written, whatever
// becomes of them, and the folder is never taken for another in its place.
func TestWatch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	msgs := filepath.Join(dir, filepath.FromSlash(messagesFolder("EVENTS-0")))
	if err := os.MkdirAll(msgs, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name string, size int) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(msgs, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("1.blk", 10)
	l, _ := mustOpenLedger(t, dir)
	if err := l.add("EVENTS-0"); err != nil {
		t.Fatal(err)
	}
	waitFor := func(want map[string]int64) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for {
			// As the next start has it.
			next, _ := mustOpenLedger(t, dir)
			got := make(map[string]int64)
			for name, b := range next.now.Streams["EVENTS-0"] {
				got[name] = b.Size
			}
			if maps.Equal(got, want) {
				return
			}
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				t.Fatalf("got %v, want %v", got, want)
			}
		}
	}
	waitFor(nil)
	write("2.blk", 20)
	waitFor(map[string]int64{"1.blk": 10})
	write("10.blk", 1)
	write("notes", 1)
	waitFor(map[string]int64{"1.blk": 10, "2.blk": 20})
	write("1.blk.tmp", 5)
	if err := os.Rename(filepath.Join(msgs, "1.blk.tmp"), filepath.Join(msgs, "1.blk")); err != nil {
		t.Fatal(err)
	}
	waitFor(map[string]int64{"1.blk": 5, "2.blk": 20})
	if err := os.Remove(filepath.Join(msgs, "1.blk")); err != nil {
		t.Fatal(err)
	}
	waitFor(map[string]int64{"2.blk": 20})

	away := dir + ".away"
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(away, filepath.FromSlash(messagesFolder("EVENTS-0")), "11.blk"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
	if others, err := os.ReadDir(dir); err != nil || len(others) > 0 {
		t.Errorf("the folder of another has %v, %v", others, err)
	}
	l, _ = mustOpenLedger(t, away)
	if got := l.now.Streams["EVENTS-0"]; len(got) != 3 {
		t.Errorf("closed: %v", got)
	}
}

func TestCompareBlocks(t *testing.T) {
	t.Parallel()
	at := time.Unix(1e9, 5000)
	before := files{"1.blk": {10, at}, "2.blk": {10, at}}
	for name, tt := range map[string]struct {
		one   block
		timed bool
		want  string
	}{
		"the same":                     {block{10, at}, true, ""},
		"a copy that keeps seconds":    {block{10, time.Unix(1e9, 0)}, true, ""},
		"written later":                {block{10, at.Add(1)}, true, "1 of 2 files were changed or removed, the first is 1.blk; 0 bytes are gone"},
		"a copy without times":         {block{10, at.Add(time.Hour)}, false, ""},
		"shorter":                      {block{3, at}, true, "1 of 2 files were changed or removed, the first is 1.blk; 7 bytes are gone"},
		"shorter, in a copy":           {block{3, at.Add(time.Hour)}, false, "1 of 2 files were changed or removed, the first is 1.blk; 7 bytes are gone"},
		"longer than it was once more": {block{12, at}, true, "1 of 2 files were changed or removed, the first is 1.blk; 0 bytes are gone"},
	} {
		if got := compare(before, files{"1.blk": tt.one, "2.blk": {10, at}, "3.blk": {}}, tt.timed); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
	if got, want := compare(before, nil, true), "2 of 2 files were changed or removed, the first is 1.blk; 20 bytes are gone"; got != want {
		t.Errorf("none left: got %q, want %q", got, want)
	}
}
