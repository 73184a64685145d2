//go:build !unix

package natsd

import (
	"errors"
	"os"
)

// mapFile: files are not mapped on this system.
func mapFile(*os.File, int64, int) ([]byte, error) { return nil, errors.ErrUnsupported }

func unmap([]byte) error { return nil }
