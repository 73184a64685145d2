package node_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"reecho/edge/app"
	"reecho/edge/config"
)

// B-23, B-24, B-28, B-29: pings of the protocol.
func TestProtocolPings(t *testing.T) {
	t.Parallel()
	c := startServer(t).connect(t)
	for _, ping := range []string{`{"event":"pusher:ping","data":{}}`, `{"event":"pusher:ping"}`, `{"event":"pusher:ping","data":"{}"}`} {
		c.sendText(ping)
		if f := c.want("pusher:pong"); f.raw != `{"event":"pusher:pong","data":"{}"}` {
			t.Errorf("%s: got %s", ping, f.raw)
		}
	}
	c.sendText(`{"event":"pusher:pong","data":{}}`)
	c.wantNothing()
}

// B-25: pings of WebSocket.
func TestWebSocketPings(t *testing.T) {
	t.Parallel()
	c := startServer(t).connect(t)
	if err := c.write(ws.NewPingFrame([]byte("payload"))); err != nil {
		t.Fatal(err)
	}
	select {
	case payload := <-c.pongs:
		if payload != "payload" {
			t.Errorf("pong carries %q", payload)
		}
	case <-time.After(patience):
		t.Fatal("no pong")
	}
}

// B-26, B-27: whoever answers pings stays, whoever does not is closed with
// 4201. Time is shortened: the activity timeout is a second.
func TestLiveness(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.Edge.PongTimeout = 2 * time.Second },
		demoApp(func(a *app.App) { a.ActivityTimeout = time.Second }))
	alive, dead := s.connect(t), s.connect(t)
	dead.mute.Store(true)
	for range 4 {
		select {
		case <-alive.pings:
		case <-time.After(patience):
			t.Fatal("no ping")
		}
	}
	alive.wantNothing()
	dead.wantClose(4201)
	alive.wantNothing()
}

// A client that only listens is pinged long before the activity timeout, which
// is announced as ever; 0 leaves it in peace.
func TestSilenceTowardsClients(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.Edge.PingInterval = time.Second })
	c := s.dial(t, "/app/"+key+goodQuery)
	if f := c.established(); !strings.Contains(f.raw, `\"activity_timeout\":120`) {
		t.Errorf("got %s", f.raw)
	}
	quiet := startServerWith(t, func(c *config.Config) { c.Edge.PingInterval = 0 }).connect(t)
	for range 3 {
		select {
		case <-c.pings:
		case <-time.After(patience):
			t.Fatal("no ping")
		}
	}
	c.wantNothing()
	if len(quiet.pings) != 0 {
		t.Error("pinged although that is off")
	}
}

// B-30, B-31, B-32, PROTOCOL §11.7: what cannot be understood is an error, and the
// connection stays.
func TestMessagesThatAreErrors(t *testing.T) {
	t.Parallel()
	c := startServer(t).connect(t)
	for _, text := range []string{
		`not json`, `{}`, `[]`, `5`, `null`, `"x"`, `{"event":5}`, `{"event":null}`, `{"event":"pusher:bogus"}`,
		`{"event":"foo","channel":5}`, `{"event":"a","event":"b"}`, `{"event":"\ud800"}`, "{\"event\":\"\x01\"}",
		`{"event":"pusher:subscribe"}`, `{"event":"pusher:subscribe","data":null}`, `{"event":"pusher:subscribe","data":"x"}`,
		`{"event":"pusher:subscribe","data":5}`, `{"event":"pusher:subscribe","data":{}}`,
		`{"event":"pusher:subscribe","data":{"channel":5}}`, `{"event":"pusher:subscribe","data":{"channel":{}}}`,
		`{"event":"pusher:subscribe","data":{"channel":"a","channel":"b"}}`,
		`{"event":"pusher:subscribe","data":{"channel":"a","ch\u0061nnel":"b"}}`,
		`{"event":"pusher:unsubscribe"}`, `{"event":"pusher:unsubscribe","data":[]}`,
		`{"event":"pusher:signin"}`, `{"event":"pusher:signin","data":{}}`, `{"event":"pusher:signin","data":{"auth":5,"user_data":"{}"}}`,
		`{"event":"pusher:signin","data":{"auth":"x","user_data":{}}}`,
		strings.Repeat("[", 50000),
	} {
		c.sendText(text)
		c.wantError(0, "")
	}
	if err := c.write(ws.NewBinaryFrame([]byte{1, 2, 3})); err != nil {
		t.Fatal(err)
	}
	c.wantError(0, "Binary")
	c.subscribe("chat")
}

// B-33: data as a string that holds the object.
func TestDataAsString(t *testing.T) {
	t.Parallel()
	c := startServer(t).connect(t)
	c.send("pusher:subscribe", "", `{"channel":"chat"}`)
	c.wantOn("chat", "pusher_internal:subscription_succeeded")
}

// B-34: a message that is too large closes its connection and no other.
func TestOversizedMessage(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c, other := s.connect(t), s.connect(t)
	// The server may close before it has read everything.
	_ = c.write(ws.NewTextFrame([]byte(`{"event":"` + strings.Repeat("x", 200<<10) + `"}`)))
	c.wantClose(1009)
	other.wantNothing()
}

// B-35: a client that does not read is closed; the others get everything.
func TestSlowClient(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.Socket.WriteTimeout = 2 * time.Second }, demoApp())
	fast := s.connect(t)
	fast.subscribe("chat")
	slow := s.dialSilently(t)
	const events = 3000
	data := strings.Repeat("x", 10000)
	for i := range events / 10 {
		s.publishBatch("chat", data, 10)
		for range 10 {
			fast.wantOn("chat", "x")
		}
		if i%50 == 0 && s.Hub().Connections(s.Hub().Apps().ByID(appID)) == 1 {
			break
		}
	}
	poll(t, "the slow client to be closed", func() bool {
		return s.Hub().Connections(s.Hub().Apps().ByID(appID)) == 1
	})
	_ = slow.Close()
	fast.wantNothing()
}

// dialSilently subscribes to chat and never reads again.
func (s *server) dialSilently(t testing.TB) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, _, _, err := ws.Dial(ctx, "ws://"+s.addr+"/app/"+key+goodQuery)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := ws.WriteFrame(conn, ws.MaskFrame(ws.NewTextFrame([]byte(`{"event":"pusher:subscribe","data":{"channel":"chat"}}`)))); err != nil {
		t.Fatal(err)
	}
	return conn
}

// B-36: a shutdown closes everybody with 4200.
func TestShutdown(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	clients := []*client{s.connect(t), s.connect(t)}
	clients[0].subscribe("chat")
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	for _, c := range clients {
		c.wantClose(4200)
	}
	<-done
}

// Protocol versions below 6 read the reason of a close from a frame
// (PROTOCOL §2.1).
func TestOldProtocolIsToldInAFrame(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.dial(t, "/app/"+key+"?protocol=5")
	c.established()
	c.signIn(`{"id":"u-7"}`)
	if status, body := s.call("POST", "/apps/"+appID+"/users/u-7/terminate_connections", nil, "{}"); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	c.wantError(4009, "")
	c.wantClose(4009)
}
