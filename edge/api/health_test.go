package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
)

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
	full := func(context.Context) error {
		return fmt.Errorf("write /secret/place: %s", strings.Repeat("x", 100_000))
	}
	a, err := New(Config{}, mustHub(t), full, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/health", nil))
	if status, text := w.Code, w.Body.String(); status != 503 || len(text) > 1100 || strings.Contains(text, "secret") {
		t.Errorf("got %d, %d bytes: %.100q", status, len(text), text)
	}
}
