//go:build unix

package natsd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// dirLock keeps other processes out of the data folder: by a lock of the folder
// itself, which holds also when the lock file is removed, and of that file,
// where folders cannot be locked (NFS). The kernel gives both up when the
// process dies.
type dirLock struct{ folder, file *os.File }

func lockDir(dir string) (*dirLock, error) {
	folder, err := os.Open(dir) //nolint:gosec // the operator's own data folder
	if err != nil {
		return nil, fmt.Errorf("open the data folder: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the same
	if err != nil {
		_ = folder.Close()
		return nil, fmt.Errorf("open the lock of the data folder: %w", err)
	}
	l := &dirLock{folder: folder, file: file}
	err = flock(folder)
	if !errors.Is(err, unix.EWOULDBLOCK) {
		err = flock(file)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%w: %s: stop it, or choose another folder with --data-dir", errInUse, dir)
	}
	if err != nil {
		_ = l.release()
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	return l, nil
}

func flock(file *os.File) error { return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

func (l *dirLock) release() error { return errors.Join(l.file.Close(), l.folder.Close()) }
