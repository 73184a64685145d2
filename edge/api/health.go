package api

import (
	"context"
	"log/slog"
	"net/http"
	"regexp"
	"sync"
	"time"

	"reecho/edge/pusher"
)

const (
	// readyTimeout bounds a health check.
	readyTimeout = 3 * time.Second
	// healthPeriod is how long an answer is kept: anybody may ask, and the event
	// log is not to pay for it.
	healthPeriod = 500 * time.Millisecond
)

// health answers whether publishes can be stored. Calls within healthPeriod, and
// all that come while the event log is asked, share one answer.
type health struct {
	ready func(context.Context) error
	now   func() time.Time
	log   *slog.Logger

	mu     sync.Mutex
	answer *readiness
}

// readiness is one answer of the event log, or the question under way.
type readiness struct {
	known chan struct{} // closed when the rest is set
	until time.Time
	err   error
}

// ServeHTTP implements http.Handler: 200, or 503 with the cause.
func (h *health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	err := h.ask(r.Context())
	if err == nil {
		answerText(w, http.StatusOK, "ok")
		return
	}
	w.Header().Set("Retry-After", "1")
	answerText(w, http.StatusServiceUnavailable, pusher.Sentence("The event log is not ready: %s", withoutPaths(err.Error())))
}

func (h *health) ask(ctx context.Context) error {
	h.mu.Lock()
	answer := h.answer
	if answer == nil || answer.over(h.now()) {
		answer = &readiness{known: make(chan struct{})}
		h.answer = answer
		h.mu.Unlock()
		h.find(ctx, answer)
		return answer.err
	}
	h.mu.Unlock()
	select {
	case <-answer.known:
		return answer.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// over reports whether the answer is known and too old.
func (a *readiness) over(now time.Time) bool {
	select {
	case <-a.known:
		return !now.Before(a.until)
	default:
		return false
	}
}

// find asks the event log. Others wait for the answer, so the caller that leaves
// does not end it.
func (h *health) find(ctx context.Context, answer *readiness) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTimeout)
	defer cancel()
	defer close(answer.known)
	answer.err = h.ready(ctx)
	answer.until = h.now().Add(healthPeriod)
	if answer.err != nil {
		h.log.Debug("not ready", slog.Any("error", answer.err))
	}
}

// path finds file names in the text of an error: beginning with a slash, a dot or
// a drive, or with two slashes. "input/output error" is none.
var path = regexp.MustCompile(`(^|[\s"'(:=])(?:\.{0,2}/|[A-Za-z]:\\|[^\s"':/]+/[^\s"':/]+/)[^\s"':,;)]*`)

// withoutPaths is fit for anybody: where the data lies is nobody's business.
func withoutPaths(text string) string { return path.ReplaceAllString(text, "$1…") }
