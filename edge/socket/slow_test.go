package socket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"reecho/edge/limit"
)

// linkOf returns what the transports share.
func linkOf(tb testing.TB, c Conn) *link {
	tb.Helper()
	w, ok := c.(interface{ shared() *link })
	if !ok {
		tb.Fatalf("%T has no link", c)
	}
	return w.shared()
}

func (l *link) shared() *link { return l }

// queued returns how much waits, and when the peer last took something.
func (l *link) queuedSince() (cost int, progress time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out == nil {
		return 0, 0
	}
	return l.out.cost, l.out.progress
}

// fill sends n frames of 10 KB that nobody else gets.
func fill(tb testing.TB, c Conn, n int) {
	tb.Helper()
	for i := range n {
		if err := c.Send([][]byte{Frame(bytes.Repeat([]byte{'a' + byte(i%26)}, 10_000))}); err != nil {
			tb.Fatalf("send %d: %v", i, err)
		}
	}
}

// small makes the client's kernel take little, so that what it reads shows.
func small(tb testing.TB, h *host) (*client, *peer) {
	tb.Helper()
	c, p := mustConnect(tb, h)
	conn := c.Conn
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn()
	}
	if err := conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		tb.Fatal(err)
	}
	return c, p
}

// TestProgressIsNotSlow reads a little in each write timeout, for many of them.
// Bytes that waited, or the age of the oldest, closed such a client.
func TestProgressIsNotSlow(t *testing.T) {
	eachTransport(t, func(t on) {
		const timeout, events = 10 * time.Second, 200
		h := mustHost(t, t.transport, Config{WriteTimeout: timeout})
		c, p := small(t, h)
		fill(t, p, events)
		l := linkOf(t, p.Conn)
		now, steps := time.Now(), 0
		for read := 0; read < events*(10_000+4); steps++ {
			n, err := io.CopyN(io.Discard, c.r, min(100_000, int64(events*(10_000+4)-read)))
			if err != nil {
				t.Fatalf("closed after %d bytes: %v", read, err)
			}
			read += int(n)
			now = now.Add(timeout * 9 / 10)
			poll(t, "the server to see that the client reads", func() bool {
				p.Tick(now)
				cost, progress := l.queuedSince()
				return cost == 0 || progress >= now.Sub(h.epoch)
			})
		}
		if steps < 15 {
			t.Errorf("%d steps, want more than the timeout many times over", steps)
		}
	})
}

// TestStoppedReaderIsToldWhy: one that stopped reading is closed when the
// timeout is over and not before, however much it took until then.
func TestStoppedReaderIsToldWhy(t *testing.T) {
	eachTransport(t, func(t on) {
		const timeout = 10 * time.Second
		ledger := limit.NewLedger(discard)
		c, p := small(t, mustHost(t, t.transport, Config{WriteTimeout: timeout, Ledger: ledger}))
		fill(t, p, 200)
		l := linkOf(t, p.Conn)
		now := time.Now()
		var last time.Duration
		poll(t, "the kernel to be full", func() bool {
			now = now.Add(time.Second)
			p.Tick(now)
			_, progress := l.queuedSince()
			full := progress == last
			last = progress
			return full
		})
		at := l.server.epoch.Add(last + timeout)
		p.Tick(at)
		if l.current() != stateOpen {
			t.Fatal("closed before the timeout was over")
		}
		p.Tick(at.Add(time.Second))
		if l.current() == stateOpen {
			t.Fatal("still open after the timeout")
		}
		_ = c.Close()
		if err := p.wantClosed(t); !errors.Is(err, ErrSlow) {
			t.Fatalf("closed with %v, want ErrSlow", err)
		}
		if n := ledger.Total(limit.WriteTimeout); n != 1 {
			t.Errorf("noted %d times, want 1", n)
		}
	})
}

// TestSharedFramesAreNotHeldAlone: what waits for two counts for neither until
// the other lets go of it.
func TestSharedFramesAreNotHeldAlone(t *testing.T) {
	eachTransport(t, func(t on) {
		ledger := limit.NewLedger(discard)
		h := mustHost(t, t.transport, Config{MaxQueuedBytes: 2 << 20, Ledger: ledger})
		_, a := small(t, h)
		other, b := small(t, h)
		for range 60 {
			frames := [][]byte{Frame([]byte(strings.Repeat("x", 100_000)))}
			if err := errors.Join(a.Send(frames), b.Send(frames)); err != nil {
				t.Fatalf("send: %v", err)
			}
		}
		if held := h.cfg.Budget.Held(); held > 7<<20 {
			t.Errorf("%d bytes are held, want those of one", held)
		}
		a.Tick(time.Now())
		if linkOf(t, a.Conn).current() != stateOpen {
			t.Fatal("closed for what others hold as well")
		}
		_ = other.Close()
		_ = b.wantClosed(t)
		a.Tick(time.Now())
		if linkOf(t, a.Conn).current() == stateOpen {
			t.Fatal("open although it holds too much alone")
		}
		if n := ledger.Total(limit.QueuedBytes); n != 1 {
			t.Errorf("noted %d times, want 1", n)
		}
	})
}

// TestBudgetClosesTheLargest: of those that wait, who holds most alone goes,
// and those who share a burst stay.
func TestBudgetClosesTheLargest(t *testing.T) {
	eachTransport(t, func(t on) {
		ledger := limit.NewLedger(discard)
		budget := NewBudget(8<<20, ledger)
		h := mustHost(t, t.transport, Config{Budget: budget, MaxQueuedBytes: 64 << 20, Ledger: ledger})
		var crowd []*peer
		for range 20 {
			_, p := small(t, h)
			crowd = append(crowd, p)
		}
		_, hog := small(t, h)
		for range 40 {
			frames := [][]byte{Frame([]byte(strings.Repeat("x", 100_000)))}
			for _, p := range crowd {
				if err := p.Send(frames); err != nil {
					t.Fatalf("send to the crowd: %v", err)
				}
			}
			_ = hog.Send([][]byte{Frame([]byte(strings.Repeat("y", 200_000)))})
		}
		if linkOf(t, hog.Conn).current() == stateOpen {
			t.Error("the largest is still open")
		}
		for i, p := range crowd {
			if linkOf(t, p.Conn).current() != stateOpen {
				t.Errorf("%d of the crowd was closed", i)
			}
		}
		if held := budget.Held(); held > 8<<20 {
			t.Errorf("%d bytes are held, limit 8 MiB", held)
		}
		if n := ledger.Total(limit.QueueMemory); n != 1 {
			t.Errorf("noted %d times, want 1", n)
		}
	})
}

// TestAnswersPressBack: a client that pings and does not read is not read any
// more, gets every pong once it reads, and is not closed for it.
func TestAnswersPressBack(t *testing.T) {
	eachTransport(t, func(t on) {
		const pings = 1_000_000
		h := mustHost(t, t.transport, Config{Pollers: 1})
		c, p := mustConnect(t, h)
		other, otherPeer := mustConnect(t, h)
		_ = c.SetDeadline(time.Now().Add(6 * patience)) // a million, with the race detector
		sent := make(chan error, 1)
		go func() {
			var batch []byte
			for i := range pings {
				if batch = append(batch, masked(0x89, fmt.Sprint(i))...); len(batch) > 32<<10 || i == pings-1 {
					if _, err := c.Write(batch); err != nil {
						sent <- err
						return
					}
					batch = batch[:0]
				}
			}
			sent <- nil
		}()
		l := linkOf(t, p.Conn)
		poll(t, "the server to stop reading", func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.pressed
		})
		if idle := p.Tick(time.Now().Add(5 * time.Second)); idle != 0 {
			t.Errorf("idle for %s while it is not read", idle)
		}
		other.send(text("not held up"))
		otherPeer.want(t, "not held up")
		held := 0
		for i := range pings {
			if i%1000 == 0 {
				cost, _ := l.queuedSince()
				held = max(held, cost)
			}
			if f, err := readFrame(c.r); err != nil || string(f.Payload) != fmt.Sprint(i) {
				t.Fatalf("pong %d is %q, %v", i, f.Payload, err)
			}
		}
		if held > 512<<10 {
			t.Errorf("%d bytes were held", held)
		}
		if err := <-sent; err != nil {
			t.Errorf("send: %v", err)
		}
		c.send(text("still here"))
		p.want(t, "still here")
	})
}

// TestOwedAnswersPressBack: answers that are on their way count before they
// are here.
func TestOwedAnswersPressBack(t *testing.T) {
	eachTransport(t, func(t on) {
		const messages = 3000
		answer := Frame([]byte(strings.Repeat("a", 100)))
		h := mustHost(t, t.transport, Config{}, func(h *host) {
			h.wait = func(p *peer, _ string) func() {
				p.Owe(1, len(answer))
				return nil
			}
		})
		c, p := mustConnect(t, h)
		go func() { _, _ = c.Write(bytes.Repeat(text("a question"), messages)) }()
		l, got, stops := linkOf(t, p.Conn), 0, 0
		for got < messages {
			poll(t, "the server to stop reading", func() bool {
				l.mu.Lock()
				defer l.mu.Unlock()
				return l.pressed && len(p.messages) > 0 || len(p.messages)+got == messages
			})
			stops++
			for n := len(p.messages); n > 0; n-- {
				<-p.messages
				got++
				if err := p.Answer([][]byte{answer}); err != nil {
					t.Fatal(err)
				}
				c.wantFrame(1, strings.Repeat("a", 100))
			}
		}
		if stops < 3 {
			t.Errorf("the server stopped reading %d times", stops-1)
		}
		// The client may have the last one before the writer is told so.
		poll(t, "all answers to be gone", func() bool { return l.own.Load() == 0 })
	})
}

// TestFanOutDoesNotPressBack: a client on a slow link is heard, its pongs
// above all.
func TestFanOutDoesNotPressBack(t *testing.T) {
	eachTransport(t, func(t on) {
		c, p := small(t, mustHost(t, t.transport, Config{}))
		fill(t, p, 200)
		c.send(text("heard"))
		p.want(t, "heard")
	})
}

// TestPingWaitsBehindTheQueue: a client that takes what waits is not silent,
// for what it is asked waits behind that.
func TestPingWaitsBehindTheQueue(t *testing.T) {
	eachTransport(t, func(t on) {
		c, p := small(t, mustHost(t, t.transport, Config{WriteTimeout: time.Hour}))
		fill(t, p, 100)
		now := time.Now()
		for range 5 {
			_, _ = io.CopyN(io.Discard, c.r, 100_000)
			now = now.Add(time.Minute)
			poll(t, "the client to be alive", func() bool { return p.Tick(now) < time.Second })
		}
	})
}
