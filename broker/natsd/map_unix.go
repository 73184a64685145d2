//go:build unix

package natsd

import (
	"os"

	"golang.org/x/sys/unix"
)

// mapFile maps a part of a file, so that a write to the memory is one to the file.
func mapFile(file *os.File, offset int64, length int) ([]byte, error) {
	return unix.Mmap(int(file.Fd()), offset, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// unmap ends what mapFile began; nil is nothing.
func unmap(memory []byte) error {
	if memory == nil {
		return nil
	}
	return unix.Munmap(memory)
}
