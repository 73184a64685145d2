package socket

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func cpu(tb testing.TB, who int) time.Duration {
	tb.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(who, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSend writes 200-byte events to 16 connections in turn. What the
// clients received is read away while the clock stands, so the CPU is that of
// writing with the loopback's share of receiving, without waking a reader.
func BenchmarkSend(b *testing.B) {
	for _, frames := range []int{1, 8, 60} {
		b.Run(fmt.Sprintf("frames=%d", frames), func(b *testing.B) {
			conns, drain := mustClients(b, 16)
			batch := mustBatch(frames, 200)
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var used, took time.Duration
			count, before := 0, mallocs()
			for b.Loop() {
				start, begin := cpu(b, unix.RUSAGE_THREAD), time.Now()
				for range 2 {
					for _, c := range conns {
						if err := c.Send(batch); err != nil {
							b.Fatal(err)
						}
					}
				}
				took += time.Since(begin)
				used += cpu(b, unix.RUSAGE_THREAD) - start
				count += 2 * len(conns) * frames
				drain()
			}
			per := float64(count)
			b.ReportMetric(float64(took.Nanoseconds())/per, "ns/frame")
			b.ReportMetric(float64(used.Nanoseconds())/per, "cpu-ns/frame")
			b.ReportMetric(float64(mallocs()-before)/per, "allocs/frame")
			b.ReportMetric(0, "ns/op") // an iteration is no unit
		})
	}
}

// mustClients connects n bare descriptors; drain empties their sockets.
func mustClients(tb testing.TB, n int) (conns []Conn, drain func()) {
	tb.Helper()
	h, clients := mustNobody(tb, n)
	fds := make([]int, n)
	buf := make([]byte, 1<<20)
	for i := range fds {
		fds[i] = mustRawDial(tb, h.addr)
		tb.Cleanup(func() { _ = unix.Close(fds[i]) })
		mustUpgrade(tb, fds[i])
		if err := unix.SetNonblock(fds[i], true); err != nil {
			tb.Fatal(err)
		}
		conns = append(conns, <-clients.conns)
	}
	return conns, func() {
		for i, c := range conns {
			for again := true; again; {
				n, _ := unix.Read(fds[i], buf)
				again = n > 0 || !drained(c)
			}
		}
	}
}

func mustUpgrade(tb testing.TB, fd int) {
	tb.Helper()
	if _, err := unix.Write(fd, []byte(upgradeRequest+"\r\n")); err != nil {
		tb.Fatal(err)
	}
	var response [1024]byte
	if n, err := unix.Read(fd, response[:]); err != nil || n == 0 {
		tb.Fatal(n, err)
	}
}

func mustBatch(frames, size int) [][]byte {
	batch := make([][]byte, frames)
	for i := range batch {
		batch[i] = Frame([]byte(strings.Repeat("x", size)))
	}
	return batch
}

// drained reports whether nothing is queued for c.
func drained(conn Conn) bool {
	c, _ := conn.(*epollConn)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out == nil
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// TestSendAllocatesNothing is the promise of Conn.Send for what the kernel
// takes at once.
func TestSendAllocatesNothing(t *testing.T) {
	conns, drain := mustClients(t, 1)
	for _, frames := range []int{1, 8, 60, 130} {
		batch := mustBatch(frames, 10)
		got := testing.AllocsPerRun(100, func() {
			drain()
			if err := conns[0].Send(batch); err != nil {
				t.Fatal(err)
			}
		})
		if got != 0 {
			t.Errorf("%d frames: got %v allocations, want 0", frames, got)
		}
	}
}

// upgradeBatch is how many clients of BenchmarkUpgrade connect at once.
const upgradeBatch = 100

// BenchmarkUpgrade connects, upgrades and resets 100 connections per
// iteration. The CPU is the whole process's, so the clients' system calls are
// in it; BenchmarkAccept is what the same costs without Go's network code and
// without WebSocket.
func BenchmarkUpgrade(b *testing.B) {
	h, clients := mustNobody(b, upgradeBatch)
	benchmarkConnect(b, h.addr, func() {
		for range upgradeBatch {
			<-clients.conns
		}
	}, func() {
		for range upgradeBatch {
			<-clients.closed
		}
	})
}

// BenchmarkAccept is BenchmarkUpgrade against bare system calls.
func BenchmarkAccept(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	file, err := ln.(*net.TCPListener).File()
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	buf := make([]byte, 1024)
	fds := make([]int, 0, upgradeBatch)
	benchmarkConnect(b, ln.Addr().String(), func() {
		for range upgradeBatch {
			fd, _, err := unix.Accept4(int(file.Fd()), unix.SOCK_CLOEXEC)
			if err != nil {
				b.Fatal(err)
			}
			n, _ := unix.Read(fd, buf)
			_, _ = unix.Write(fd, buf[:min(n, 129)])
			fds = append(fds, fd)
		}
	}, func() {
		for _, fd := range fds {
			_, _ = unix.Read(fd, buf)
			_ = unix.Close(fd)
		}
		fds = fds[:0]
	})
}

func benchmarkConnect(b *testing.B, addr string, opened, closed func()) {
	b.Helper()
	request, response := []byte(upgradeRequest+"\r\n"), make([]byte, 1024)
	b.ReportAllocs()
	start, fds := cpu(b, unix.RUSAGE_SELF), make([]int, 0, upgradeBatch)
	for b.Loop() {
		for range upgradeBatch {
			fd := mustRawDial(b, addr)
			if _, err := unix.Write(fd, request); err != nil {
				b.Fatal(err)
			}
			fds = append(fds, fd)
		}
		opened()
		for _, fd := range fds {
			if n, err := unix.Read(fd, response); err != nil || n == 0 {
				b.Fatal(n, err)
			}
			_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			_ = unix.Close(fd)
		}
		closed()
		fds = fds[:0]
	}
	count := float64(b.N) * upgradeBatch
	b.ReportMetric(float64((cpu(b, unix.RUSAGE_SELF)-start).Nanoseconds())/1000/count, "cpu-µs/connection")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/1000/count, "µs/connection")
}

// mustRawDial returns a blocking descriptor: the cheapest client.
func mustRawDial(tb testing.TB, addr string) int {
	tb.Helper()
	tcp, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		tb.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: tcp.Port, Addr: [4]byte(tcp.IP.To4())}); err != nil {
		tb.Fatal(err)
	}
	return fd
}

// nobody is a receiver that keeps nothing.
type nobody struct {
	conns  chan Conn
	closed chan struct{}
}

func (nobody) Message([]byte) func() { return nil }

func (n nobody) Closed(error) { n.closed <- struct{}{} }

// mustNobody starts a server for conns connections that nobody listens to.
func mustNobody(tb testing.TB, conns int) (*host, nobody) {
	tb.Helper()
	n := nobody{conns: make(chan Conn, conns), closed: make(chan struct{}, 2*conns)}
	return mustHost(tb, transport{}, Config{}, func(h *host) {
		h.accept = func(c Conn) Receiver {
			n.conns <- c
			return n
		}
	}), n
}

// BenchmarkIdle holds 5,000 idle connections, whose clients are bare
// descriptors of this process, and reports what one costs.
func BenchmarkIdle(b *testing.B) {
	const count = 5000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Max < 2*count+100 {
		b.Fatalf("needs %d descriptors, limit is %d", 2*count+100, limit.Max)
	}
	server, h := mustNobody(b, count)
	fds := make([]int, 0, count)
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	connect := func() {
		fd := mustRawDial(b, server.addr)
		fds = append(fds, fd)
		mustUpgrade(b, fd)
		<-h.conns
	}
	for range 500 { // pools and stacks
		connect()
	}
	heap, rss := memory(b)
	for range count {
		connect()
	}
	heapAfter, rssAfter := memory(b)
	for b.Loop() { // the result is not a time
	}
	b.ReportMetric(float64(heapAfter-heap)/count, "heap-B/conn")
	b.ReportMetric(float64(rssAfter-rss)/count, "rss-B/conn")
	b.ReportMetric(0, "ns/op")
}

// memory returns live heap and resident set in bytes.
func memory(tb testing.TB) (heap, rss int64) {
	tb.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	f, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		tb.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(f))[1], 10, 64)
	if err != nil {
		tb.Fatal(err)
	}
	return int64(m.HeapAlloc), pages * int64(os.Getpagesize())
}

// BenchmarkReceive has one client write pipelined 100-byte messages.
func BenchmarkReceive(b *testing.B) {
	server, h := mustNobody(b, 1)
	conn := mustDial(b, server)
	conn.send([]byte(upgradeRequest + "\r\n"))
	conn.wantSwitch()
	<-h.conns
	const perWrite = 100
	chunk := []byte(strings.Repeat(string(text(strings.Repeat("m", 100))), perWrite))
	end := append(text("last"), closing(1000, "")...)
	_ = conn.SetDeadline(time.Time{})
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		conn.send(chunk)
	}
	conn.send(end)
	_, _ = io.Copy(io.Discard, conn)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/perWrite, "ns/message")
}
