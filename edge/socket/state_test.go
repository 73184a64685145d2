package socket

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

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
