// Package api is the signed HTTP API of the Pusher protocol (PROTOCOL §5).
package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"reecho/broker"
	"reecho/edge/app"
	"reecho/edge/pusher"
)

// readyTimeout bounds a health check.
const readyTimeout = 3 * time.Second

// Config of an API. The zero value is usable.
type Config struct {
	// PathPrefix stands before /apps; "" or "/something".
	PathPrefix string
	// Now is the clock that timestamps are compared with. nil is time.Now.
	Now func() time.Time
}

// API is an http.Handler for everything below /apps, and health checks.
type API struct {
	cfg   Config
	hub   Hub
	ready func(context.Context) error
	log   *slog.Logger
}

// New makes an API over hub. ready tells whether publishes can be taken.
func New(cfg Config, hub Hub, ready func(context.Context) error, log *slog.Logger) *API {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &API{cfg: cfg, hub: hub, ready: ready, log: log}
}

// call is a request to an app, authenticated.
type call struct {
	api   *API
	app   *app.App
	r     *http.Request
	query map[string][]string
	body  []byte
}

// failure is an answer with a status other than 200.
type failure struct {
	status int
	text   string
	allow  string // 405: the methods there are
}

// Error implements error.
func (f *failure) Error() string { return f.text }

func failf(status int, format string, args ...any) *failure {
	return &failure{status: status, text: fmt.Sprintf(format, args...)}
}

// badRequest is 400 with what err says.
func badRequest(err error) *failure { return failf(http.StatusBadRequest, "%v", err) }

var errNotFound = failf(http.StatusNotFound, "There is nothing at this path. The API is below /apps/{app_id}")

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), a.cfg.PathPrefix)
	if !ok {
		a.fail(w, r, errNotFound)
		return
	}
	if rest, ok := strings.CutPrefix(path, "/apps/"); ok {
		a.serveApp(w, r, rest)
		return
	}
	switch path {
	case "/", "/up":
		answerText(w, http.StatusOK, "reecho is up")
	case "/health", "/ready":
		a.health(w, r)
	default:
		a.fail(w, r, errNotFound)
	}
}

// health answers 200 once publishes can be stored.
func (a *API) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := a.ready(ctx); err != nil {
		a.log.Warn("not ready", slog.Any("error", err))
		answerText(w, http.StatusServiceUnavailable, "The event log does not answer")
		return
	}
	answerText(w, http.StatusOK, "ok")
}

// serveApp handles /apps/{id}/…; rest is what follows /apps/, escaped.
func (a *API) serveApp(w http.ResponseWriter, r *http.Request, rest string) {
	body := bodies.get()
	defer bodies.put(body)
	answer, err := a.handle(r, rest, body)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	if answer == nil {
		// Only the deprecated publish answers so (PROTOCOL §5.3).
		w.WriteHeader(http.StatusAccepted)
		return
	}
	w.Header()["Content-Type"] = contentTypeJSON
	_, _ = w.Write(answer) //nolint:gosec // JSON as application/json; a caller that went away has its event stored
}

func (a *API) handle(r *http.Request, rest string, body *buffer) (answer []byte, err error) {
	id, path, _ := strings.Cut(rest, "/")
	if id, err = url.PathUnescape(id); err != nil || id == "." || id == ".." {
		return nil, errNotFound
	}
	owner, err := a.findApp(id, r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	route, argument, err := findRoute(r.Method, path)
	if err != nil {
		return nil, err
	}
	c := &call{api: a, app: owner, r: r}
	if c.body, err = body.read(r, owner.Limits.RequestBytes); err != nil {
		return nil, err
	}
	if err := c.authenticate(); err != nil {
		return nil, err
	}
	return route(c, argument)
}

// findApp finds the app of the path. A key that nobody has is 401 even if the
// app is known; both unknown is 404 (PROTOCOL §5.1.7).
func (a *API) findApp(id, rawQuery string) (*app.App, error) {
	owner := a.hub.Apps().ByID(id)
	if owner != nil {
		return owner, nil
	}
	if query, err := pusher.QueryValues(rawQuery); err == nil && len(query["auth_key"]) > 0 {
		if other := a.hub.Apps().ByKey(query["auth_key"][0]); other != nil {
			return nil, failf(http.StatusUnauthorized, "auth_key belongs to another app than the one in the path")
		}
	}
	return nil, failf(http.StatusNotFound, "There is no app %q on this server. Check the app id and the host", cut(id))
}

// authenticate checks the signature, then that the app may be used.
func (c *call) authenticate() error {
	err := pusher.CheckRequest(c.app, pusher.Request{
		Method: c.r.Method, Path: c.r.URL.Path, RawPath: c.r.URL.EscapedPath(), RawQuery: c.r.URL.RawQuery,
		Sent: sentPath(c.r), Prefix: c.api.cfg.PathPrefix, Body: c.body,
	}, c.api.cfg.Now())
	if err != nil {
		return failf(http.StatusUnauthorized, "%v", err)
	}
	if !c.app.Enabled {
		return failf(http.StatusForbidden, "The app is disabled")
	}
	return nil
}

// sentPath is the path of a request before its doubled slashes were merged: a
// client that sent them has signed them, unless a proxy added them.
func sentPath(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	return path
}

// parameters decodes the query; publishes that have everything in the body do
// not need it.
func (c *call) parameters() (map[string][]string, error) {
	if c.query == nil {
		query, err := pusher.QueryValues(c.r.URL.RawQuery)
		if err != nil {
			return nil, badRequest(err)
		}
		c.query = query
	}
	return c.query, nil
}

var (
	contentTypeJSON = []string{"application/json"}
	contentTypeText = []string{"text/plain; charset=utf-8"}
)

func answerText(w http.ResponseWriter, status int, text string) {
	w.Header()["Content-Type"] = contentTypeText
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // the caller went away
}

// fail answers with one sentence of plain text (PROTOCOL §5.2).
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	f := a.failure(r, err)
	if f.allow != "" {
		w.Header().Set("Allow", f.allow)
	}
	if f.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	answerText(w, f.status, f.text)
}

// failure turns an error into an answer; causes go to the log.
func (a *API) failure(r *http.Request, err error) *failure {
	var f *failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, broker.ErrOverloaded):
		return failf(http.StatusServiceUnavailable, "Too many events are waiting to be stored, try again")
	case errors.Is(err, broker.ErrUnavailable), errors.Is(err, broker.ErrClosed):
		return failf(http.StatusServiceUnavailable, "The event log is not available at the moment, try again")
	case r.Context().Err() != nil:
		// The caller is gone; nobody reads the answer.
		return failf(http.StatusServiceUnavailable, "The request was cancelled")
	}
	a.log.Error("request failed", slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Any("error", err))
	return failf(http.StatusInternalServerError, "Internal error, see the server's log")
}

// cut bounds what an answer repeats of its request.
func cut(text string) string {
	const limit = 100
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "…"
}
