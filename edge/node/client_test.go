package node_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5" // body_md5 is part of the Pusher protocol
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"go.uber.org/goleak"

	"reecho/edge/app"
	"reecho/edge/config"
	"reecho/edge/node"
	"reecho/edge/pusher"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		_ = os.RemoveAll(programDir) // "" when nothing was built
		os.Exit(status)
	}))
}

// patience is how long a test waits for something that must happen.
const patience = 20 * time.Second

const (
	key    = "demo-key-01"
	secret = "demo-secret-01"
	appID  = "77"
)

// demoApp is an app with the documented defaults, changed by edit.
func demoApp(edit ...func(*app.App)) *app.App {
	a := &app.App{
		ID: appID, Credentials: []app.Credential{{Key: key, Secret: secret}},
		Enabled: true, ClientEvents: true, UserAuthentication: true, SubscriptionErrors: false,
		ActivityTimeout: app.DefaultActivityTimeout, AuthorizationTimeout: app.DefaultAuthorizationTimeout,
		Limits: app.DefaultLimits(),
	}
	for _, e := range edit {
		e(a)
	}
	return a
}

// server is a running node.
type server struct {
	*node.Node
	t     testing.TB
	addr  string
	close func(context.Context) error // once
}

// startServer runs a real node for the apps on a free port.
func startServer(t testing.TB, apps ...*app.App) *server {
	t.Helper()
	return startServerWith(t, func(*config.Config) {}, apps...)
}

func startServerWith(t testing.TB, edit func(*config.Config), apps ...*app.App) *server {
	t.Helper()
	return startServerLogging(t, slog.New(slog.DiscardHandler), edit, apps...)
}

func startServerLogging(t testing.TB, log *slog.Logger, edit func(*config.Config), apps ...*app.App) *server {
	t.Helper()
	cfg := config.Default()
	cfg.Listen = "127.0.0.1:0"
	cfg.DataDir = t.TempDir()
	cfg.Apps = apps
	if len(apps) == 0 {
		cfg.Apps = []*app.App{demoApp()}
	}
	edit(&cfg)
	n, err := node.Start(context.Background(), cfg, log)
	if err != nil {
		t.Fatalf("start node: %v", err)
	}
	s := &server{Node: n, t: t, addr: n.Addr().String()}
	var once sync.Once
	s.close = func(ctx context.Context) (err error) {
		once.Do(func() { err = n.Close(ctx) })
		return err
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.close(ctx); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	return s
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

// call makes a signed API request and returns status and body.
func (s *server) call(method, path string, query url.Values, body string) (int, string) {
	s.t.Helper()
	status, text, err := s.tryCall(method, path, query, body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return status, text
}

func (s *server) tryCall(method, path string, query url.Values, body string) (int, string, error) {
	return s.trySigned(method, path, path, query, body)
}

// trySigned calls path with a signature of another path.
func (s *server) trySigned(method, path, signed string, query url.Values, body string) (int, string, error) {
	v := url.Values{"auth_key": {key}, "auth_timestamp": {strconv.FormatInt(time.Now().Unix(), 10)}, "auth_version": {"1.0"}}
	if body != "" {
		sum := md5.Sum([]byte(body))
		v.Set("body_md5", hex.EncodeToString(sum[:]))
	}
	for k, values := range query {
		v[k] = values
	}
	unescaped, err := url.QueryUnescape(v.Encode()) // sorted, as the libraries sign it
	if err != nil {
		return 0, "", err
	}
	v.Set("auth_signature", pusher.Sign(secret, method+"\n"+signed+"\n"+unescaped))
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.addr+path+"?"+v.Encode(), strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	res, err := apiClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

// apiClient keeps no idle connections, so that closing a server leaves no
// goroutine behind.
var apiClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// publish stores an event; socketID "" excludes nobody.
func (s *server) publish(channel, event, data, socketID string) {
	s.t.Helper()
	if err := s.tryPublish(channel, event, data, socketID); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) tryPublish(channel, event, data, socketID string) error {
	body := map[string]any{"name": event, "channels": []string{channel}, "data": data}
	if socketID != "" {
		body["socket_id"] = socketID
	}
	status, answer, err := s.tryCall("POST", "/apps/"+appID+"/events", nil, mustJSON(s.t, body))
	if err == nil && (status != http.StatusOK || answer != "{}") {
		err = fmt.Errorf("answer %d %q", status, answer)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("publish %s on %s", event, channel), err)
	}
	return nil
}
