package socket

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

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
				wantViolation(t, c, p, tc.frames, tc.code)
			})
		})
	}
}

// wantViolation sends frames that close the connection with a code: the ping before is
// answered, what comes after is not.
func wantViolation(t testing.TB, c *client, p *peer, frames []byte, code int) {
	t.Helper()
	c.send(append(append(masked(0x89, "before"), frames...), text("after")...))
	c.wantFrame(ws.OpPong, "before")
	c.wantClose(code)
	c.wantEnd()
	_ = c.Close()
	wantCode(t, p.wantClosed(t), code, false)
	if len(p.messages) != 0 {
		t.Fatalf("got message %q", <-p.messages)
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
