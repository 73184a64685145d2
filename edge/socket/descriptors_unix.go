//go:build unix

package socket

import (
	"fmt"
	"math"
	"syscall"
)

// RaiseDescriptors raises the number of files that the process may have open
// to what the system lets it (RLIMIT_NOFILE, the soft limit to the hard one),
// and returns it; 0 is no limit. The Go runtime does so too where it deems it
// safe, which it may cease to do. When raising fails, it returns the limit
// that there is.
func RaiseDescriptors() (int, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("read the limit of file descriptors: %w", err)
	}
	if l.Cur < l.Max {
		raised := syscall.Rlimit{Cur: l.Max, Max: l.Max}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
			l = raised
		}
	}
	if n := uint64(l.Cur); n < math.MaxInt32 { //nolint:unconvert // signed on some systems
		return int(n), nil
	}
	return 0, nil
}
