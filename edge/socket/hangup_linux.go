package socket

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// peerLeft reports whether the peer has ended its side of a connection, whatever
// is still to be read of what it sent before. It does not block.
func peerLeft(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true // closed
	}
	left := false
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(fds, 0)
		left = err == nil && n > 0
	})
	return left || err != nil
}
