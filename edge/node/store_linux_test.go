package node_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reecho/broker/brokertest/faults"
	"reecho/edge/app"
	"reecho/edge/config"
)

// get asks for a path that needs no signature.
func (s *server) get(path string) (status int, header http.Header, body string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.addr+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := apiClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(text)
}

// A full disk, seen from outside: the health says so and why, publishes are 503
// while it is full, and taken again when it is not. Subscribers get what was
// answered.
func TestFullDiskFromOutside(t *testing.T) {
	faults.WithMounts(t, func(t *testing.T, mount string) {
		t.Helper()
		faults.Mount(t, mount, 16<<20)
		s := startServerWith(t, func(c *config.Config) { c.Store.Dir = filepath.Join(mount, "data") })
		c := s.connect(t)
		c.subscribe("chat")
		s.publish("chat", "x", "before", "")
		c.wantOn("chat", "x")
		ballast := faults.Fill(t, mount)
		for _, path := range []string{"/health", "/ready"} {
			status, header, body := s.get(path)
			if status != http.StatusServiceUnavailable || !strings.Contains(body, "no space left") || header.Get("Retry-After") == "" {
				t.Errorf("%s: %d %v %s", path, status, header, body)
			}
		}
		for range 20 {
			if status, body := s.call("POST", "/apps/"+appID+"/events", nil, `{"name":"x","channel":"chat","data":"refused"}`); status != http.StatusServiceUnavailable {
				t.Errorf("publish: %d %s", status, body)
			}
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/health", "/ready"} {
			poll(t, path+" is well again", func() bool { status, _, _ := s.get(path); return status == http.StatusOK })
		}
		s.publish("chat", "x", "after", "")
		if f := c.wantOn("chat", "x"); f.text(t) != "after" {
			t.Errorf("got %s", f.raw)
		}
	})
}

// What a session confirmed is known when its client comes back, also while the
// log has failed. Seen: it was forgotten with the save that failed, and each
// return brought the same events again.
func TestSessionWhileTheDiskIsFull(t *testing.T) {
	const id = "1d2f7a50-6c6e-4f7e-9df0-000000000042"
	faults.WithMounts(t, func(t *testing.T, mount string) {
		t.Helper()
		faults.Mount(t, mount, 16<<20)
		s := startServerWith(t, func(c *config.Config) { c.Store.Dir = filepath.Join(mount, "data") })
		a := s.dialSession(t, id)
		a.subscribe("match.1")
		s.scores("match.1", 1, 3)
		a.wantScores("match.1", 1, 3)
		ballast := faults.Fill(t, mount)
		poll(t, "the disk to be noticed", func() bool { status, _, _ := s.get("/health"); return status == http.StatusServiceUnavailable })
		a.pong()
		a.passed()
		a.cut()
		for range 3 {
			poll(t, "the client to be gone", func() bool {
				_, body := s.call("GET", "/apps/"+appID+"/channels", nil, "")
				return !strings.Contains(body, "match.1")
			})
			b := s.dialSession(t, id)
			b.subscribe("match.1")
			b.wantOutcome("match.1", "reecho:resumed", outcome{Complete: true})
			b.cut()
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		poll(t, "/health is well again", func() bool { status, _, _ := s.get("/health"); return status == http.StatusOK })
		s.scores("match.1", 4, 5)
		b := s.dialSession(t, id)
		b.subscribe("match.1")
		b.wantOutcome("match.1", "reecho:resumed", outcome{Complete: true, Events: 2})
		b.wantScores("match.1", 4, 5)
	})
}

// No combination of limits ends in a 500: what the log cannot take is 413 and
// nothing of the request is stored.
func TestEventThatNoStreamTakes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		edit func(*config.Config)
		data string // of the event
		want int
	}{
		{"escaping makes it longer", func(*config.Config) {}, strings.Repeat("\x01", 2<<20), http.StatusRequestEntityTooLarge},
		{"it fits", func(*config.Config) {}, strings.Repeat("\x01", 1<<20), http.StatusOK},
		{"larger than a stream", func(c *config.Config) { c.Log.MaxBytes = 1 << 20 }, strings.Repeat("x", 1<<20), http.StatusRequestEntityTooLarge},
		{"larger than the queue", func(c *config.Config) { c.Log.PublishQueueBytes, c.Log.PublishWindow = 1, 1 }, strings.Repeat("x", 1<<20), http.StatusOK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startServerWith(t, tt.edit, demoApp(func(a *app.App) {
				a.Limits.EventDataBytes, a.Limits.RequestBytes = 4<<20, 64<<20
			}))
			batch := mustJSON(t, map[string]any{"batch": []map[string]string{
				{"name": "x", "channel": "small", "data": "1"}, {"name": "x", "channel": "large", "data": tt.data},
			}})
			status, body := s.call("POST", "/apps/"+appID+"/batch_events", nil, batch)
			if status != tt.want || status != http.StatusOK && !strings.Contains(body, "at most") {
				t.Errorf("got %d %.200s, want %d", status, body, tt.want)
			}
			for _, channel := range []string{"small", "large"} {
				_, body := s.call("GET", fmt.Sprintf("/apps/%s/channels/%s/events", appID, channel), nil, "")
				if stored := strings.Contains(body, `"sequence"`) || strings.Contains(body, `"data"`); stored != (tt.want == http.StatusOK) {
					t.Errorf("%s: %.200s", channel, body)
				}
			}
		})
	}
}
