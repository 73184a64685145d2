package socket

import (
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// waiter is a receiver whose every message makes it wait until its connection is
// gone.
type waiter struct {
	conn    Conn
	waiting chan struct{}
	once    sync.Once
	hungUp  chan struct{} // closed by HungUp
	closed  chan error
}

var _ HangupReceiver = (*waiter)(nil)

func (w *waiter) Message([]byte) func() {
	return func() {
		w.waiting <- struct{}{}
		<-w.hungUp
	}
}

func (w *waiter) HungUp() { w.once.Do(func() { close(w.hungUp) }) }

func (w *waiter) Closed(err error) { w.closed <- err }

func (c *client) tcp() *net.TCPConn {
	raw := c.Conn
	if over, ok := raw.(interface{ NetConn() net.Conn }); ok {
		raw = over.NetConn()
	}
	return raw.(*net.TCPConn)
}

// A wait learns of the end of its connection, however that ends, whatever was
// sent before and is not read yet.
func TestHungUpDuringWait(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the end is noticed on Linux only")
	}
	for name, leave := range map[string]func(*testing.T, *client){
		"closed":      func(_ *testing.T, c *client) { _ = c.Close() },
		"half closed": func(_ *testing.T, c *client) { _ = c.tcp().CloseWrite() },
		"reset": func(_ *testing.T, c *client) {
			_ = c.tcp().SetLinger(0)
			_ = c.tcp().Close()
		},
		"after more": func(_ *testing.T, c *client) {
			c.send(text(strings.Repeat("x", 3000)))
			_ = c.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachTransport(t, func(t on) {
				waiters := make(chan *waiter, 1)
				h := mustHost(t, t.transport, Config{}, func(h *host) {
					h.accept = func(c Conn) Receiver {
						w := &waiter{conn: c, waiting: make(chan struct{}, 100), hungUp: make(chan struct{}), closed: make(chan error, 1)}
						waiters <- w
						return w
					}
				})
				c := mustDial(t, h)
				c.send(append([]byte(upgradeRequest+"\r\n"), text("behind the handshake")...))
				c.wantSwitch()
				w := <-waiters
				<-w.waiting
				leave(t.T, c)
				w.wantClosed(t)
			})
		})
	}
}

// The same when the end comes with the message that makes it wait.
func TestHungUpAtOnce(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the end is noticed on Linux only")
	}
	eachTransport(t, func(t on) {
		waiters := make(chan *waiter, 100)
		h := mustHost(t, t.transport, Config{}, func(h *host) {
			h.accept = func(c Conn) Receiver {
				w := &waiter{conn: c, waiting: make(chan struct{}, 100), hungUp: make(chan struct{}), closed: make(chan error, 1)}
				waiters <- w
				return w
			}
		})
		for range 50 {
			c := mustDial(t, h)
			c.send([]byte(upgradeRequest + "\r\n"))
			c.wantSwitch()
			c.send(text("wait"))
			_ = c.Close()
			(<-waiters).wantClosed(t)
		}
	})
}

// The same when it is our side that ended it, before the wait began.
func TestHungUpBeforeWait(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the end is noticed on Linux only")
	}
	eachTransport(t, func(t on) {
		waiters := make(chan *waiter, 1)
		h := mustHost(t, t.transport, Config{}, func(h *host) {
			h.accept = func(c Conn) Receiver {
				w := &waiter{conn: c, waiting: make(chan struct{}, 100), hungUp: make(chan struct{}), closed: make(chan error, 1)}
				waiters <- w
				return &aborting{w}
			}
		})
		for _, together := range []bool{true, false} {
			c := mustDial(t, h)
			if together {
				c.send(append([]byte(upgradeRequest+"\r\n"), text("wait")...))
			} else {
				c.send([]byte(upgradeRequest + "\r\n"))
				c.wantSwitch()
				c.send(text("wait"))
			}
			(<-waiters).wantClosed(t)
		}
	})
}

// aborting is a waiter whose connection is cut before it waits.
type aborting struct{ *waiter }

func (a *aborting) Message(payload []byte) func() {
	a.conn.(interface{ abort(why error) }).abort(ErrShutdown)
	return a.waiter.Message(payload)
}

// wantClosed ticks the connection, as its owner does, until it is closed.
func (w *waiter) wantClosed(t on) {
	t.Helper()
	t.Cleanup(w.HungUp)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	late := time.After(patience)
	for {
		select {
		case <-w.closed:
			return
		case now := <-ticker.C:
			w.conn.Tick(now)
		case <-late:
			t.Fatal("the wait does not end with its connection")
		}
	}
}

// What came together with a message that makes wait is not forgotten, however
// much it is.
func TestMuchBehindWait(t *testing.T) {
	eachTransport(t, func(t on) {
		release := make(chan struct{})
		h := mustHost(t, t.transport, Config{}, func(h *host) {
			h.wait = func(_ *peer, m string) func() {
				if m != "wait" {
					return nil
				}
				return func() { <-release }
			}
		})
		c, p := mustConnect(t, h)
		long := strings.Repeat("x", 60_000)
		c.send(append(append(text("wait"), text(long)...), append(text(long), text("end")...)...))
		p.want(t, "wait")
		close(release)
		p.want(t, long)
		p.want(t, long)
		p.want(t, "end")
		c.send(closing(int(ws.StatusNormalClosure), ""))
		_ = p.wantClosed(t)
	})
}
