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

// sink connects n clients that read and forget everything, and returns the
// server's sides.
func sink(tb testing.TB, h *host, n int) []*peer {
	tb.Helper()
	peers := make([]*peer, n)
	for i := range peers {
		c, p := mustConnect(tb, h)
		_ = c.SetDeadline(time.Time{})
		peers[i] = p
		go func() {
			buf := make([]byte, 256<<10)
			for {
				if _, err := c.Conn.Read(buf); err != nil {
					return
				}
			}
		}()
	}
	return peers
}

// drained waits until nothing is queued for p.
func drained(p *peer) {
	c, _ := p.Conn.(*epollConn)
	for {
		c.mu.Lock()
		empty := c.out == nil
		c.mu.Unlock()
		if empty {
			return
		}
		runtime.Gosched()
	}
}

func cpu(tb testing.TB, who int) time.Duration {
	tb.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(who, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSend writes 200-byte events to 16 reading clients, one Send each in
// turn. cpu-ns/frame is the writing thread's, with the part of the loopback
// that runs on it.
func BenchmarkSend(b *testing.B) {
	for _, frames := range []int{1, 8, 60} {
		b.Run(fmt.Sprintf("frames=%d", frames), func(b *testing.B) {
			peers := sink(b, mustHost(b, transport{}, Config{MaxQueuedBytes: 1 << 30}), 16)
			batch := make([][]byte, frames)
			for i := range batch {
				batch[i] = Frame([]byte(strings.Repeat("x", 200)))
			}
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			b.ReportAllocs()
			start, i := cpu(b, unix.RUSAGE_THREAD), 0
			for b.Loop() {
				if err := peers[i%len(peers)].Send(batch); err != nil {
					b.Fatal(err)
				}
				i++
			}
			for _, p := range peers {
				drained(p)
			}
			total := float64(i * frames)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/total, "ns/frame")
			b.ReportMetric(float64((cpu(b, unix.RUSAGE_THREAD)-start).Nanoseconds())/total, "cpu-ns/frame")
		})
	}
}

// TestSendAllocatesNothing is the promise of Conn.Send for what the kernel
// takes at once.
func TestSendAllocatesNothing(t *testing.T) {
	p := sink(t, mustHost(t, transport{}, Config{}), 1)[0]
	for _, frames := range []int{1, 8, 60, 130} {
		batch := make([][]byte, frames)
		for i := range batch {
			batch[i] = Frame([]byte("goal"))
		}
		got := testing.AllocsPerRun(100, func() {
			drained(p)
			if err := p.Send(batch); err != nil {
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

func (nobody) Serves(string) bool { return true }

func (n nobody) Open(c Conn, _ *Request) Receiver {
	n.conns <- c
	return n
}

func (nobody) Message([]byte) func() { return nil }

func (n nobody) Closed(error) { n.closed <- struct{}{} }

// mustNobody starts a server for conns connections that nobody listens to.
func mustNobody(tb testing.TB, conns int) (*host, nobody) {
	tb.Helper()
	n := nobody{conns: make(chan Conn, conns), closed: make(chan struct{}, 2*conns)}
	h := mustHost(tb, transport{}, Config{})
	h.Server.acceptor = n
	return h, n
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
	request, response := []byte(upgradeRequest+"\r\n"), make([]byte, 1024)
	connect := func() {
		fd := mustRawDial(b, server.addr)
		fds = append(fds, fd)
		if _, err := unix.Write(fd, request); err != nil {
			b.Fatal(err)
		}
		if n, err := unix.Read(fd, response); err != nil || n == 0 {
			b.Fatal(n, err)
		}
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
	return int64(m.HeapAlloc), pages * int64(os.Getpagesize()) //nolint:gosec // a size
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
