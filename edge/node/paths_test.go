package node_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"reecho/edge/app"
	"reecho/edge/config"
	"reecho/edge/limit"
)

// reply is an answer, and the head alone of an event stream.
type reply struct {
	status int
	header http.Header
}

// askRaw sends a request as it is and returns the answer.
func (s *server) askRaw(t testing.TB, request string) (got reply, text string) {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatalf("send: %v", err)
	}
	method, _, _ := strings.Cut(request, " ")
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%.100q: %v", request, err)
	}
	defer response.Body.Close()
	got = reply{status: response.StatusCode, header: response.Header}
	if response.Header.Get("Content-Type") == "text/event-stream" {
		_ = conn.Close() // closing the body would read it to its end
		return got, ""
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%.100q: %v", request, err)
	}
	return got, string(body)
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n" }

const sessionID = "0b1f0c4e-3f3b-4a5e-9c1d-0f1e2d3c4b5a"

// Doubled slashes, of proxies that replace a part of the path and of wsPath
// "/", are one: they were 404.
func TestDoubledSlashes(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"", "/ws"} {
		s := startServerWith(t, func(c *config.Config) { c.Edge.PathPrefix = prefix })
		for _, path := range []string{
			"/app/" + key, "//app/" + key, "/app//" + key, "/app/" + key + "//", "///app///" + key,
			"//session/" + sessionID + "//app/" + key, "/session//" + sessionID + "/app//" + key + "/",
		} {
			s.dial(t, prefix+path+goodQuery).established()
			if prefix != "" {
				s.dial(t, "/"+prefix+path+goodQuery).established()
			}
		}
		c := s.dial(t, prefix+"/session//app/"+key+goodQuery)
		c.wantError(4005, "session id")
		for path, want := range map[string]int{
			"//health": 200, "//client//replay.js": 200, "//app//" + key + "//events?channel=chat": 200, "//app/" + key: 426,
			"//nothing": 404,
		} {
			if response, body := s.askRaw(t, get(prefix+path)); response.status != want {
				t.Errorf("%s%s: got %d %q, want %d", prefix, path, response.status, body, want)
			}
		}
		for _, tt := range []struct {
			sent, signed string
			status       int
		}{
			{prefix + "//apps/77/events", "/apps/77/events", 200},
			{prefix + "//apps/77/events", prefix + "/apps/77/events", 200},
			{prefix + "//apps/77/events", prefix + "//apps/77/events", 200},
			{prefix + "//apps//77//events/", "//apps//77//events/", 200},
			{"/" + prefix + "//apps/77/events", "/apps/77/events", 200},
			{"/" + prefix + "//apps/77/events", "/" + prefix + "//apps/77/events", 200},
			{prefix + "//apps/77/events", "/apps/77//events", 401},
			{prefix + "//apps/77/events", "///apps/77/events", 401},
		} {
			status, body, err := s.trySigned("POST", tt.sent, tt.signed, nil, `{"name":"x","data":"1","channel":"chat"}`)
			if err != nil || status != tt.status {
				t.Errorf("%s signed as %s: got %d %q, %v, want %d", tt.sent, tt.signed, status, body, err, tt.status)
			}
		}
	}
}

// An encoded slash is a character and no separator: /app%2Fkey was /app/key.
func TestEncodedSlashes(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, path := range []string{
		"/app%2F" + key, "/app%2f" + key, "/%2Fapp/" + key, "/session%2F" + sessionID + "/app/" + key,
		"/session/" + sessionID + "%2Fapp/" + key,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, _, _, err := ws.Dial(ctx, "ws://"+s.addr+path+goodQuery)
		cancel()
		var status ws.StatusError
		if !errors.As(err, &status) || status != 404 && status != 400 {
			t.Errorf("upgrade to %s: got %v, want 404", path, err)
		}
	}
	s.dial(t, "/app/%2F"+key+goodQuery).wantError(4001, "%2F")
	s.dial(t, "/%61pp/"+key+goodQuery).established()
	for _, path := range []string{
		"/app%2F" + key, "/app%2F" + key + "/events?channel=chat", "/app/" + key + "%2Fevents?channel=chat",
		"/apps%2F77/events", "/apps/77%2Fevents", "/client%2Freplay.js", "/%2Fhealth",
	} {
		if response, body := s.askRaw(t, get(path)); response.status != 404 && response.status != 426 {
			t.Errorf("%s: got %d %q, want 404", path, response.status, body)
		}
	}
	// In a name it is what it says.
	s.wantCall("POST", base+"/users/a%2Fb/terminate_connections", nil, "", 200, "{}")
}

// A plain request for a WebSocket path, of a proxy that keeps the headers to
// itself, says what to do. It was 404.
func TestPlainRequestForWebSocketPath(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.Edge.PathPrefix = "/ws" })
	const hint = "Upgrade $http_upgrade"
	for _, tt := range []struct {
		line, headers string
		status        int
		says          []string
	}{
		{"GET /ws/app/" + key + goodQuery + " HTTP/1.1", "", 426, []string{"Upgrade: websocket", "Connection: Upgrade", hint}},
		{"GET /ws/app/" + key + "/ HTTP/1.1", "Connection: close\r\n", 426, []string{hint}},
		{"GET /ws//app/" + key + " HTTP/1.1", "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 426, []string{hint}},
		{"GET /ws/app/" + key + " HTTP/1.1", "Upgrade: h2c\r\nConnection: Upgrade\r\n", 426, []string{hint}},
		{"GET /ws/session/" + sessionID + "/app/" + key + " HTTP/1.1", "", 426, []string{hint}},
		{"GET /ws/app/nobody HTTP/1.1", "", 426, []string{hint, "app key nobody does not exist"}},
		{"GET /ws/app/" + strings.Repeat("x", 5000) + " HTTP/1.1", "", 426, []string{hint, "xxx… does not exist"}},
		{"GET /ws/app/" + key + " HTTP/1.0", "Connection: close\r\n", 426, []string{hint, "HTTP/1.0", "proxy_http_version 1.1"}},
		{"GET /ws/app/" + key + " HTTP/1.0", "Upgrade: websocket\r\nConnection: upgrade\r\n", 505, []string{"proxy_http_version 1.1"}},
		{"GET /ws/app/" + key + " HTTP/1.1", "Upgrade: websocket\r\nConnection: close\r\n", 400, []string{"Connection: Upgrade", hint}},
		{"POST /ws/app/" + key + " HTTP/1.1", "Content-Length: 0\r\n", 405, []string{"GET"}},
		{"HEAD /ws/app/" + key + " HTTP/1.1", "", 405, nil},
		{"OPTIONS /ws/app/" + key + " HTTP/1.1", "", 405, nil},
		{"DELETE /ws/app/nobody HTTP/1.1", "Upgrade: websocket\r\nConnection: upgrade\r\n", 405, nil},
		{"GET /ws/app/ HTTP/1.1", "", 404, nil},
		{"GET /ws/app/" + key + "/x HTTP/1.1", "", 404, nil},
		{"GET /app/" + key + " HTTP/1.1", "", 404, nil},
	} {
		response, body := s.askRaw(t, tt.line+"\r\nHost: localhost\r\n"+tt.headers+"\r\n")
		if response.status != tt.status || len(body) > 1000 {
			t.Errorf("%.100s: got %d %q, want %d", tt.line, response.status, body, tt.status)
		}
		for _, part := range tt.says {
			if !strings.Contains(body, part) {
				t.Errorf("%.100s: got %q, want a word on %q", tt.line, body, part)
			}
		}
		if got := response.header.Get("Upgrade"); tt.status == 426 && got != "websocket" {
			t.Errorf("%.100s: got Upgrade %q", tt.line, got)
		}
		if got := response.header.Get("Allow"); tt.status == 405 && got != "GET" {
			t.Errorf("%.100s: got Allow %q", tt.line, got)
		}
	}
}

// One limit for the head of every request, and the answer names it. Cookies of
// 8,000 bytes were 431 on the upgrade, and twice as many none on the API.
func TestHeaderLimit(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.Socket.MaxHeaderBytes = 16 << 10 })
	for _, path := range []string{"/app/" + key, "/health", "/app/" + key + "/events?channel=chat"} {
		for size, want := range map[int]bool{8_000: true, 15_000: true, 17_000: false, 200_000: false} {
			d := ws.Dialer{Header: ws.HandshakeHeaderHTTP{"Cookie": {strings.Repeat("c", size)}}}
			if path == "/app/"+key && want {
				c, _ := s.dialWith(t, path+goodQuery, d)
				c.established()
				continue
			}
			head := "Cookie: " + strings.Repeat("c", size) + "\r\n"
			if path == "/app/"+key {
				head += "Upgrade: websocket\r\nConnection: Upgrade\r\n"
			}
			response, body := s.askRaw(t, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n"+head+"\r\n")
			switch {
			case want && response.status != 200:
				t.Errorf("%s with %d bytes: got %d %q", path, size, response.status, body)
			case !want && (response.status != 431 || !strings.Contains(body, "16384") || !strings.Contains(body, "max_header_bytes")):
				t.Errorf("%s with %d bytes: got %d %q, want 431 that names the limit", path, size, response.status, body)
			}
		}
	}
}

// A trusted proxy that ended TLS is as good as TLS; who is not trusted is not
// believed.
func TestTLSOnlyBehindProxy(t *testing.T) {
	t.Parallel()
	only := demoApp(func(a *app.App) { a.TLSOnly = true })
	for _, trusted := range []bool{true, false} {
		s := startServerWith(t, func(c *config.Config) {
			if trusted {
				c.TrustedProxies = []string{"loopback"}
			}
		}, only)
		for header, secure := range map[string]bool{
			"X-Forwarded-Proto: https": true, "Forwarded: for=192.0.2.1;proto=https": true, "X-A: b": false,
			"X-Forwarded-Proto: http": false, "Forwarded: for=192.0.2.1;proto=http": false,
		} {
			name, value, _ := strings.Cut(header, ": ")
			c, _ := s.dialWith(t, "/app/"+key+goodQuery, ws.Dialer{Header: ws.HandshakeHeaderHTTP{name: {value}}})
			if secure && trusted {
				c.established()
			} else {
				c.wantError(4000, "TLS")
			}
			want := 403
			if secure && trusted {
				want = 200
			}
			response, body := s.askRaw(t, "GET /app/"+key+"/events?channel=chat HTTP/1.1\r\nHost: localhost\r\n"+header+"\r\n\r\n")
			if response.status != want {
				t.Errorf("%s, trusted %t: event stream: got %d %q, want %d", header, trusted, response.status, body, want)
			}
		}
	}
}

// The node at a Unix socket: everything works there, and its file goes with it.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/reecho.sock"
	s := startServerWith(t, func(c *config.Config) { c.Listen = config.UnixListen + path; c.UnixSocketMode = "0600" })
	if s.addr != path {
		t.Errorf("got address %q, want %q", s.addr, path)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	conn, early, _, err := ws.Dialer{NetDial: dial}.Dial(t.Context(), "ws://localhost/app/"+key+goodQuery)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var frames io.Reader = conn
	if early != nil {
		frames = early
	}
	if f, err := readFrame(frames); err != nil || !strings.Contains(string(f.Payload), "connection_established") {
		t.Fatalf("got %q, %v", f.Payload, err)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	response, err := client.Get("http://localhost/health")
	if err != nil || response.StatusCode != 200 {
		t.Fatalf("health: %v, %v", response, err)
	}
	_ = response.Body.Close()
}

// Above max_connections a client is told so in the way that it understands, and
// events are stored all the same.
func TestMaxConnections(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.Socket.MaxConnections = 2 })
	first, second := s.connect(t), s.connect(t)
	first.subscribe("chat")
	third := s.dial(t, "/app/"+key+goodQuery)
	message := third.wantError(4100, "2 (max_connections)")
	if reason := third.wantClose(4100); reason != message {
		t.Errorf("frame says %q, close says %q", message, reason)
	}
	response, body := s.askRaw(t, get("/app/"+key+"/events?channel=chat"))
	if response.status != 503 || !strings.Contains(body, "2 (max_connections)") {
		t.Errorf("event stream: got %d %q, want 503", response.status, body)
	}
	s.publish("chat", "x", "stored", "")
	if got := first.wantOn("chat", "x").text(t); got != "stored" {
		t.Errorf("got %q", got)
	}
	if s.Ledger().Total(limit.Connections) == 0 {
		t.Error("the ledger knows nothing")
	}
	_ = second.conn.Close()
	poll(t, "a place for a new connection", func() bool {
		return s.dial(t, "/app/"+key+goodQuery).next().Event == "pusher:connection_established"
	})
}
