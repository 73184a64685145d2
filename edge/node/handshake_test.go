package node_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"reecho/edge/app"
	"reecho/edge/config"
)

// the first frame.
func TestFirstFrame(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.dial(t, "/app/"+key+goodQuery)
	f := c.established()
	const want = `{"event":"pusher:connection_established","data":"{\"socket_id\":\"%\",\"activity_timeout\":120}"}`
	if got := strings.Replace(f.raw, c.socketID, "%", 1); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	a, b, dot := strings.Cut(c.socketID, ".")
	if !dot || strings.Trim(a, "0123456789") != "" || strings.Trim(b, "0123456789") != "" || a == "" || b == "" {
		t.Errorf("socket id is %q", c.socketID)
	}
}

// versions that are served, and parameters that mean nothing.
func TestConnectionsThatAreAccepted(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, path := range []string{
		"/app/" + key + "?client=java-client&protocol=5&version=2.4.4",
		"/app/" + key + "?protocol=4", "/app/" + key + "?protocol=6",
		"/app/" + key + "?protocol=7&client=js&version=8.4.0-rc1",
		"/app/" + key + "/?protocol=7", "/app/" + key + "?t=1&n=2&flash=false&protocol=7&x[]=%5B",
	} {
		c := s.dial(t, path)
		if f := c.established(); !strings.Contains(f.raw, "activity_timeout") {
			t.Errorf("%s: %s", path, f.raw)
		}
	}
}

// refusals come as a frame and a close, after an upgrade that
// succeeds.
func TestConnectionsThatAreRefused(t *testing.T) {
	t.Parallel()
	named := func(name string, edit func(*app.App)) *app.App {
		return demoApp(edit, func(a *app.App) {
			a.ID = name
			a.Credentials = []app.Credential{{Key: name, Secret: "s"}}
		})
	}
	s := startServer(t, demoApp(), named("disabled", func(a *app.App) { a.Enabled = false }),
		named("tls", func(a *app.App) { a.TLSOnly = true }))
	tests := []struct {
		path string
		code int
	}{
		{"/app/" + key + "?protocol=3", 4007},
		{"/app/" + key + "?protocol=8", 4007},
		{"/app/" + key + "?protocol=abc", 4007},
		{"/app/" + key, 4008},
		{"/app/" + key + "?client=js", 4008},
		{"/app/" + key + "?protocol=7&version=@version@", 4006},
		{"/app/unknown" + goodQuery, 4001},
		{"/app/disabled" + goodQuery, 4003},
		{"/app/tls" + goodQuery, 4000},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			t.Parallel()
			c := s.dial(t, tt.path)
			message := c.wantError(tt.code, "")
			if reason := c.wantClose(tt.code); reason != message {
				t.Errorf("frame says %q, close says %q", message, reason)
			}
		})
	}
}

// leniency takes anything as version 7.
func TestLenientProtocol(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.LenientProtocol = true }))
	for _, query := range []string{"", "?protocol=abc", "?protocol=2", "?protocol=7&version=@version@"} {
		s.dial(t, "/app/"+key+query).established()
	}
}

// the connection limit refuses newcomers only.
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.Limits.MaxConnections = 2 }))
	first, second := s.connect(t), s.connect(t)
	third := s.dial(t, "/app/"+key+goodQuery)
	third.wantError(4004, "2")
	third.wantClose(4004)
	first.wantNothing()
	second.wantNothing()
	_ = second.conn.Close()
	// The place is free once the server noticed.
	poll(t, "a place for a new connection", func() bool {
		c := s.dial(t, "/app/"+key+goodQuery)
		return c.next().Event == "pusher:connection_established"
	})
}

// poll waits until done returns true.
func poll(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for !done() {
		select {
		case <-deadline:
			t.Fatalf("gave up waiting for %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// a wrong path is 404.
func TestWrongPath(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, path := range []string{"/", "/app/", "/app", "/apps/77", "/x/app/" + key, "/app/" + key + "/x"} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, _, _, err := ws.Dial(ctx, "ws://"+s.addr+path)
		cancel()
		var status ws.StatusError
		if !errors.As(err, &status) || int(status) < 400 {
			if path == "/" && err != nil {
				continue // answered as a plain page
			}
			t.Errorf("%s: got %v, want a status", path, err)
		}
	}
}

// the path prefix stands before everything.
func TestPathPrefix(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.Edge.PathPrefix = "/ws" })
	s.dial(t, "/ws/app/"+key+goodQuery).established()
	if status, body := s.call("GET", "/ws/apps/"+appID+"/channels", nil, ""); status != http.StatusOK {
		t.Errorf("signed with the prefix: %d %s", status, body)
	}
}

// the subprotocol is selected when it was offered.
func TestSubprotocol(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for offered, want := range map[string]string{"pusher-channels-protocol-7": "pusher-channels-protocol-7", "": ""} {
		d := ws.Dialer{}
		if offered != "" {
			d.Protocols = []string{offered}
		}
		c, hs := s.dialWith(t, "/app/"+key+goodQuery, d)
		c.established()
		if hs.Protocol != want {
			t.Errorf("offered %q: selected %q, want %q", offered, hs.Protocol, want)
		}
	}
}

// authorised connections.
func TestAuthorizedConnections(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) {
		a.AuthorizedConnections = true
		a.AuthorizationTimeout = 2 * time.Second
	}))
	idle, private, user := s.connect(t), s.connect(t), s.connect(t)
	private.subscribe("private-room.1")
	user.signIn(`{"id":"u-7"}`)
	idle.subscribe("chat")
	idle.wantClose(4009)
	private.wantNothing()
	user.wantNothing()
}

// Origins: the host decides; no origin is no browser.
func TestAllowedOrigins(t *testing.T) {
	t.Parallel()
	origins, err := app.ParseOrigins("example.com", "*.example.org", "https://exact.example")
	if err != nil {
		t.Fatal(err)
	}
	s := startServer(t, demoApp(func(a *app.App) { a.AllowedOrigins = origins }))
	for origin, allowed := range map[string]bool{
		"": true, "https://example.com": true, "http://example.com:8080": true, "https://a.example.org": true,
		"https://example.org": false, "https://evil.com": false, "https://example.com.evil.com": false, "null": false,
		"https://exact.example": true, "http://exact.example": false,
	} {
		d := ws.Dialer{}
		if origin != "" {
			d.Header = ws.HandshakeHeaderHTTP{"Origin": {origin}}
		}
		c, _ := s.dialWith(t, "/app/"+key+goodQuery, d)
		if allowed {
			c.established()
		} else {
			c.wantError(4009, "Origin")
			c.wantClose(4009)
		}
	}
}
