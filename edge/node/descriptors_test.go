//go:build unix

package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// keptAlive is an HTTP connection that is used for one call after another.
func keptAlive(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{MaxConnsPerHost: 1}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// TestFewDescriptors fills a server that may have few files open with
// connections that do nothing. It took them all until the store failed; now it
// stops before, stores events meanwhile, and goes on when some leave.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	const descriptors = 400
	// Only the hard limit counts: the soft one is raised to it.
	s := runProgramAfter(t, fmt.Sprintf("ulimit -Sn %d && ulimit -Hn %d", descriptors/2, descriptors), "--handshake-timeout", "1m")
	s.wantLog("descriptors=400 connections=149")
	kept := keptAlive(t)
	health := func(client *http.Client) {
		t.Helper()
		response, err := client.Get("http://" + s.addr + "/health")
		if err != nil {
			t.Fatalf("health: %v\n%s", err, s.log())
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Fatalf("health: %d %s", response.StatusCode, body)
		}
	}
	health(kept)
	idle := fillServer(t, s.server, 280)
	health(kept)
	for i := range 20 {
		s.publish(fmt.Sprintf("chat.%d", i), "x", "stored", "") // each on a connection of its own
	}
	if entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid)); err == nil && len(entries) > descriptors-50 {
		t.Errorf("%d of %d descriptors are in use, the store has too few", len(entries), descriptors)
	}
	poll(t, "a word on the limit", func() bool {
		frame, conn := s.firstFrame(t)
		if strings.Contains(frame, "pusher:connection_established") {
			idle = append(idle, conn) // in the place of one that took too long
			return false
		}
		_ = conn.Close()
		return strings.Contains(frame, "4100") && strings.Contains(frame, "149")
	})
	for i, c := range idle {
		if i%2 == 0 {
			_ = c.Close()
		}
	}
	poll(t, "a place for a new connection", func() bool {
		frame, conn := s.firstFrame(t)
		_ = conn.Close()
		return strings.Contains(frame, "pusher:connection_established")
	})
	c := s.connect(t)
	c.subscribe("chat.0")
	s.publish("chat.0", "x", "live", "")
	if got := c.wantOn("chat.0", "x").text(t); got != "live" {
		t.Errorf("got %q", got)
	}
	if text := s.log(); strings.Contains(text, "too many open files") || strings.Count(text, "a limit was reached") > 60 {
		t.Errorf("the log says:\n%.3000s", text)
	}
}

// firstFrame opens a connection and returns what it is told first, or "" when
// it is refused without a frame. The connection ends with the test.
func (s *server) firstFrame(t *testing.T) (string, net.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	early, _, err := ws.Dialer{}.Upgrade(conn, &url.URL{Scheme: "ws", Host: s.addr, Path: "/app/" + key, RawQuery: strings.TrimPrefix(goodQuery, "?")})
	var status ws.StatusError
	if errors.As(err, &status) && status == http.StatusServiceUnavailable {
		return "", conn
	}
	if err != nil {
		t.Fatalf("upgrade: %v", err)
	}
	var r io.Reader = conn
	if early != nil {
		r = early
	}
	f, err := readFrame(r)
	if err != nil {
		t.Fatalf("read the first frame: %v", err)
	}
	return string(f.Payload), conn
}

// fillServer opens n idle connections of every kind; those that are not taken
// wait, or are gone.
func fillServer(t *testing.T, s *server, n int) (idle []net.Conn) {
	t.Helper()
	requests := []string{
		"", "GET /hea", "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /app/" + key + goodQuery + " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		"POST /apps/77/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n",
	}
	for i := range n {
		conn, err := net.DialTimeout("tcp", s.addr, patience)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(10 * patience))
		_, _ = io.WriteString(conn, requests[i%len(requests)]) // one that is full may hang up first
		idle = append(idle, conn)
	}
	return idle
}
