//go:build !unix

package natsd

import (
	"fmt"
	"os"
	"path/filepath"
)

// dirLock is an open file: systems without flock refuse to delete or replace
// it, and nats-server's own files, while it is in use.
type dirLock struct{ file *os.File }

func lockDir(dir string) (*dirLock, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data folder: %w", err)
	}
	return &dirLock{file: file}, nil
}

func (l *dirLock) release() error { return l.file.Close() }
