package node_test

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"reecho/edge/config"
	"reecho/edge/limit"
	"reecho/edge/pusher"
)

// way is how a reader is connected.
type way struct {
	name   string
	tls    bool
	events bool   // an event stream
	path   string // of the WebSocket; "" is the usual one
	replay string // member of the subscription
}

var ways = []way{{name: "ws"}, {name: "wss", tls: true}, {name: "events", events: true}, {name: "events-tls", tls: true, events: true}}

// burstWays adds those who could get it again, and need not.
var burstWays = append(slices.Clip(ways),
	way{name: "session", path: sessionPath("1d2f7a50-6c6e-4f7e-9df0-0000000000a1")}, way{name: "plugin", replay: `,"replay":{}`})

// reader is a client that reads when it is told to.
type reader struct {
	way
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

// read connects to chat and returns when the subscription stands.
func (s *server) read(t testing.TB, w way, addr string) *reader {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if w.tls {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	c := &reader{way: w, t: t, conn: conn, r: bufio.NewReader(conn)}
	_ = conn.SetReadDeadline(time.Now().Add(3 * patience))
	if w.events {
		_, err = fmt.Fprintf(conn, "GET /app/%s/events?channel=chat HTTP/1.1\r\nHost: x\r\n\r\n", key)
		for line := ""; err == nil && !strings.HasPrefix(line, "id: 2~"); {
			line, err = c.r.ReadString('\n')
		}
	} else {
		var early *bufio.Reader
		early, _, err = (ws.Dialer{}).Upgrade(conn, mustURL(t, "ws://"+addr+cmp.Or(w.path, "/app/"+key+goodQuery)))
		if err == nil {
			if early != nil {
				c.r = early
			}
			c.next() // established
			c.send(`{"event":"pusher:subscribe","data":{"channel":"chat"` + w.replay + `}}`)
			c.next()
		}
	}
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	return c
}

func mustURL(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (c *reader) send(text string) {
	if err := ws.WriteFrame(c.conn, ws.MaskFrame(ws.NewTextFrame([]byte(text)))); err != nil {
		c.t.Errorf("write: %v", err)
	}
}

// next returns the next message, "" at the end.
func (c *reader) next() string {
	for c.events {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Errorf("read: %v", err)
			return ""
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			return data
		}
	}
	for {
		f, err := readFrame(c.r)
		switch {
		case err != nil:
			c.t.Errorf("read: %v", err)
			return ""
		case f.Header.OpCode == ws.OpClose:
			code, reason := ws.ParseCloseFrameData(f.Payload)
			c.t.Errorf("closed with %d %q", code, reason)
			return ""
		case f.Header.OpCode == ws.OpText && !strings.Contains(string(f.Payload), `"pusher:ping"`): // of a session
			return string(f.Payload)
		}
	}
}

// wantBurst reads n numbered events.
func (c *reader) wantBurst(n int) {
	c.t.Helper()
	for i := range n {
		if got := c.next(); !strings.Contains(got, fmt.Sprintf(`"%d-`, i)) {
			c.t.Errorf("got %.100q, want event %d of %d", got, i, n)
			return
		}
	}
}

// bigBurst publishes n numbered events of 10 KB to chat as fast as they are taken.
func (s *server) bigBurst(n int) {
	s.t.Helper()
	padding := strings.Repeat("x", 10_000)
	for i := 0; i < n; {
		var batch []pusher.Publish
		for ; len(batch) < 10 && i < n; i++ {
			batch = append(batch, pusher.Publish{Name: "x", Data: fmt.Sprintf("%d-%s", i, padding), Channels: []string{"chat"}})
		}
		if err := s.Hub().Publish(s.t.Context(), s.Hub().Apps().ByID(appID), batch); err != nil {
			s.t.Fatalf("publish: %v", err)
		}
	}
}

// Bytes waiting at an instant are not slowness. With 256 KiB as the limit a
// client got 30 of 100 events that came at once.
func TestBurstToLateReader(t *testing.T) {
	t.Parallel()
	for _, w := range burstWays {
		for _, events := range []int{100, 300} {
			t.Run(fmt.Sprintf("%s/%d", w.name, events), func(t *testing.T) {
				t.Parallel()
				s := startServerWith(t, withTLS(t))
				c := s.read(t, w, s.addr)
				s.bigBurst(events)
				c.wantBurst(events)
			})
		}
	}
}

// One that stops reading is closed when it took nothing for write_timeout, on
// every way in.
func TestStoppedReader(t *testing.T) {
	t.Parallel()
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			s := startServerWith(t, func(c *config.Config) {
				withTLS(t)(c)
				c.Socket.WriteTimeout = time.Second
			})
			s.read(t, w, s.addr)
			s.bigBurst(500)
			demo := s.Hub().Apps().ByID(appID)
			poll(t, "the reader to be given up", func() bool { return s.Hub().Connections(demo) == 0 })
			if n := s.Ledger().Total(limit.WriteTimeout); n != 1 {
				t.Errorf("noted %d times, want 1", n)
			}
		})
	}
}

// All queues together are bounded: with too little memory for everybody who
// does not read, some go and the others get everything.
func TestQueueMemory(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.QueueMemory = 2 << 20 })
	s.read(t, way{}, s.addr)
	fast := s.connect(t)
	fast.subscribe("chat")
	for range 10 {
		s.bigBurst(100)
		for range 100 {
			fast.wantOn("chat", "x")
		}
	}
	demo := s.Hub().Apps().ByID(appID)
	poll(t, "the one that holds most to be closed", func() bool { return s.Ledger().Total(limit.QueueMemory) == 1 })
	fast.wantNothing()
	if n := s.Hub().Connections(demo); n > 2 {
		t.Errorf("%d connections", n)
	}
}

// A burst to many readers behind one slow link takes several write timeouts,
// and each gets all of it.
func TestBurstOverSlowLink(t *testing.T) {
	t.Parallel()
	const readers, events, bytesPerSecond = 150, 30, 60 << 20 / 8
	s := startServerWith(t, func(c *config.Config) { c.Socket.WriteTimeout = 2 * time.Second })
	addr := slowLink(t, s.addr, bytesPerSecond)
	var done sync.WaitGroup
	for range readers {
		c := s.read(t, way{}, addr)
		done.Go(func() { c.wantBurst(events) })
	}
	s.bigBurst(events)
	done.Wait()
}

// Whatever a client asks, and however late it reads, it gets all answers and is
// not closed.
func TestAnswersPressBack(t *testing.T) {
	t.Parallel()
	const questions = 50_000
	for name, question := range map[string]string{
		"ping":      `{"event":"pusher:ping","data":{}}`,
		"nonsense":  `?`,
		"subscribe": `{"event":"pusher:subscribe","data":{"channel":"chat"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			c := s.read(t, way{}, s.addr)
			started := make(chan struct{})
			go func() {
				for i := range questions {
					if c.send(question); t.Failed() {
						return
					}
					if i == questions/10 {
						close(started)
					}
				}
			}()
			<-started
			other := s.connect(t)
			other.send("pusher:ping", "", map[string]any{})
			other.want("pusher:pong")
			for i := range questions {
				if got := c.next(); !strings.Contains(got, "pusher:pong") && !strings.Contains(got, "pusher:error") {
					t.Fatalf("answer %d is %q", i, got)
				}
			}
		})
	}
}

// slowLink is a proxy to addr that passes so many bytes a second from there, of
// all connections together and to each in turn.
func slowLink(t testing.TB, addr string, bytesPerSecond int) string {
	t.Helper()
	const part, period = 4 << 10, 10 * time.Millisecond
	ctx, stop := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tokens := make(chan struct{})
	tasks.Go(func() {
		ticker := time.NewTicker(period)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
			for range max(1, bytesPerSecond/part/int(time.Second/period)) {
				select {
				case tokens <- struct{}{}:
				case <-ctx.Done():
					return
				}
			}
		}
	})
	tasks.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			up, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			if err != nil {
				_ = client.Close()
				continue
			}
			context.AfterFunc(ctx, func() { _, _ = client.Close(), up.Close() })
			_ = up.(*net.TCPConn).SetReadBuffer(4 * part)
			tasks.Go(func() { _, _ = io.Copy(up, client) })
			tasks.Go(func() {
				defer func() { _, _ = client.Close(), up.Close() }()
				buf := make([]byte, part)
				for {
					n, err := up.Read(buf)
					if err != nil {
						return
					}
					select {
					case <-tokens:
					case <-ctx.Done():
						return
					}
					if _, err := client.Write(buf[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		stop()
		_ = ln.Close()
		tasks.Wait()
	})
	return ln.Addr().String()
}
