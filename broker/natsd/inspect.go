package natsd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Folder is what can be said of a data folder without opening it.
type Folder struct {
	// Cluster and Node say whose it is, "" if it is of a server that is alone.
	Cluster, Node string
	// Streams reports whether it has any.
	Streams bool
	// InUse: a server has it open. Closed: the last one that had it ended cleanly.
	InUse, Closed bool
}

// errInUse is that a server has the data folder.
var errInUse = errors.New("the data folder is used by another process")

// Inspect looks at a data folder. It changes nothing, and the error is fs.ErrNotExist if
// there is none.
func Inspect(dir string) (f Folder, err error) {
	if _, err := os.Stat(dir); err != nil {
		return f, fmt.Errorf("look at the data folder: %w", err)
	}
	m, err := readMode(filepath.Join(dir, modeFile))
	if err != nil {
		return f, err
	}
	f.Cluster, f.Node = m.Cluster, m.Node
	if f.Streams, err = hasStreams(dir); err != nil {
		return f, err
	}
	lock, err := lockDir(dir)
	switch {
	case errors.Is(err, errInUse):
		f.InUse = true
		return f, nil
	case err != nil:
		return f, err
	}
	_, err = os.Stat(filepath.Join(dir, markFile))
	f.Closed = errors.Is(err, fs.ErrNotExist)
	return f, lock.release()
}

// hasStreams reports whether there are folders of streams.
func hasStreams(dir string) (bool, error) {
	streams, err := os.ReadDir(filepath.Join(dir, storeFolder, filepath.FromSlash(streamsPath)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("look at the streams: %w", err)
	}
	return len(streams) > 0, nil
}
