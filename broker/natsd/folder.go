package natsd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// Parts of the data folder.
const (
	storeFolder = "nats"
	// probeFile is written and removed again to see whether the folder takes
	// anything.
	probeFile = "probe"
)

// othersMayWrite are the permission bits that let others than the owner change
// what is stored.
const othersMayWrite fs.FileMode = 0o022

// warnOfMode says that others can write to the data folder: who can may change
// events, or make the server read another's files.
func warnOfMode(dir string, log *slog.Logger) {
	info, err := os.Stat(dir)
	// Windows has other rights, and shows all of these.
	if err != nil || info.Mode().Perm()&othersMayWrite == 0 || runtime.GOOS == "windows" {
		return
	}
	log.Warn("other users can write to the data folder, and so change or remove what is stored",
		slog.String("folder", dir), slog.String("mode", fmt.Sprintf("%04o", info.Mode().Perm())),
		slog.String("remedy", fmt.Sprintf("chmod 700 %s", dir)))
}

// folder knows what the open data folder consists of. Open files outlive their
// names, so a folder that is removed or renamed would go on taking events that
// nobody finds again.
type folder struct {
	dir string

	mu      sync.Mutex
	parts   map[string]os.FileInfo // what the server has open, by path
	streams map[string]struct{}    // names of the streams' folders
	probing bool                   // a write is under way, perhaps for ever
}

// remember takes down what the folder is now. It is called when the server has
// just opened it.
func (f *folder) remember() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.parts, f.streams = make(map[string]os.FileInfo), make(map[string]struct{})
	for _, path := range []string{f.dir, filepath.Join(f.dir, storeFolder)} {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("look at the data folder: %w", err)
		}
		f.parts[path] = info
	}
	return f.checkStreamsLocked()
}

// check reports what is missing, and what has been put in its place.
func (f *folder) check() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, path := range []string{f.dir, filepath.Join(f.dir, storeFolder)} {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%s was removed or renamed: put it back, or restart the server to begin an empty one", f.name(path))
		case err != nil:
			return fmt.Errorf("the data folder cannot be read: %w", plain(err))
		case !os.SameFile(info, f.parts[path]):
			return fmt.Errorf("another folder is in the place of %s: put the old one back, or restart the server to use the new one", f.name(path))
		}
	}
	return f.checkStreamsLocked()
}

// name is what a part is called where anybody may read it.
func (f *folder) name(path string) string {
	if path == f.dir {
		return "the data folder"
	}
	return "the folder " + filepath.Base(path) + " in the data folder"
}

func (f *folder) checkStreamsLocked() error {
	root := filepath.Join(f.dir, storeFolder, "jetstream", "$G", "streams")
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the data folder cannot be read: %w", plain(err))
	}
	there := make(map[string]struct{}, len(entries))
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			there[e.Name()] = struct{}{}
		}
	}
	for name := range f.streams {
		if _, ok := there[name]; !ok {
			return fmt.Errorf("%s was removed from the data folder: put it back, or restart the server to begin an empty one", name)
		}
	}
	f.streams = there
	return nil
}

// write puts size bytes into the folder and takes them away again; flush: not
// before the disk has them. A disk that hangs makes it hang; until it is over
// others are told so at once.
func (f *folder) write(ctx context.Context, size int, flush bool) error {
	f.mu.Lock()
	busy := f.probing
	f.probing = true
	f.mu.Unlock()
	if busy {
		return errors.New("the data folder does not answer: a write to it has not ended")
	}
	done := make(chan error, 1)
	go func() {
		err := writeProbe(filepath.Join(f.dir, probeFile), size, flush)
		f.mu.Lock()
		f.probing = false
		f.mu.Unlock()
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("the data folder cannot be written: %w", plain(err))
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the data folder does not answer: %w", ctx.Err())
	}
}

func writeProbe(path string, size int, flush bool) (err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // the operator's own data folder
	if err != nil {
		return err
	}
	_, err = file.Write(make([]byte, size))
	if err == nil && flush {
		err = file.Sync()
	}
	return errors.Join(err, file.Close(), os.Remove(path))
}

// plain is err without the path: it is shown to whoever asks for the health.
func plain(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}
