//go:build !linux

package socket

import (
	"syscall"
	"time"
)

// streamWriteBytes is how much the goroutine transport writes at once. It is
// less than a TLS record, because only a finished write shows here that the
// peer takes something.
const streamWriteBytes = 4 << 10

// pollers do not exist here: every connection is a stream.
type pollers struct{}

func newPollers(*Server, int) (*pollers, error) { return nil, nil }

func (*pollers) adopt(*upgrade) bool { return false }

func (*pollers) abort() {}

func (*pollers) close() {}

func controlListener(string, string, syscall.RawConn) error { return nil }

// lookAt knows nothing here.
func lookAt(int) taken { return taken{} }

// outlast does nothing: there is no such option here.
func outlast(int, time.Duration) {}
