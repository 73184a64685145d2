package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// asks is an event log that counts what it is asked.
type asks struct {
	n    atomic.Int32
	err  error
	wait chan struct{} // nil: answers at once
}

func (a *asks) ready(ctx context.Context) error {
	a.n.Add(1)
	if a.wait == nil {
		return a.err
	}
	select {
	case <-a.wait:
		return a.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func newHealth(a *asks, now func() time.Time) *health {
	return &health{ready: a.ready, now: now, log: slog.New(slog.DiscardHandler)}
}

func get(h http.Handler, r *http.Request) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// L: an answer is kept for half a second, good or bad.
func TestHealthIsKept(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	log := &asks{}
	h := newHealth(log, func() time.Time { return now })
	call := func(status int, want string, asked int32) {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/health", nil)
		if got, text := get(h, r); got != status || !strings.Contains(text, want) || log.n.Load() != asked {
			t.Errorf("got %d %q, asked %d times; want %d %q, %d times", got, text, log.n.Load(), status, want, asked)
		}
	}
	for range 1000 {
		call(200, "ok", 1)
	}
	now = now.Add(healthPeriod - 1)
	call(200, "ok", 1)
	now = now.Add(1)
	log.err = errors.New("the disk is full")
	call(503, "The event log is not ready: the disk is full", 2)
	now = now.Add(healthPeriod / 2)
	log.err = nil
	call(503, "the disk is full", 2)
	now = now.Add(healthPeriod / 2)
	call(200, "ok", 3)
}

// L: calls at once share one question, which the first to leave does not end.
func TestHealthIsAskedOnce(t *testing.T) {
	t.Parallel()
	log := &asks{wait: make(chan struct{})}
	h := newHealth(log, time.Now)
	first, leave := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	for i := range 100 {
		ctx := t.Context()
		if i == 0 {
			ctx = first
		}
		r := httptest.NewRequestWithContext(ctx, "GET", "/ready", nil)
		calls.Go(func() {
			if status, text := get(h, r); status != 200 && ctx != first {
				t.Errorf("got %d %q", status, text)
			}
		})
	}
	leave()
	close(log.wait)
	calls.Wait()
	if n := log.n.Load(); n != 1 {
		t.Errorf("asked %d times, want 1", n)
	}
}

// The cause is said, and where the data lies is not.
func TestWithoutPaths(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"write /var/lib/reecho/nats/x.blk: no space left on device":      "write …: no space left on device",
		"open ./reecho-data/nats: too many open files":                   "open …: too many open files",
		`mkdir "/srv/data 1": read-only file system`:                     `mkdir "… 1": read-only file system`,
		"read reecho-data/nats/jetstream/meta.inf: input/output error":   "read …: input/output error",
		`open C:\data\x: access denied`:                                  "open …: access denied",
		"ask the event log: context deadline exceeded":                   "ask the event log: context deadline exceeded",
		"the event log refused the event: insufficient storage (10047)":  "the event log refused the event: insufficient storage (10047)",
		"stream EVENTS-0 has 3/4 of its messages, 12:30 and/or later":    "stream EVENTS-0 has 3/4 of its messages, 12:30 and/or later",
		"the data folder is gone (stat /data: no such file or directory": "the data folder is gone (stat …: no such file or directory",
	} {
		if got := withoutPaths(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	log := &asks{err: fmt.Errorf("write /secret/place: %s", strings.Repeat("x", 100_000))}
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/health", nil)
	if status, text := get(newHealth(log, time.Now), r); status != 503 || len(text) > 1100 || strings.Contains(text, "secret") {
		t.Errorf("got %d, %d bytes: %.100q", status, len(text), text)
	}
}
