package socket

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestSocketOptions: they come from the listener, or are set per connection
// for listeners that others made.
func TestSocketOptions(t *testing.T) {
	t.Parallel()
	h := mustHost(t, transport{}, Config{})
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(t.Context(), plain) }()
	for _, addr := range []string{h.addr, plain.Addr().String()} {
		h.addr = addr
		_, p := mustConnect(t, h)
		c, _ := p.Conn.(*epollConn)
		for option, want := range map[int]int{unix.TCP_NOTSENT_LOWAT: notSentLowat, unix.TCP_USER_TIMEOUT: userTimeout, unix.TCP_NODELAY: 1} {
			got, err := unix.GetsockoptInt(c.fd, unix.IPPROTO_TCP, option)
			if err != nil || got != want {
				t.Errorf("option %d: got %d, %v, want %d", option, got, err, want)
			}
		}
	}
	_ = plain.Close()
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
}

// TestChurn has many connections of few pollers come, talk, wait and go in all
// ways at once, so that descriptors and slots are reused all the time. Each
// client gets its own messages back in order, each connection ends once.
func TestChurn(t *testing.T) {
	t.Parallel()
	const workers, rounds, messages = 16, 25, 20
	h := mustHost(t, transport{}, Config{Pollers: 2, WriteTimeout: 100 * time.Millisecond}, func(h *host) {
		h.wait = func(p *peer, m string) func() {
			echo := func() { _ = p.Send([][]byte{Frame([]byte(m)), Frame([]byte("and " + m))}) }
			if len(m)%3 == 0 {
				return echo // from another goroutine
			}
			echo()
			return nil
		}
	})
	var done sync.WaitGroup
	for w := range workers {
		done.Go(func() {
			for r := range rounds {
				talk(t, h, fmt.Sprintf("%d.%d", w, r), messages)
			}
		})
	}
	done.Wait()
	for range workers * rounds {
		p := wantPeer(t, h)
		_ = p.wantClosed(t)
	}
}

func talk(t *testing.T, h *host, name string, messages int) {
	t.Helper()
	c := mustDial(t, h)
	defer c.Close()
	c.send(append([]byte(upgradeRequest+"\r\n"), text(name+" early")...))
	c.wantSwitch()
	want := []string{name + " early", "and " + name + " early"}
	var batch []byte
	for i := range messages {
		m := fmt.Sprintf("%s message %d %0*d", name, i, rand.IntN(3000), 0)
		batch = append(batch, text(m)...)
		want = append(want, m, "and "+m)
	}
	go func() {
		for len(batch) > 0 {
			n := min(len(batch), 1+rand.IntN(8000))
			if _, err := c.Write(batch[:n]); err != nil {
				return
			}
			batch = batch[n:]
		}
	}()
	if rand.IntN(4) == 0 {
		return // in the middle of it
	}
	for _, m := range want {
		c.wantFrame(1, m)
	}
	if rand.IntN(2) == 0 {
		c.send(closing(1000, ""))
		c.wantClose(1000)
	}
}

// TestWaitWithMoreInput has more input come before a wait than is read at once,
// and nothing after it: no event tells of the rest when reading goes on.
func TestWaitWithMoreInput(t *testing.T) {
	t.Parallel()
	const messages = 3 * pollerReadBytes / 1000
	blocked, release := make(chan struct{}), make(chan struct{})
	h := mustHost(t, transport{}, Config{Pollers: 1}, func(h *host) {
		h.wait = func(_ *peer, m string) func() {
			switch m {
			case "block the poller":
				close(blocked)
				<-release
			case "wait":
				return func() {}
			}
			return nil
		}
	})
	blocker, _ := mustConnect(t, h)
	c, p := mustConnect(t, h)
	conn, _ := p.Conn.(*epollConn)
	if err := unix.SetsockoptInt(conn.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20); err != nil {
		t.Fatal(err)
	}
	blocker.send(text("block the poller"))
	<-blocked
	input := text("wait")
	for i := range messages {
		input = append(input, text(fmt.Sprintf("%0*d", 1000, i))...)
	}
	c.send(input)
	poll(t, "the input to arrive", func() bool {
		n, err := unix.IoctlGetInt(conn.fd, unix.SIOCINQ)
		return err == nil && n == len(input)
	})
	close(release)
	p.want(t, "wait")
	for i := range messages {
		p.want(t, fmt.Sprintf("%0*d", 1000, i))
	}
}

// Idle connections are what a server has most of, and 176 bytes is what the allocator
// has a size for.
func TestConnectionSize(t *testing.T) {
	t.Parallel()
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("the size is that of 64 bits")
	}
	if got := unsafe.Sizeof(epollConn{}); got > 176 {
		t.Errorf("a connection is %d bytes, want 176 at most", got)
	}
}
