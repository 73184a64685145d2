package natsd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
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
	log *slog.Logger
	// root is the folder itself, whatever becomes of its name: another that is put
	// in its place is never written to.
	root *os.Root

	// damage is what was wrong with files when the server started, by stream; copied:
	// the folder is a copy. Static once the server runs.
	damage map[string]string
	copied bool

	promises *promises
	watching sync.Once
	written  chan struct{} // something was stored since the last look
	stop     chan struct{} // closed to end the watch
	watch    sync.WaitGroup

	mu      sync.Mutex
	now     ledgerText
	dirty   bool // it has to be written
	watched map[string]*watched
}

// ledgerText is what the file holds.
type ledgerText struct {
	// Written is also the time of the file itself: where that is another one, the
	// folder is a copy without the times, which say nothing then.
	Written time.Time `json:"written"`
	// Born is when nats-server's folder was made, in nanoseconds, 0 if the system
	// does not know: no copy has it.
	Born    int64            `json:"born,omitempty"`
	Streams map[string]files `json:"streams"`
}

// files are the files of messages of a stream, by name: once the server has ended
// all of them, while it runs those that it has filled, to which nothing is added.
type files map[string]block

// block is a file of messages.
type block struct {
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
}

// openLedger reads what is known of a folder and compares it with what is there,
// before a server opens it.
func openLedger(dir string, log *slog.Logger) (*ledger, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the data folder: %w", err)
	}
	l := &ledger{
		dir: dir, log: log, root: root, damage: make(map[string]string),
		written: make(chan struct{}, 1), stop: make(chan struct{}), watched: make(map[string]*watched),
	}
	if err := l.open(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return l, nil
}

func (l *ledger) open() (err error) {
	timed, err := l.read()
	if err != nil {
		return fmt.Errorf("read what is known of the streams: %w", err)
	}
	born := birth(path.Join(l.dir, storeFolder))
	l.copied = l.now.Born != 0 && born != 0 && l.now.Born != born
	for name, was := range l.now.Streams {
		is, err := l.files(name)
		if err != nil {
			return err
		}
		switch text := compare(was, is, timed); {
		case text != "":
			l.damage[name] = text
		case !timed:
			// The next start compares with what this one has found.
			l.now.Streams[name] = is.among(was)
		}
	}
	l.promises, err = openPromises(l.root, l.log)
	return err
}

// read takes over what was written; timed: the times of files say something.
func (l *ledger) read() (timed bool, err error) {
	l.now.Streams = make(map[string]files)
	text, err := l.root.ReadFile(ledgerFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	info, err := l.root.Stat(ledgerFile)
	if err != nil {
		return false, err
	}
	var t ledgerText
	if err := json.Unmarshal(text, &t); err != nil {
		// A power cut may have left anything, and then nothing is trusted anyway.
		l.log.Warn("what is known of the streams cannot be read: damage is not recognised at this start",
			slog.String("file", ledgerFile), slog.Any("error", err))
		return false, nil
	}
	maps.Copy(l.now.Streams, t.Streams)
	l.now.Born = t.Born
	return sameTime(info.ModTime(), t.Written), nil
}

// close adds the files as the server has left them.
func (l *ledger) close() error {
	l.endWatch()
	l.mu.Lock()
	defer l.mu.Unlock()
	var problems []error
	for name := range l.watched {
		is, err := l.files(name)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		l.now.Streams[name] = is
	}
	if len(problems) == 0 {
		problems = append(problems, l.writeLocked())
	}
	return errors.Join(append(problems, l.release())...)
}

// release lets go of the folder.
func (l *ledger) release() error {
	l.endWatch()
	problems := []error{l.promises.close()}
	for _, w := range l.watched {
		problems = append(problems, w.folder.Close())
	}
	return errors.Join(append(problems, l.root.Close())...)
}

func (l *ledger) writeLocked() error {
	l.now.Written = time.Now()
	l.now.Born = birth(path.Join(l.dir, storeFolder))
	text, err := json.Marshal(l.now)
	if err == nil {
		err = l.replace(ledgerFile, text, l.now.Written)
	}
	if err != nil {
		return fmt.Errorf("write what is known of the streams: %w", err)
	}
	l.dirty = false
	return nil
}

// replace writes all of a file or nothing, with a time.
func (l *ledger) replace(name string, text []byte, at time.Time) error {
	next := name + ".new"
	err := l.root.WriteFile(next, text, 0o600)
	if err == nil {
		err = l.root.Chtimes(next, at, at)
	}
	if err != nil {
		return errors.Join(err, l.root.Remove(next))
	}
	return l.root.Rename(next, name)
}

// files are those of a stream as they are now.
func (l *ledger) files(stream string) (files, error) {
	folder, err := l.root.Open(messagesFolder(stream))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at the files of %s: %w", stream, err)
	}
	defer folder.Close()
	entries, err := folder.ReadDir(-1)
	if err != nil {
		return nil, fmt.Errorf("look at the files of %s: %w", stream, err)
	}
	found := make(files)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), blockSuffix) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("look at the files of %s: %w", stream, err)
		}
		found[e.Name()] = block{Size: info.Size(), Modified: info.ModTime()}
	}
	return found, nil
}

// among are those of f that others names too.
func (f files) among(others files) files {
	kept := make(files, len(others))
	for name := range others {
		kept[name] = f[name]
	}
	return kept
}

// compare says what is wrong with files that are not as they were, "" for nothing.
func compare(before, now files, timed bool) string {
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
