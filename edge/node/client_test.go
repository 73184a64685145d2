package node_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"reecho/edge/pusher"
)

// client is a WebSocket client that shows every frame.
type client struct {
	t        testing.TB
	conn     net.Conn
	frames   chan frame
	pings    chan string // payloads of ping frames
	pongs    chan string
	closed   chan closed // capacity 1
	mute     atomic.Bool // does not answer pings
	session  bool        // next leaves out pusher:ping, counting it in asked
	asked    int
	socketID string
}

// frame is one message from the server.
type frame struct {
	Event   string          `json:"event"`
	Channel *string         `json:"channel"`
	Data    json.RawMessage `json:"data"`
	UserID  *string         `json:"user_id"`
	raw     string
}

// text is the content of a data string.
func (f frame) text(t testing.TB) string {
	t.Helper()
	var s string
	if err := json.Unmarshal(f.Data, &s); err != nil {
		t.Fatalf("data of %s is not a string: %v", f.raw, err)
	}
	return s
}

// closed says how a connection ended; code is 1006 without a close frame.
type closed struct {
	code   int
	reason string
}

const goodQuery = "?protocol=7&client=js&version=8.6.0&flash=false"

// connect opens a connection and reads connection_established.
func (s *server) connect(t testing.TB) *client {
	t.Helper()
	c := s.dial(t, "/app/"+key+goodQuery)
	c.established()
	return c
}

// established reads the first frame and remembers the socket id.
func (c *client) established() frame {
	c.t.Helper()
	f := c.want("pusher:connection_established")
	var data struct {
		SocketID string `json:"socket_id"`
	}
	if err := json.Unmarshal([]byte(f.text(c.t)), &data); err != nil {
		c.t.Fatalf("%s: %v", f.raw, err)
	}
	c.socketID = data.SocketID
	return f
}

// dial opens a connection and starts reading it.
func (s *server) dial(t testing.TB, path string) *client {
	t.Helper()
	c, _ := s.dialWith(t, path, ws.Dialer{})
	return c
}

func (s *server) dialWith(t testing.TB, path string, d ws.Dialer) (*client, ws.Handshake) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, early, hs, err := d.Dial(ctx, "ws://"+s.addr+path)
	if err != nil {
		t.Fatalf("dial %s: %v", path, err)
	}
	c := &client{
		t: t, conn: conn, frames: make(chan frame, 1<<16), pings: make(chan string, 100),
		pongs: make(chan string, 100), closed: make(chan closed, 1),
	}
	var r io.Reader = conn
	if early != nil {
		r = early
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.read(bufio.NewReader(r))
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return c, hs
}

func (c *client) read(r *bufio.Reader) {
	end := closed{code: 1006}
	defer func() {
		c.closed <- end
		close(c.frames)
	}()
	for {
		f, err := readFrame(r)
		if err != nil {
			return
		}
		switch f.Header.OpCode {
		case ws.OpText:
			parsed := frame{raw: string(f.Payload)}
			if err := json.Unmarshal(f.Payload, &parsed); err != nil {
				parsed.Event = "not JSON: " + parsed.raw
			}
			c.frames <- parsed
		case ws.OpPing:
			if !c.mute.Load() {
				_ = c.write(ws.NewPongFrame(f.Payload))
			}
			select {
			case c.pings <- string(f.Payload):
			default:
			}
		case ws.OpPong:
			c.pongs <- string(f.Payload)
		case ws.OpClose:
			code, reason := ws.ParseCloseFrameData(f.Payload)
			end = closed{code: int(code), reason: reason}
			_ = c.write(ws.NewCloseFrame(f.Payload))
			return
		}
	}
}

// readFrame reads a frame; what the server sends is trusted to fit.
func readFrame(r io.Reader) (f ws.Frame, err error) {
	if f.Header, err = ws.ReadHeader(r); err != nil {
		return f, err
	}
	f.Payload = make([]byte, f.Header.Length)
	_, err = io.ReadFull(r, f.Payload)
	return f, err
}

func (c *client) write(f ws.Frame) error {
	return ws.WriteFrame(c.conn, ws.MaskFrame(f))
}

// sendText sends text as it is.
func (c *client) sendText(text string) {
	c.t.Helper()
	if err := c.write(ws.NewTextFrame([]byte(text))); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// send sends an event whose data is any value.
func (c *client) send(event, channel string, data any) {
	c.t.Helper()
	m := map[string]any{"event": event, "data": data}
	if channel != "" {
		m["channel"] = channel
	}
	c.sendText(mustJSON(c.t, m))
}

func mustJSON(t testing.TB, v any) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// next returns the next frame.
func (c *client) next() frame {
	c.t.Helper()
	for {
		f := c.nextAny()
		if !c.session || f.Event != "pusher:ping" {
			return f
		}
		c.asked++
	}
}

func (c *client) nextAny() frame {
	c.t.Helper()
	select {
	case f, ok := <-c.frames:
		if !ok {
			end := <-c.closed
			c.closed <- end
			c.t.Fatalf("connection closed with %d %q while waiting for a frame", end.code, end.reason)
		}
		return f
	case <-time.After(patience):
		c.t.Fatal("no frame in time")
	}
	panic("unreachable")
}

// want returns the next frame, which must be event.
func (c *client) want(event string) frame {
	c.t.Helper()
	f := c.next()
	if f.Event != event {
		c.t.Fatalf("got %s, want event %s", f.raw, event)
	}
	return f
}

// wantOn is want for an event of a channel.
func (c *client) wantOn(channel, event string) frame {
	c.t.Helper()
	f := c.want(event)
	if f.Channel == nil || *f.Channel != channel {
		c.t.Fatalf("got %s, want channel %s", f.raw, channel)
	}
	return f
}

// wantError returns the message of the next frame, a pusher:error with code
// (0: null) whose message contains part. The connection stays.
func (c *client) wantError(code int, part string) string {
	c.t.Helper()
	f := c.want("pusher:error")
	var data struct {
		Code    *int   `json:"code"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(f.Data, &data); err != nil {
		c.t.Fatalf("data of %s is no error object: %v", f.raw, err)
	}
	got := 0
	if data.Code != nil {
		got = *data.Code
	}
	if got != code || !strings.Contains(data.Message, part) {
		c.t.Fatalf("got %s, want code %d and %q", f.raw, code, part)
	}
	return data.Message
}

// wantNothing fails if the server said anything before now: what it says to
// one client is in order, so a pong that comes next proves it.
func (c *client) wantNothing() {
	c.t.Helper()
	c.sendText(`{"event":"pusher:ping","data":{}}`)
	c.want("pusher:pong")
}

// wantClose waits for the close frame, skipping what comes before.
func (c *client) wantClose(code int) string {
	c.t.Helper()
	select {
	case end := <-c.closed:
		if end.code != code {
			c.t.Fatalf("closed with %d %q, want %d", end.code, end.reason, code)
		}
		return end.reason
	case <-time.After(patience):
		c.t.Fatalf("not closed in time, want %d", code)
	}
	panic("unreachable")
}

// auth signs a subscription.
func (c *client) auth(channel, channelData string) string {
	text := c.socketID + ":" + channel
	if channelData != "" {
		text += ":" + channelData
	}
	return key + ":" + pusher.Sign(secret, text)
}

// trySubscribe asks for a channel, signed when its name needs it.
func (c *client) trySubscribe(channel, channelData string) {
	c.t.Helper()
	data := map[string]any{"channel": channel, "auth": ""}
	if pusher.KindOf(channel).Has(pusher.Private) {
		data["auth"] = c.auth(channel, channelData)
	}
	if channelData != "" {
		data["channel_data"] = channelData
	}
	c.send("pusher:subscribe", "", data)
}

// subscribe is trySubscribe that succeeds. It returns the success frame.
func (c *client) subscribe(channel string) frame {
	c.t.Helper()
	c.trySubscribe(channel, "")
	return c.wantOn(channel, "pusher_internal:subscription_succeeded")
}

// join subscribes to a presence channel as a user.
func (c *client) join(channel, channelData string) frame {
	c.t.Helper()
	c.trySubscribe(channel, channelData)
	return c.wantOn(channel, "pusher_internal:subscription_succeeded")
}

// signIn signs in with user_data.
func (c *client) signIn(userData string) frame {
	c.t.Helper()
	c.trySignIn(userData)
	return c.want("pusher:signin_success")
}

func (c *client) trySignIn(userData string) {
	c.t.Helper()
	c.send("pusher:signin", "", map[string]any{
		"auth": key + ":" + pusher.Sign(secret, c.socketID+"::user::"+userData), "user_data": userData,
	})
}
