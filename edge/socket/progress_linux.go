package socket

import (
	"time"

	"golang.org/x/sys/unix"
)

// lookAt asks the kernel what the peer of a socket took. For TCP that is what
// it acknowledged; for other sockets what it has not read yet.
func lookAt(fd int) (t taken) {
	if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
		t.acknowledged = info.Bytes_acked
	}
	if n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ); err == nil {
		t.unread = n
	}
	return t
}

// outlast makes the kernel give up on the peer of a socket, or of what a
// listening one accepts, later than we would: then the peer can be told why.
// Errors are not TCP's.
func outlast(fd int, patience time.Duration) {
	const spare = 20 * time.Second
	if ms := (patience + spare).Milliseconds(); ms > userTimeout {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(ms))
	}
}
