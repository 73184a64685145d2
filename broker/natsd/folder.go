package natsd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Parts of the data folder.
const (
	storeFolder = "nats"
	// streamsPath is where nats-server has a folder for each stream, below its own.
	streamsPath = "jetstream/$G/streams"
	// messagesName is the folder of messages in it.
	messagesName = "msgs"
	// blockSuffix is that of files of messages, after a number.
	blockSuffix = ".blk"
	// indexFile is what nats-server has noted of them.
	indexFile = "index.db"
	// probeFile is written and removed again to see whether the folder takes
	// anything.
	probeFile = "probe"
)

// messagesFolder has the files of messages of a stream, in a data folder.
func messagesFolder(stream string) string {
	return path.Join(storeFolder, streamsPath, stream, messagesName)
}

// Permission bits that let others than the owner change, and read, what is stored.
const (
	othersMayWrite fs.FileMode = 0o022
	othersMayRead  fs.FileMode = 0o055
)

// warnOfMode says what others can do with the data folder. Who can write to it may change
// events, or make the server read another's files.
func warnOfMode(dir string, private bool, log *slog.Logger) {
	info, err := os.Stat(dir)
	// Windows has other rights, and shows all of these.
	if err != nil || runtime.GOOS == "windows" {
		return
	}
	switch mode := info.Mode().Perm(); {
	case mode&othersMayWrite != 0:
		warnOfOthers(dir, mode, log, "other users can write to the data folder, and so change or remove what is stored")
	case private && mode&othersMayRead != 0:
		warnOfOthers(dir, mode, log, "other users can read the data folder, in which there are private keys")
	}
}

func warnOfOthers(dir string, mode fs.FileMode, log *slog.Logger, what string) {
	log.Warn(what, slog.String("folder", dir), slog.String("mode", fmt.Sprintf("%04o", mode)), //nolint:sloglint // one of the two above
		slog.String("remedy", fmt.Sprintf("chmod 700 %s", dir)))
}

// folder knows what the open data folder consists of. Open files outlive their
// names, so a folder that is removed or renamed would go on taking events that
// nobody finds again.
type folder struct {
	dir string
	// made tells when the server made the streams that it has, by name; nil: nobody
	// but the server's own process changes what it has.
	made func() map[string]time.Time

	mu      sync.Mutex
	parts   map[string]os.FileInfo   // what the server has open, by path
	streams map[string]*streamFolder // by name
	probe   *probe                   // under way, perhaps for ever
}

// probe is a write that shows whether the folder takes anything.
type probe struct {
	begun time.Time
	done  chan struct{} // closed when err is final
	err   error
}

// hungAfter is how long a write may be under way until others do not wait for it.
const hungAfter = 5 * time.Second

// streamFolder is what is known of the folder of a stream.
type streamFolder struct {
	newest  int       // the highest number of a block of messages, 0: there was none
	missing time.Time // since when that block is, zero: it is not
	made    time.Time // when the server made the stream, zero if that is not known
}

// missingFor is how long a block has to be missing to count as removed:
// nats-server puts a new folder in the place of the old one when it empties a
// stream.
const missingFor = time.Second

// remember takes down what the folder is now. It is called when the server has
// just opened it.
func (f *folder) remember() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.parts, f.streams = make(map[string]os.FileInfo), make(map[string]*streamFolder)
	for _, part := range []string{f.dir, filepath.Join(f.dir, storeFolder)} {
		info, err := os.Stat(part)
		if err != nil {
			return fmt.Errorf("look at the data folder: %w", err)
		}
		f.parts[part] = info
	}
	return f.checkStreamsLocked()
}

// check reports what is missing, and what has been put in its place.
func (f *folder) check() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, part := range []string{f.dir, filepath.Join(f.dir, storeFolder)} {
		info, err := os.Stat(part)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%s was removed or renamed: put it back, or restart the server to begin an empty one", f.name(part))
		case err != nil:
			return unreadable(err)
		case !os.SameFile(info, f.parts[part]):
			return fmt.Errorf("another folder is in the place of %s: put the old one back, or restart the server to use the new one", f.name(part))
		}
	}
	return f.checkStreamsLocked()
}

// name is what a part is called where anybody may read it.
func (f *folder) name(part string) string {
	if part == f.dir {
		return "the data folder"
	}
	return "the folder " + filepath.Base(part) + " in the data folder"
}

// removed is what to do about a part that is not there.
const removed = "was removed from the data folder: put it back, or restart the server to begin an empty one"

func (f *folder) checkStreamsLocked() error {
	root := filepath.Join(f.dir, storeFolder, filepath.FromSlash(streamsPath))
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unreadable(err)
	}
	there := make(map[string]*streamFolder, len(entries))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if there[e.Name()] = f.streams[e.Name()]; there[e.Name()] == nil {
			there[e.Name()] = &streamFolder{}
		}
	}
	// Of one that is gone the check says so, after a while: another node may be
	// making it anew.
	for name, s := range f.streams {
		if there[name] == nil {
			there[name] = s
		}
	}
	f.streams = there
	f.dateLocked()
	for name, s := range f.streams {
		err := s.check(filepath.Join(root, name), name, time.Now())
		if err != nil && !f.madeAnewLocked(name) {
			return err
		}
	}
	return nil
}

// dateLocked notes when streams were made, of those of which it is not known.
func (f *folder) dateLocked() {
	var made map[string]time.Time
	for name, s := range f.streams {
		if f.made == nil || !s.made.IsZero() {
			continue
		}
		if made == nil {
			made = f.made()
		}
		s.made = made[name]
	}
}

// madeAnewLocked reports whether a stream of which something is missing was removed, or
// made again, by a command to the servers: what it was is forgotten then.
func (f *folder) madeAnewLocked(name string) bool {
	s := f.streams[name]
	if f.made == nil || s.made.IsZero() {
		return false
	}
	if made, there := f.made()[name]; there && made.Equal(s.made) {
		return false
	}
	delete(f.streams, name)
	return true
}

// check reports that the file that is written, or what describes the stream, is
// gone. nats-server would notice at its next start, when all is lost.
func (s *streamFolder) check(dir, name string, now time.Time) error {
	newest, err := newestBlock(filepath.Join(dir, messagesName))
	if err != nil {
		return unreadable(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "meta.inf")); errors.Is(err, fs.ErrNotExist) {
		// It is written before any event.
		newest = 0
	}
	switch {
	case newest >= s.newest:
		s.newest, s.missing = newest, time.Time{}
	case s.missing.IsZero():
		s.missing = now
	case now.Sub(s.missing) >= missingFor:
		return fmt.Errorf("a file of %s %s", name, removed)
	}
	return nil
}

// newestBlock is the highest number of a block of messages. The newest is always
// there once there was one, and never has a lower number than before.
func newestBlock(dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return newestOf(slices.Values(names)), nil
}

// newestOf is the highest number of a block, 0 if none of the names is that of one.
func newestOf(names iter.Seq[string]) int {
	newest := 0
	for name := range names {
		newest = max(newest, numberOf(name))
	}
	return newest
}

// numberOf is the number of a block, 0 if the name is none: whatever else is there
// is nobody's.
func numberOf(name string) int {
	text, is := strings.CutSuffix(name, blockSuffix)
	if !is {
		return 0
	}
	n, _ := strconv.Atoi(text)
	return n
}

func unreadable(err error) error { return fmt.Errorf("the data folder cannot be read: %w", plain(err)) }

// write puts size bytes into the folder and takes them away again; flush: not
// before the disk has them. There is one such write at a time, and a disk that
// hangs makes it hang: until it is over others are told so at once.
func (f *folder) write(ctx context.Context, size int, flush bool) error {
	for {
		p, own := f.beginProbe(size, flush)
		if !own && time.Since(p.begun) >= hungAfter {
			return errors.New("the data folder does not answer: a write to it has not ended")
		}
		select {
		case <-p.done:
		case <-ctx.Done():
			return fmt.Errorf("the data folder does not answer: %w", ctx.Err())
		}
		switch {
		case !own:
		case p.err != nil:
			return fmt.Errorf("the data folder cannot be written: %w", plain(p.err))
		default:
			return nil
		}
	}
}

// beginProbe begins a write, or returns another's that is under way.
func (f *folder) beginProbe(size int, flush bool) (p *probe, own bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.probe != nil {
		return f.probe, false
	}
	p = &probe{begun: time.Now(), done: make(chan struct{})}
	f.probe = p
	go func() {
		p.err = writeProbe(filepath.Join(f.dir, probeFile), size, flush)
		f.mu.Lock()
		f.probe = nil
		f.mu.Unlock()
		close(p.done)
	}()
	return p, true
}

func writeProbe(name string, size int, flush bool) (err error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // the operator's own data folder
	if err != nil {
		return err
	}
	_, err = file.Write(make([]byte, size))
	if err == nil && flush {
		err = file.Sync()
	}
	return errors.Join(err, file.Close(), os.Remove(name))
}

// plain is err without the path: it is shown to whoever asks for the health.
func plain(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}
