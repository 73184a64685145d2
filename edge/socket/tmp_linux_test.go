package socket

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func BenchmarkTmpSend(b *testing.B) {
	for _, frames := range []int{1, 8, 60} {
		b.Run(string(rune('0'+frames)), func(b *testing.B) {
			h, n := mustNobody(b, 16)
			var conns []Conn
			var fds []int
			buf := make([]byte, 1<<20)
			for range 16 {
				fd := mustRawDial(b, h.addr)
				unix.Write(fd, []byte(upgradeRequest+"\r\n"))
				unix.Read(fd, buf)
				unix.SetNonblock(fd, true)
				fds = append(fds, fd)
				conns = append(conns, <-n.conns)
			}
			batch := make([][]byte, frames)
			for i := range batch {
				batch[i] = Frame([]byte(strings.Repeat("x", 200)))
			}
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var total time.Duration
			count := 0
			for b.Loop() {
				start := cpu(b, unix.RUSAGE_THREAD)
				for range 10 {
					for _, c := range conns {
						c.Send(batch)
					}
				}
				count += 160 * frames
				total += cpu(b, unix.RUSAGE_THREAD) - start
				for _, fd := range fds {
					unix.Read(fd, buf)
				}
			}
			b.ReportMetric(float64(total.Nanoseconds())/float64(count), "cpu-ns/frame")
			for _, fd := range fds {
				unix.Close(fd)
			}
		})
	}
}
