package natsd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// ledgerFile is what is known of the streams beside them.
const ledgerFile = "streams.json"

// ledger remembers of the streams what they could not tell if they had lost
// something. It is written without waiting for the disk: after a power cut nothing
// is trusted anyway. It is safe for concurrent use.
type ledger struct {
	dir string
	// before is what was known when the server started, damage what is wrong with
	// files since, by stream. Static.
	before map[string]entry
	damage map[string]string

	mu      sync.Mutex
	entries map[string]entry
}

// ledgerText is what the file holds.
type ledgerText struct {
	// Written is also the time of the file itself: where that is another one, the
	// folder is a copy without the times, which say nothing then.
	Written time.Time        `json:"written"`
	Streams map[string]entry `json:"streams"`
}

// entry is what is known of a stream.
type entry struct {
	// Acknowledged is the newest sequence that was promised.
	Acknowledged uint64 `json:"acknowledged,omitempty"`
	// Blocks are its files of messages, by name, once the server has ended; while
	// it runs it makes, shrinks and removes them.
	Blocks map[string]block `json:"blocks,omitempty"`
}

// block is a file of messages.
type block struct {
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
}

// openLedger reads what is known of a folder and compares it with what is there,
// before a server opens it.
func openLedger(dir string, log *slog.Logger) (*ledger, error) {
	before, timed, err := readLedger(filepath.Join(dir, ledgerFile), log)
	if err != nil {
		return nil, fmt.Errorf("read what was acknowledged: %w", err)
	}
	l := &ledger{dir: dir, before: before, damage: make(map[string]string), entries: maps.Clone(before)}
	for name, e := range before {
		have, err := blocks(dir, name)
		if err != nil {
			return nil, fmt.Errorf("look at the files of %s: %w", name, err)
		}
		if text := compare(e.Blocks, have, timed); text != "" {
			l.damage[name] = text
		}
	}
	return l, nil
}

// readLedger reads what was written; timed: the times of files say something.
func readLedger(path string, log *slog.Logger) (before map[string]entry, timed bool, err error) {
	text, err := os.ReadFile(path) //nolint:gosec // the operator's own data folder
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, false, err
	}
	var t ledgerText
	if err := json.Unmarshal(text, &t); err != nil {
		// A power cut may have left anything, and then nothing is trusted anyway.
		log.Warn("what was acknowledged is not known: losses are not recognised at this start",
			slog.String("file", path), slog.Any("error", err))
		return nil, false, nil
	}
	return t.Streams, sameTime(info.ModTime(), t.Written), nil
}

// acknowledge keeps the newest sequences of the streams.
func (l *ledger) acknowledge(newest map[string]uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	entries := make(map[string]entry, len(newest))
	for name, sequence := range newest {
		entries[name] = entry{Acknowledged: sequence}
	}
	return l.writeLocked(entries)
}

// close adds the files as the server has left them.
func (l *ledger) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	entries := make(map[string]entry, len(l.entries))
	for name, e := range l.entries {
		var err error
		if e.Blocks, err = blocks(l.dir, name); err != nil {
			return fmt.Errorf("look at the files of %s: %w", name, err)
		}
		entries[name] = e
	}
	return l.writeLocked(entries)
}

func (l *ledger) writeLocked(entries map[string]entry) error {
	path, now := filepath.Join(l.dir, ledgerFile), time.Now()
	text, err := json.Marshal(ledgerText{now, entries})
	if err == nil {
		err = writeMark(path, string(text), "")
	}
	if err == nil {
		err = os.Chtimes(path, now, now)
	}
	if err != nil {
		return fmt.Errorf("write what was acknowledged: %w", err)
	}
	l.entries = entries
	return nil
}

// blocks are the files of messages of a stream.
func blocks(dir, stream string) (map[string]block, error) {
	entries, err := os.ReadDir(filepath.Join(streamsFolder(dir), stream, "msgs"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	found := make(map[string]block)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), blockSuffix) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		found[e.Name()] = block{Size: info.Size(), Modified: info.ModTime()}
	}
	return found, nil
}

// compare says what is wrong with files that are not as they were, "" for nothing.
func compare(before, now map[string]block, timed bool) string {
	var wrong []string
	bytes := int64(0)
	for name, was := range before {
		is, there := now[name]
		if there && is.Size == was.Size && (!timed || sameTime(is.Modified, was.Modified)) {
			continue
		}
		wrong = append(wrong, name)
		bytes += max(was.Size-is.Size, 0)
	}
	if len(wrong) == 0 {
		return ""
	}
	slices.Sort(wrong)
	return fmt.Sprintf("%d of %d files were changed or removed, the first is %s; %d bytes are gone", len(wrong), len(before), wrong[0], bytes)
}

// sameTime takes for the same what a copy has kept of a time: some keep seconds.
func sameTime(a, b time.Time) bool {
	return a.Equal(b) || a.Unix() == b.Unix() && (a.Nanosecond() == 0 || b.Nanosecond() == 0)
}
