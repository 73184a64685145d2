package natsd

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The newest sequences are known at the next start, whether the server was closed
// or killed, and what cannot be read is said and not a failure.
func TestLedger(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustStart(t, Config{Dir: dir})
	if len(s.Acknowledged()) != 0 || len(s.Damaged()) != 0 {
		t.Errorf("a new folder: %v, %v", s.Acknowledged(), s.Damaged())
	}
	for newest := range uint64(3) {
		if err := s.Acknowledge(map[string]uint64{"EVENTS-0": newest, "EVENTS-1": 7}); err != nil {
			t.Fatal(err)
		}
	}
	read := func() *ledger {
		l, err := openLedger(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	if before := read().before; before["EVENTS-0"].Acknowledged != 2 || before["EVENTS-1"].Acknowledged != 7 || len(before["EVENTS-0"].Blocks) != 0 {
		t.Errorf("killed: %v", before)
	}
	mustClose(t, s)
	if before := read().before; before["EVENTS-0"].Acknowledged != 2 {
		t.Errorf("closed: %v", before)
	}
	if err := os.WriteFile(filepath.Join(dir, ledgerFile), []byte(`{"streams":`), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	l, err := openLedger(dir, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil || len(l.before) != 0 || !strings.Contains(said.String(), "not known") {
		t.Errorf("got %v, %v, said %s", l, err, said.String())
	}
}

func TestCompareBlocks(t *testing.T) {
	t.Parallel()
	at := time.Unix(1e9, 5000)
	before := map[string]block{"1.blk": {10, at}, "2.blk": {10, at}}
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
		if got := compare(before, map[string]block{"1.blk": tt.one, "2.blk": {10, at}, "3.blk": {}}, tt.timed); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
	if got, want := compare(before, nil, true), "2 of 2 files were changed or removed, the first is 1.blk; 20 bytes are gone"; got != want {
		t.Errorf("none left: got %q, want %q", got, want)
	}
}
