//go:build !linux

package socket

import "syscall"

// pollers do not exist here: every connection is a stream.
type pollers struct{}

func newPollers(*Server, int) (*pollers, error) { return nil, nil }

func (*pollers) adopt(*upgrade) bool { return false }

func (*pollers) abort() {}

func (*pollers) close() {}

func controlListener(string, string, syscall.RawConn) error { return nil }
