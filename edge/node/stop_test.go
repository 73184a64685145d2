package node_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/edge/config"
	"reecho/edge/pusher"
)

// stopTime is what a stop in these tests may take. Nothing is asserted about
// what it takes: a stop that outlasts it is an error.
const stopTime = 4 * time.Second

// mustDial opens a connection and writes text to it.
func (s *server) mustDial(text string) net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	if _, err := conn.Write([]byte(text)); err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// halfPost is the beginning of a publish that passes what is checked before the
// body is read.
func halfPost() string {
	return fmt.Sprintf("POST /apps/%s/events?auth_key=%s&auth_timestamp=%d&auth_version=1.0&body_md5=%032d&auth_signature=%064d HTTP/1.1\r\n",
		appID, key, time.Now().Unix(), 0, 0)
}

// A stop is clean whatever clients do. Seen: one unfinished POST at SIGTERM
// made it last 20 s and end with status 1, with the data folder not marked as
// closed, so that after a reboot every position was void.
func TestStopIsCleanWhateverClientsDo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func(s *server)
	}{
		{"nobody", func(*server) {}},
		{"connection that says nothing", func(s *server) { s.mustDial("") }},
		{"half a request", func(s *server) { s.mustDial("GET /app/" + key + " HT") }},
		{"half a POST", func(s *server) {
			s.mustDial(halfPost() + "Host: x\r\nContent-Length: 100\r\n\r\n{")
		}},
		{"half a POST, held open", func(s *server) {
			s.mustDial(halfPost() + "Host: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"nam")
		}},
		{"answer that nobody reads", func(s *server) {
			s.mustDial(strings.Repeat("GET /client/reecho.js HTTP/1.1\r\nHost: x\r\n\r\n", 2000))
		}},
		{"event stream that nobody reads", func(s *server) {
			conn := s.mustDial("GET /app/" + key + "/events?channels=chat HTTP/1.1\r\nHost: x\r\n\r\n")
			if _, err := conn.Read(make([]byte, 1)); err != nil {
				s.t.Fatal(err)
			}
			for range 100 {
				s.publish("chat", "x", strings.Repeat("x", 9000), "")
			}
		}},
		{"client that does not answer the close frame", func(s *server) { s.dialSilently(s.t) }},
		{"client that reads nothing", func(s *server) {
			s.dialSilently(s.t)
			for range 30 {
				s.publish("chat", "x", strings.Repeat("x", 9000), "")
			}
		}},
		{"half a WebSocket message", func(s *server) {
			conn := s.dialSilently(s.t)
			frame := ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte(`{"event":"pusher:ping"}`))))
			if _, err := conn.Write(frame[:len(frame)-3]); err != nil {
				s.t.Fatal(err)
			}
		}},
		{"client with a session", func(s *server) {
			s.dialSession(s.t, "0123456789abcdefghij").subscribe("chat")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := startServerWith(t, func(c *config.Config) { c.Store.Dir = dir })
			tt.do(s)
			s.publish("kept", "x", "1", "")
			s.wantCleanStop(dir)
		})
	}
}

// wantCleanStop stops the server and checks that its folder is closed.
func (s *server) wantCleanStop(dir string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if err := s.close(ctx); err != nil {
		s.t.Errorf("the stop was not clean: %v", err)
	}
	// The mark stands while the folder is open.
	if _, err := os.Stat(filepath.Join(dir, "open-in-boot")); !errors.Is(err, fs.ErrNotExist) {
		s.t.Errorf("the folder is not marked as closed: %v", err)
	}
}

// The same behind TLS, where a handshake is half done.
func TestStopDuringTLSHandshake(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	encrypt := withTLS(t)
	s := startServerWith(t, func(c *config.Config) { encrypt(c); c.Store.Dir = dir })
	s.mustDial("\x16\x03\x01\x02\x00\x01") // the beginning of a ClientHello
	conn, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET /up HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte(halfPost() + "Host: x\r\nContent-Length: 9\r\n\r\n{")); err != nil {
		t.Fatal(err)
	}
	s.wantCleanStop(dir)
}

// Publishes that are under way are stored if they are answered so.
func TestStopWhilePublishing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServerWith(t, func(c *config.Config) { c.Store.Dir = dir })
	const callers, before = 4, 20
	answered := [callers]int{}
	var running, begun sync.WaitGroup
	begun.Add(callers)
	for c := range callers {
		running.Go(func() {
			for i := 0; ; i++ {
				if i == before {
					begun.Done()
				}
				if err := s.tryPublish(fmt.Sprint("match.", c), "x", fmt.Sprint(i), ""); err != nil {
					return
				}
				answered[c] = i + 1
			}
		})
	}
	begun.Wait()
	s.wantCleanStop(dir)
	running.Wait()
	b := brokertest.StartIn(t, dir, broker.Config{})
	for c, n := range answered {
		events, _, err := b.Log(broker.Ref{App: appID, Channel: fmt.Sprint("match.", c)}).Read(t.Context(), 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) < n {
			t.Errorf("match.%d: %d events were answered, %d are stored", c, n, len(events))
		}
		for i, ev := range events {
			if data, err := pusher.EventData(ev.Frame); err != nil || data != fmt.Sprint(i) {
				t.Errorf("match.%d: event %d is %q, %v", c, i, data, err)
			}
		}
	}
}
