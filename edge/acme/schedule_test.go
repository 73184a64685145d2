package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"golang.org/x/crypto/acme"
)

func TestRenewal(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, life := range []time.Duration{90 * 24 * time.Hour, 6 * 24 * time.Hour, time.Hour, 30 * time.Second} {
		leaf := &x509.Certificate{NotBefore: begin, NotAfter: begin.Add(life)}
		seen := map[time.Time]bool{}
		for range 100 {
			at := renewal(leaf)
			if left := leaf.NotAfter.Sub(at); left > life/3+1 || left < life/3-life/30-1 {
				t.Fatalf("of %v renewed with %v left", life, left)
			}
			seen[at] = true
		}
		if len(seen) < 50 {
			t.Errorf("of %v always at the same time", life)
		}
	}
}

func refusal(status int, kind, after string) error {
	h := http.Header{}
	if after != "" {
		h.Set("Retry-After", after)
	}
	return fmt.Errorf("order: %w", &acme.Error{StatusCode: status, ProblemType: "urn:ietf:params:acme:error:" + kind, Header: h})
}

// Pauses grow, have jitter, know what an authority counts, and are never shorter than it
// wants.
func TestPauses(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	away := errors.New("connection refused")
	invalid := fmt.Errorf("validate: %w", &acme.AuthorizationError{Identifier: "a.example.com"})
	for _, tt := range []struct {
		name    string
		before  failing
		err     error
		refused bool
		n       int
		least   time.Duration
	}{
		{"away once", failing{}, away, false, 1, 5 * time.Second},
		{"away again", failing{Failures: 3}, away, false, 4, 40 * time.Second},
		{"away for long", failing{Failures: 500}, away, false, 501, 10 * time.Minute},
		{"its own fault", failing{}, refusal(500, "serverInternal", ""), false, 1, 5 * time.Second},
		{"busy", failing{}, refusal(503, "serverInternal", "90"), false, 1, 90 * time.Second},
		{"too slow", failing{}, context.DeadlineExceeded, false, 1, 5 * time.Second},
		{"invalid once", failing{}, invalid, true, 1, 30 * time.Second},
		{"invalid twice", failing{Failures: 1, Refused: true}, invalid, true, 2, 4 * time.Minute},
		{"invalid again", failing{Failures: 3, Refused: true}, invalid, true, 4, 16 * time.Minute},
		{"invalid for long", failing{Failures: 50, Refused: true}, invalid, true, 51, 6 * time.Hour},
		{"invalid after away", failing{Failures: 9}, invalid, true, 1, 30 * time.Second},
		{"order", failing{}, &acme.OrderError{}, true, 1, 30 * time.Second},
		{"limit", failing{}, refusal(429, "rateLimited", "7200"), true, 1, 2 * time.Hour},
		{"limit until", failing{}, refusal(429, "rateLimited", now.Add(3*time.Hour).Format(http.TimeFormat)), true, 1, 3 * time.Hour},
		{"limit past", failing{}, refusal(429, "rateLimited", now.Add(-time.Hour).Format(http.TimeFormat)), true, 1, 30 * time.Second},
		{"limit of nonsense", failing{}, refusal(429, "rateLimited", "soon"), true, 1, 30 * time.Second},
		{"limit of ages", failing{}, refusal(429, "rateLimited", "99999999999"), true, 1, maxRetryAfter},
		{"limit below zero", failing{}, refusal(429, "rateLimited", "-5"), true, 1, 30 * time.Second},
		{"refused", failing{}, refusal(403, "unauthorized", ""), true, 1, 30 * time.Second},
		{"no challenge", failing{}, fmt.Errorf("x: %w", errNoChallenge), true, 1, 30 * time.Second},
	} {
		for range 20 {
			got := tt.before.next(tt.err, now)
			pause := got.Until.Sub(now)
			if got.Refused != tt.refused || got.Failures != tt.n || pause < tt.least || pause > tt.least+tt.least/jitter {
				t.Fatalf("%s: got %+v, a pause of %v, want %v and up to a quarter", tt.name, got, pause, tt.least)
			}
		}
	}
}

// What Let's Encrypt allows for a name that cannot be validated: five in an hour.
func TestPausesKeepToLimit(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f, at, tries := failing{}, begin, []time.Time{}
	for at.Before(begin.Add(48 * time.Hour)) {
		tries = append(tries, at)
		f = f.next(&acme.AuthorizationError{}, at)
		at = f.Until
	}
	for i := range tries {
		if i >= 5 && tries[i].Sub(tries[i-5]) < time.Hour {
			t.Errorf("six tries within %v", tries[i].Sub(tries[i-5]))
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "0", "120", "-1", "99999999999999999999", "Thu, 01 Jan 2026 00:00:00 GMT", "1.5", "soon"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d := retryAfter(refusal(429, "rateLimited", text), time.Unix(1e9, 0)); d < 0 || d > maxRetryAfter {
			t.Errorf("%q: %v", text, d)
		}
	})
}
