package api

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"time"

	"reecho/edge/pusher"
)

// readyTimeout bounds a health check.
const readyTimeout = 3 * time.Second

// health answers 200 while publishes can be stored, else 503 with the cause.
// Anybody may ask at any rate: ready keeps its answer for a while (see
// broker.Ready), and logs when it changes.
func (a *API) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	// A proxy that kept an answer would hide that it has changed.
	w.Header().Set("Cache-Control", "no-store")
	if err := a.ready(ctx); err != nil {
		w.Header().Set("Retry-After", "1")
		answerText(w, http.StatusServiceUnavailable, pusher.Sentence("The event log is not ready: %s", withoutPaths(err.Error())))
		return
	}
	answerText(w, http.StatusOK, "ok")
}

// Waiting answers everything in the place of an API below prefix that cannot be opened
// yet, and says why.
func Waiting(prefix, why string) http.Handler {
	notYet := pusher.Sentence("The event log is not ready: %s", why)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.EscapedPath() {
		case prefix + "/":
			answerUp(w)
		case prefix + "/up":
			answerHealth(w)
		default:
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("Retry-After", "1")
			answerText(w, http.StatusServiceUnavailable, notYet)
		}
	})
}

// answerUp tells that the process runs.
func answerUp(w http.ResponseWriter) { answerText(w, http.StatusOK, "reecho is up") }

// answerHealth tells the same in Reverb's words, for whoever compares them.
func answerHealth(w http.ResponseWriter) {
	w.Header()["Content-Type"] = contentTypeJSON
	_, _ = io.WriteString(w, `{"health":"OK"}`)
}

// path finds file names in the text of an error: beginning with a slash, a dot or
// a drive, or with two slashes. "input/output error" is none.
var path = regexp.MustCompile(`(^|[\s"'(:=])(?:\.{0,2}/|[A-Za-z]:\\|[^\s"':/]+/[^\s"':/]+/)[^\s"':,;)]*`)

// withoutPaths is fit for anybody: where the data lies is nobody's business.
func withoutPaths(text string) string { return path.ReplaceAllString(text, "$1…") }
