package socket

import (
	"syscall"
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

// outlast makes connections of the listener live longer than a peer may take
// nothing: it is told why it is closed. Errors are not TCP's.
func (l *Listener) outlast(timeout time.Duration) {
	const spare = 20 * time.Second
	ms := (timeout + spare).Milliseconds()
	c, ok := l.Listener.(syscall.Conn)
	if !ok || ms <= userTimeout {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(ms))
	})
}
