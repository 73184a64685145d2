package socket

import (
	"errors"
	"fmt"
	"io"
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
