package socket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

func TestMessagesBothWays(t *testing.T) {
	eachTransport(t, func(t on) {
		c, p := mustConnect(t, mustHost(t, t.transport, Config{}))
		want := Request{
			Path: "/app/key", RawQuery: "protocol=7", Host: "localhost", Origin: "https://example.com",
			UserAgent: "test", TLS: t.tls, Secure: t.tls, Remote: p.Remote(), Client: p.Remote().Addr(),
		}
		p.request.Header = nil
		if got := fmt.Sprint(p.request); got != fmt.Sprint(want) {
			t.Errorf("got request %v, want %v", got, want)
		}
		if p.header != "yes" || p.Remote().String() != c.LocalAddr().String() {
			t.Errorf("got header %q and remote %v, want yes and %v", p.header, p.Remote(), c.LocalAddr())
		}
		for _, m := range []string{"", "alice", strings.Repeat("ä", 100), strings.Repeat("x", 70_000)} {
			c.send(text(m))
			p.want(t, m)
			if err := p.Send([][]byte{Frame([]byte(m)), Frame([]byte("second"))}); err != nil {
				t.Fatalf("send: %v", err)
			}
			c.wantFrame(ws.OpText, m)
			c.wantFrame(ws.OpText, "second")
		}
		c.send(masked(0x82, "\x00\xff"))
		p.want(t, "(binary)")
	})
}

func TestFramesByteByByte(t *testing.T) {
	eachTransport(t, func(t on) {
		c, p := mustConnect(t, mustHost(t, t.transport, Config{}))
		stream := append(text("first"), masked(0x01, "frag")...)
		stream = append(stream, masked(0x89, "ping")...)
		stream = append(stream, masked(0x80, "mented \xe2\x82\xac")...)
		stream = append(stream, text(strings.Repeat("long", 100))...)
		for i := range stream {
			c.send(stream[i : i+1])
		}
		p.want(t, "first")
		p.want(t, "fragmented €")
		p.want(t, strings.Repeat("long", 100))
		c.wantFrame(ws.OpPong, "ping")
	})
}

func TestPipelinedBehindHandshake(t *testing.T) {
	eachTransport(t, func(t on) {
		h := mustHost(t, t.transport, Config{})
		c := mustDial(t, h)
		long := text(strings.Repeat("y", 3000))
		c.send(append(append([]byte(upgradeRequest+"\r\n"), text("early")...), long[:1000]...))
		c.wantSwitch()
		p := wantPeer(t, h)
		p.want(t, "early")
		c.send(long[1000:])
		p.want(t, strings.Repeat("y", 3000))
	})
}

func TestPingFlood(t *testing.T) {
	eachTransport(t, func(t on) {
		c, p := mustConnect(t, mustHost(t, t.transport, Config{MaxQueuedBytes: 32 << 10, WriteTimeout: time.Second}))
		// Nobody reads the pongs.
		flood := []byte(strings.Repeat(string(masked(0x89, strings.Repeat("p", 125))), 100))
		go func() {
			for {
				if _, err := c.Write(flood); err != nil {
					return
				}
			}
		}()
		if err := p.wantClosed(t); !errors.Is(err, ErrSlow) {
			t.Fatalf("closed with %v, want ErrSlow", err)
		}
	})
}

func TestCloseByPeer(t *testing.T) {
	for _, tc := range []struct {
		name  string
		frame []byte
		code  int
	}{
		{"normal", closing(1000, "bye"), 1000},
		{"empty", masked(0x88, ""), codeNoStatus},
		{"application", closing(4999, ""), 4999},
	} {
		t.Run(tc.name, func(t *testing.T) {
			eachTransport(t, func(t on) {
				c, p := mustConnect(t, mustHost(t, t.transport, Config{}))
				c.send(tc.frame)
				c.wantClose(tc.code)
				c.wantEnd()
				wantCode(t, p.wantClosed(t), tc.code, true)
			})
		})
	}
}

func TestCloseByServer(t *testing.T) {
	eachTransport(t, func(t on) {
		c, p := mustConnect(t, mustHost(t, t.transport, Config{}))
		_ = p.Send([][]byte{Frame([]byte("last"))})
		p.Close(4200, strings.Repeat("ü", 100))
		p.Close(4000, "too late")
		if err := p.Send([][]byte{Frame([]byte("too late"))}); !errors.Is(err, ErrClosed) {
			t.Fatalf("send after close: got %v, want ErrClosed", err)
		}
		c.wantFrame(ws.OpText, "last")
		c.wantFrame(ws.OpClose, "\x10\x68"+strings.Repeat("ü", 61))
		c.send(text("ignored"))
		c.send(closing(4200, ""))
		c.wantEnd()
		wantCode(t, p.wantClosed(t), 4200, false)
		if len(p.messages) != 0 {
			t.Fatalf("got message %q after close", <-p.messages)
		}
	})
}

func TestCloseUnanswered(t *testing.T) {
	eachTransport(t, func(t on) {
		c, p := mustConnect(t, mustHost(t, t.transport, Config{WriteTimeout: 50 * time.Millisecond}))
		p.Close(4200, "")
		wantCode(t, p.wantClosed(t), 4200, false)
		c.wantClose(4200)
	})
}

func TestLost(t *testing.T) {
	eachTransport(t, func(t on) {
		h := mustHost(t, t.transport, Config{})
		c, p := mustConnect(t, h)
		_ = c.Close()
		if err := p.wantClosed(t); !errors.Is(err, ErrLost) {
			t.Fatalf("closed with %v, want ErrLost", err)
		}
		c, p = mustConnect(t, h)
		c.send(text("last words"))
		half, _ := c.Conn.(interface{ CloseWrite() error })
		if err := half.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		p.want(t, "last words")
		if err := p.wantClosed(t); !errors.Is(err, ErrLost) {
			t.Fatalf("closed with %v, want ErrLost", err)
		}
	})
}

func TestHostileFrames(t *testing.T) {
	const limit = 1000
	for _, tc := range []struct {
		name   string
		frames []byte
		code   int
	}{
		{"unmasked", []byte{0x81, 1, 'x'}, 1002},
		{"reserved bit", masked(0xc1, "x"), 1002},
		{"reserved data opcode", masked(0x83, "x"), 1002},
		{"reserved control opcode", masked(0x8b, "x"), 1002},
		{"continuation of nothing", masked(0x80, "x"), 1002},
		{"text within fragments", append(masked(0x01, "x"), text("y")...), 1002},
		{"fragmented ping", masked(0x09, "x"), 1002},
		{"long ping", masked(0x89, strings.Repeat("x", 126)), 1002},
		{"16 bit length below 126", []byte{0x81, 0x80 | 126, 0, 125, 1, 2, 3, 4}, 1002},
		{"64 bit length below 65536", []byte{0x81, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4}, 1002},
		{"negative length", []byte{0x81, 0x80 | 127, 0x80, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4}, 1002},
		{"huge", []byte{0x81, 0x80 | 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, 1009},
		{"too big", text(strings.Repeat("x", limit+1)), 1009},
		{"too big in fragments", append(masked(0x01, strings.Repeat("x", limit)), masked(0x80, "x")...), 1009},
		{"endless fragments", append(masked(0x01, ""), []byte(strings.Repeat(string(masked(0, "")), maxFragments))...), 1008},
		{"bad UTF-8", text("\xc3\x28"), 1007},
		{"bad UTF-8 over fragments", append(masked(0x01, "\xe2\x82"), masked(0x80, "x")...), 1007},
		{"surrogate", text("\xed\xa0\x80"), 1007},
		{"close code cut off", masked(0x88, "\x03"), 1002},
		{"close 999", closing(999, ""), 1002},
		{"close 1004", closing(1004, ""), 1002},
		{"close 1005", closing(1005, ""), 1002},
		{"close 1006", closing(1006, ""), 1002},
		{"close 1016", closing(1016, ""), 1002},
		{"close 5000", closing(5000, ""), 1002},
		{"close reason not UTF-8", closing(1000, "\xff"), 1007},
	} {
		t.Run(tc.name, func(t *testing.T) {
			eachTransport(t, func(t on) {
				c, p := mustConnect(t, mustHost(t, t.transport, Config{MaxMessageBytes: limit}))
				// The ping before is answered, what comes after is not.
				c.send(append(append(masked(0x89, "before"), tc.frames...), text("after")...))
				c.wantFrame(ws.OpPong, "before")
				c.wantClose(tc.code)
				c.wantEnd()
				_ = c.Close()
				wantCode(t, p.wantClosed(t), tc.code, false)
				if len(p.messages) != 0 {
					t.Fatalf("got message %q", <-p.messages)
				}
			})
		})
	}
}

func TestSlowMessage(t *testing.T) {
	eachTransport(t, func(t on) {
		c, p := mustConnect(t, mustHost(t, t.transport, Config{MessageTimeout: 20 * time.Millisecond}))
		frame := text("slowly")
		c.send(frame[:3])
		ended := make(chan error, 1)
		go func() { ended <- p.wantClosed(t) }()
		c.wantClose(codePolicy)
		_ = c.Close()
		wantCode(t, <-ended, codePolicy, false)
	})
}

// TestSlowReader fills one connection's queue while another one of the same
// server is served.
func TestSlowReader(t *testing.T) {
	eachTransport(t, func(t on) {
		h := mustHost(t, t.transport, Config{Pollers: 1})
		slow, slowPeer := mustConnect(t, h)
		fast, fastPeer := mustConnect(t, h)
		var err error
		for err == nil {
			err = slowPeer.Send([][]byte{Frame([]byte(strings.Repeat("z", 60_000)))})
			if err := fastPeer.Send([][]byte{Frame([]byte("tick"))}); err != nil {
				t.Fatalf("send to the fast one: %v", err)
			}
			fast.wantFrame(ws.OpText, "tick")
		}
		if !errors.Is(err, ErrSlow) {
			t.Fatalf("send to the slow one: got %v, want ErrSlow", err)
		}
		fast.send(text("still here"))
		fastPeer.want(t, "still here")
		// One that reads after all sees why, behind whole frames.
		slow.wantClose(codeOverCapacity)
		slow.send(closing(codeOverCapacity, ""))
		slow.wantEnd()
		if err := slowPeer.wantClosed(t); !errors.Is(err, ErrSlow) {
			t.Fatalf("closed with %v, want ErrSlow", err)
		}
	})
}

// TestStalledReader never reads: the connection is cut when the time is up.
func TestStalledReader(t *testing.T) {
	eachTransport(t, func(t on) {
		c, p := mustConnect(t, mustHost(t, t.transport, Config{WriteTimeout: 100 * time.Millisecond, MaxQueuedBytes: 1 << 30}))
		big := [][]byte{Frame([]byte(strings.Repeat("z", 8<<20)))}
		if err := p.Send(big); err != nil {
			t.Fatalf("send: %v", err)
		}
		if err := p.wantClosed(t); !errors.Is(err, ErrSlow) {
			t.Fatalf("closed with %v, want ErrSlow", err)
		}
		_, err := io.Copy(io.Discard, c)
		if err == nil && !t.tls {
			t.Fatal("got a clean end, want a reset")
		}
	})
}

// TestQueueKeepsOrder sends more than the kernel takes to a reader that comes
// late.
func TestQueueKeepsOrder(t *testing.T) {
	eachTransport(t, func(t on) {
		c, p := mustConnect(t, mustHost(t, t.transport, Config{MaxQueuedBytes: 64 << 20}))
		const rounds, perRound = 100, 70
		padding := strings.Repeat("-", 1000)
		for i := range rounds {
			frames := make([][]byte, perRound)
			for j := range frames {
				frames[j] = Frame(fmt.Appendf(nil, "%d.%d%s", i, j, padding))
			}
			if err := p.Send(frames); err != nil {
				t.Fatalf("send: %v", err)
			}
		}
		p.Close(4200, "done")
		for i := range rounds {
			for j := range perRound {
				c.wantFrame(ws.OpText, fmt.Sprintf("%d.%d%s", i, j, padding))
			}
		}
		c.wantClose(4200)
		c.send(closing(4200, ""))
		wantCode(t, p.wantClosed(t), 4200, false)
	})
}

// TestWaitPausesOneConnection blocks one connection in a wait while others of
// the same poller go on; its own messages come after the wait, in order.
func TestWaitPausesOneConnection(t *testing.T) {
	eachTransport(t, func(t on) {
		release := make(chan struct{})
		h := mustHost(t, t.transport, Config{Pollers: 1}, func(h *host) {
			h.wait = func(_ *peer, m string) func() {
				if m != "wait" {
					return nil
				}
				return func() { <-release }
			}
		})
		c, p := mustConnect(t, h)
		other, otherPeer := mustConnect(t, h)
		c.send(append(text("wait"), text("kept 1")...))
		p.want(t, "wait")
		c.send(append(text("kept 2"), text("wait")...))
		c.send(text("kept 3"))
		other.send(text("not held up"))
		otherPeer.want(t, "not held up")
		if len(p.messages) != 0 {
			t.Fatalf("got %q during the wait", <-p.messages)
		}
		if err := p.Send([][]byte{Frame([]byte("out"))}); err != nil {
			t.Fatalf("send during the wait: %v", err)
		}
		c.wantFrame(ws.OpText, "out")
		close(release)
		for _, m := range []string{"kept 1", "kept 2", "wait", "kept 3"} {
			p.want(t, m)
		}
	})
}

// TestWaitsLoseNothing has a wait behind every message of more than a buffer
// holds: what was in the kernel before the pause is read after it, though
// nothing new comes to tell of it.
func TestWaitsLoseNothing(t *testing.T) {
	eachTransport(t, func(t on) {
		h := mustHost(t, t.transport, Config{Pollers: 1}, func(h *host) {
			h.wait = func(*peer, string) func() { return func() {} }
		})
		c, p := mustConnect(t, h)
		const messages = 100
		var all []byte
		for i := range messages {
			all = append(all, text(fmt.Sprintf("%d%s", i, strings.Repeat(".", 20<<10)))...)
		}
		c.send(all)
		for i := range messages {
			select {
			case m := <-p.messages:
				if number, _, _ := strings.Cut(m, "."); number != strconv.Itoa(i) {
					t.Fatalf("got message %s, want %d", number, i)
				}
			case <-time.After(patience):
				t.Fatalf("message %d did not come", i)
			}
		}
	})
}

// TestEndDuringWait loses the connection while a wait runs: Closed comes after
// the wait.
func TestEndDuringWait(t *testing.T) {
	for _, how := range []string{"peer", "abort"} {
		t.Run(how, func(t *testing.T) {
			eachTransport(t, func(t on) {
				waiting, release := make(chan struct{}), make(chan struct{})
				h := mustHost(t, t.transport, Config{WriteTimeout: time.Millisecond}, func(h *host) {
					h.wait = func(*peer, string) func() {
						return func() {
							close(waiting)
							<-release
						}
					}
				})
				c, p := mustConnect(t, h)
				c.send(text("wait"))
				<-waiting
				if how == "peer" {
					_ = c.Close()
				} else {
					p.Close(4200, "")
					p.Tick(time.Now().Add(time.Hour))
				}
				select {
				case err := <-p.closed:
					t.Fatalf("closed with %v during the wait", err)
				default:
				}
				close(release)
				if err := p.wantClosed(t); how == "peer" && !errors.Is(err, ErrLost) {
					t.Fatalf("closed with %v, want ErrLost", err)
				}
			})
		})
	}
}

func TestCloseWithinOpen(t *testing.T) {
	eachTransport(t, func(t on) {
		h := mustHost(t, t.transport, Config{}, func(h *host) {
			h.open = func(p *peer) {
				_ = p.Send([][]byte{Frame([]byte("hello"))})
				p.Close(4001, "no such app")
			}
		})
		c, p := mustConnect(t, h)
		c.wantFrame(ws.OpText, "hello")
		c.wantClose(4001)
		c.send(closing(4001, ""))
		c.wantEnd()
		wantCode(t, p.wantClosed(t), 4001, false)
	})
}

func TestPingAndIdle(t *testing.T) {
	eachTransport(t, func(t on) {
		c, p := mustConnect(t, mustHost(t, t.transport, Config{}))
		later := time.Now().Add(time.Minute)
		if idle := p.Tick(later); idle < 30*time.Second {
			t.Fatalf("got idle %v, want about a minute", idle)
		}
		p.Ping()
		c.wantFrame(ws.OpPing, "")
		c.send(append(masked(0x8a, ""), text("x")...))
		p.want(t, "x")
		if idle := p.Tick(time.Now()); idle > 10*time.Second {
			t.Fatalf("got idle %v after a pong", idle)
		}
	})
}

func TestShutdownCutsWhatIsLeft(t *testing.T) {
	eachTransport(t, func(t on) {
		h := mustHost(t, t.transport, Config{})
		c, p := mustConnect(t, h)
		mustDial(t, h) // never says anything
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := h.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want deadline exceeded", err)
		}
		if err := p.wantClosed(t); !errors.Is(err, ErrShutdown) {
			t.Fatalf("closed with %v, want ErrShutdown", err)
		}
		if _, err := io.Copy(io.Discard, c); err == nil && !t.tls {
			t.Fatal("got a clean end, want a reset")
		}
		if conn, err := net.Dial("tcp", h.addr); err == nil {
			_ = conn.Close()
			t.Fatal("server still accepts connections")
		}
	})
}
