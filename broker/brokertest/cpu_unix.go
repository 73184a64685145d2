//go:build unix

package brokertest

import (
	"syscall"
	"testing"
	"time"
)

// CPUTime is the CPU time of the process so far, user and system: what a
// benchmark on a noisy machine reports in place of bare time.
func CPUTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
