package socket

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Options of every socket (DESIGN §7).
const (
	// notSentLowat keeps the kernel from taking megabytes for a peer that does
	// not read.
	notSentLowat = 16 << 10
	// userTimeout ends connections whose peer acknowledges nothing, in ms.
	userTimeout = 30_000
)

// streamWriteBytes is how much the goroutine transport writes at once: a TLS
// record.
const streamWriteBytes = 16 << 10

// vectors is how many frames are written with one system call.
const vectors = 64

func tune(fd int) {
	// Errors are not TCP's: the options are a protection, not a condition.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSentLowat)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeout)
}

// controlListener sets the options on a listening socket: accepted ones
// inherit them.
func controlListener(_, _ string, raw syscall.RawConn) error {
	if err := raw.Control(func(fd uintptr) { tune(int(fd)) }); err != nil {
		return fmt.Errorf("set socket options: %w", err)
	}
	return nil
}

// Writes and reads tell the scheduler (Syscall, not RawSyscall): measured with
// 1, 8 and 60 frames of 200 bytes, leaving that out saves nothing that could be
// told from noise, and a goroutine waiting for a processor need not wait for
// them.

// epollWait fetches events without waiting.
func epollWait(fd int, events []unix.EpollEvent) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0) //nolint:gosec // the kernel wants addresses
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// read reads from a non-blocking socket. n is 0 with errno 0 at the end.
func read(fd int, buf []byte) (int, unix.Errno) {
	n, _, errno := unix.Syscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf))) //nolint:gosec // the kernel wants addresses
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// writeFrames writes frames to a non-blocking socket. If not all were taken,
// errno is not 0; n is how many bytes were.
func writeFrames(fd int, frames [][]byte) (n int, errno unix.Errno) {
	if len(frames) == 1 {
		return writeOne(fd, frames[0])
	}
	var iov [vectors]unix.Iovec
	for len(frames) > 0 {
		batch := frames[:min(len(frames), vectors)]
		total := 0
		for i, f := range batch {
			iov[i].Base = unsafe.SliceData(f) //nolint:gosec // the kernel wants addresses
			iov[i].SetLen(len(f))
			total += len(f)
		}
		written, errno := writev(fd, iov[:len(batch)], total)
		n += written
		if errno != 0 {
			return n, errno
		}
		frames = frames[len(batch):]
	}
	return n, 0
}

// writeQueue writes the front of q, like writeFrames.
func writeQueue(fd int, q *Queue) (n int, errno unix.Errno) {
	var iov [vectors]unix.Iovec
	count, total, skip := 0, 0, q.written
	for _, e := range q.entries[q.head:] {
		if count == vectors {
			break
		}
		f := e.frame[skip:]
		skip = 0
		iov[count].Base = unsafe.SliceData(f) //nolint:gosec // the kernel wants addresses
		iov[count].SetLen(len(f))
		total += len(f)
		count++
	}
	return writev(fd, iov[:count], total)
}

// writev writes until all total bytes of iov are taken or the socket takes no
// more. It changes iov.
func writev(fd int, iov []unix.Iovec, total int) (n int, errno unix.Errno) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov))) //nolint:gosec // the kernel wants addresses
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return n, errno
		}
		n += int(r)
		if n >= total {
			return n, 0
		}
		iov = advance(iov, int(r))
	}
}

// advance takes n bytes off the front of iov, which has more.
func advance(iov []unix.Iovec, n int) []unix.Iovec {
	for n >= int(iov[0].Len) {
		n -= int(iov[0].Len)
		iov = iov[1:]
	}
	iov[0].Base = (*byte)(unsafe.Add(unsafe.Pointer(iov[0].Base), n)) //nolint:gosec // the kernel wants addresses
	iov[0].SetLen(int(iov[0].Len) - n)
	return iov
}

func writeOne(fd int, frame []byte) (n int, errno unix.Errno) {
	for n < len(frame) {
		rest := frame[n:]
		r, _, errno := unix.Syscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&rest[0])), uintptr(len(rest))) //nolint:gosec // the kernel wants addresses
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return n, errno
		}
		n += int(r)
	}
	return n, 0
}
