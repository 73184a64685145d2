package sse

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"reecho/edge/limit"
	"reecho/edge/pusher"
)

// retryAfter is when a client that found no room should try again, in seconds.
const retryAfter = 5

// refusal is an answer with a status other than 200, after which browsers do not
// come back by themselves.
type refusal struct {
	status int
	text   string
	retry  int          // seconds until it is worth to come back; 0: never as it is
	limit  limit.Reason // that it is about, to be counted; "": none
}

// Error implements error.
func (e *refusal) Error() string { return e.text }

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{status: status, text: fmt.Sprintf(format, args...), limit: limit.Reason(pusher.LimitOf(args...))}
}

// fail answers with err; what is no refusal is the client's mistake.
func (h *Handler) fail(w http.ResponseWriter, err error) {
	var e *refusal
	if !errors.As(err, &e) {
		e = refuse(http.StatusBadRequest, "%v", err)
	}
	if e.limit != "" {
		h.cfg.Ledger.Count(e.limit)
	}
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff") // the text repeats what was asked
	if e.status == http.StatusMethodNotAllowed {
		header.Set("Allow", "GET, HEAD, OPTIONS")
	}
	if e.retry > 0 {
		header.Set("Retry-After", strconv.Itoa(e.retry))
	}
	w.WriteHeader(e.status)
	_, _ = w.Write([]byte(e.text + "\n")) // the client may be gone
}
