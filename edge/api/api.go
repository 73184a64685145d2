// Package api is the signed HTTP API of the Pusher protocol (PROTOCOL §5).
package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"reecho/broker"
	"reecho/edge"
	"reecho/edge/app"
	"reecho/edge/limit"
	"reecho/edge/pusher"
	"reecho/edge/socket"
	"reecho/replay/receipt"
)

// API is an http.Handler for everything below /apps, and health checks.
type API struct {
	cfg    Config
	hub    *edge.Hub
	memory *memory
	ready  func(context.Context) error
	log    *slog.Logger
	// tallies are those of routes, and the last of what is none.
	tallies []tally
}

// New makes an API over hub. ready tells whether publishes can be taken. The
// error is what Config.Validate has to say.
func New(cfg Config, hub *edge.Hub, ready func(context.Context) error, log *slog.Logger) (*API, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	return &API{
		cfg: cfg, hub: hub, log: log, memory: &memory{limit: int64(cfg.RequestMemory), ledger: cfg.Ledger},
		ready: ready, tallies: make([]tally, len(routes)+1),
	}, nil
}

// call is a request to an app, authenticated.
type call struct {
	api   *API
	app   *app.App
	r     *http.Request
	query *pusher.Query
	body  []byte
}

// failure is an answer with a status other than 200.
type failure struct {
	status int
	text   string
	allow  string       // 405: the methods there are
	limit  limit.Reason // that it is about, to be counted; "": none
}

// Error implements error.
func (f *failure) Error() string { return f.text }

func failf(status int, format string, args ...any) *failure {
	return &failure{status: status, text: pusher.Sentence(format, args...), limit: limit.Reason(pusher.LimitOf(args...))}
}

// of says which limit it is about.
func (f *failure) of(reason limit.Reason) *failure {
	f.limit = reason
	return f
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
		began := time.Now()
		route, status := a.serveApp(w, r, rest)
		a.tallies[route].note(status, time.Since(began))
		return
	}
	// Health checks that were set up for soketi (/ and /ready), Reverb (/up) or
	// laravel-websockets (/health) go on working.
	switch path {
	case "/":
		answerUp(w)
	case "/up":
		answerHealth(w)
	case "/health", "/ready":
		a.health(w, r)
	default:
		a.fail(w, r, errNotFound)
	}
}

// serveApp handles /apps/{id}/…; rest is what follows /apps/, escaped. It returns which
// route that was, by its index in API.tallies, and the status of its answer.
func (a *API) serveApp(w http.ResponseWriter, r *http.Request, rest string) (route, status int) {
	body := newBuffer(a.memory, w)
	defer body.putBack()
	route, answer, err := a.handle(r, rest, body)
	if err != nil {
		// Before the answer: whoever is slow to read it holds no memory.
		body.release()
		finish := func() {}
		if !body.whole && r.ContentLength != 0 {
			finish = closing(w, r)
		}
		status = a.fail(w, r, err)
		finish()
		return route, status
	}
	if answer == nil {
		// Only the deprecated publish answers so (PROTOCOL §5.3).
		w.WriteHeader(http.StatusAccepted)
		return route, http.StatusAccepted
	}
	// With 200 and nothing near it: the library for PHP takes a 201 or 204 for
	// an exception (PROTOCOL §5.1).
	w.Header()["Content-Type"] = contentTypeJSON
	_, _ = w.Write(answer) //nolint:gosec // JSON as application/json; a caller that went away has its event stored
	return route, http.StatusOK
}

// handle makes all the checks that need no body before it reads one: keys are
// no secrets, but whoever has none does not get that far.
func (a *API) handle(r *http.Request, rest string, body *buffer) (at int, answer []byte, err error) {
	at = len(routes)
	id, path, _ := strings.Cut(rest, "/")
	if id, err = url.PathUnescape(id); err != nil || id == "." || id == ".." {
		return at, nil, errNotFound
	}
	query, err := a.parseQuery(r.URL.RawQuery)
	if err != nil {
		return at, nil, err
	}
	owner, err := a.findApp(id, query)
	if err != nil {
		return at, nil, err
	}
	at, route, argument, err := findRoute(r.Method, path)
	if err != nil {
		return at, nil, err
	}
	c := &call{api: a, app: owner, r: r, query: query}
	if err := c.checkKey(); err != nil {
		return at, nil, err
	}
	if c.body, err = body.read(r, owner.Limits.RequestBytes); err != nil {
		return at, nil, err
	}
	if err := c.checkSignature(); err != nil {
		return at, nil, err
	}
	answer, err = route(c, argument)
	return at, answer, err
}

func (a *API) parseQuery(raw string) (*pusher.Query, error) {
	if len(raw) > a.cfg.QueryBytes {
		return nil, failf(http.StatusRequestURITooLong, "The query is %d bytes, limit %d (max_query_bytes)", len(raw), a.cfg.QueryBytes).of(limit.QuerySize)
	}
	query, err := pusher.ParseQuery(raw, a.cfg.QueryParameters)
	if err != nil {
		return nil, badRequest(err)
	}
	return query, nil
}

// findApp finds the app of the path. A key that nobody has is 401 even if the
// app is known; both unknown is 404 (PROTOCOL §5.1.7).
func (a *API) findApp(id string, query *pusher.Query) (*app.App, error) {
	if owner := a.hub.Apps().ByID(id); owner != nil {
		return owner, nil
	}
	if a.hub.Apps().ByKey(query.Key()) != nil {
		return nil, failf(http.StatusUnauthorized, "auth_key belongs to another app than the one in the path")
	}
	return nil, failf(http.StatusNotFound, "There is no app %s on this server. Check the app id and the host", pusher.Quote(id))
}

// checkKey makes the checks that need no body: whether the app may be used, and
// in this way, too, as at its other doors.
func (c *call) checkKey() error {
	// The length is -1 for a chunked body, which needs its body_md5 as well.
	err := c.query.CheckKey(c.app, c.r.ContentLength != 0, c.api.cfg.Now())
	switch {
	case err != nil:
		return failf(http.StatusUnauthorized, "%v", err)
	case !c.app.Enabled:
		return failf(http.StatusForbidden, "The app is disabled")
	case c.app.TLSOnly && !socket.Secure(c.r):
		return failf(http.StatusForbidden, "The app only accepts TLS connections, use https")
	}
	return nil
}

// checkSignature tries each spelling of the path that may have been signed:
// libraries sign it as they write it, while their HTTP stack escapes it and
// proxies tidy it up (PROTOCOL §5.1.3, §5.1.4).
func (c *call) checkSignature() error {
	err := c.query.CheckSignature(c.app, pusher.Request{
		Method: c.r.Method, Path: c.r.URL.Path, RawPath: c.r.URL.EscapedPath(),
		Sent: sentPath(c.r), Prefix: c.api.cfg.PathPrefix, Body: c.body,
	})
	if err != nil {
		return failf(http.StatusUnauthorized, "%v", err)
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
	values, err := c.query.Values()
	if err != nil {
		return nil, badRequest(err)
	}
	return values, nil
}

// one is a parameter that may stand once, "" if it is absent.
func (c *call) one(name string) (string, error) {
	value, err := c.query.One(name)
	if err != nil {
		return "", badRequest(err)
	}
	return value, nil
}

// Values of a header that all answers share: Header.Set makes a new slice for
// each.
var (
	contentTypeJSON = []string{"application/json"}
	contentTypeText = []string{"text/plain; charset=utf-8"}
)

func answerText(w http.ResponseWriter, status int, text string) {
	w.Header()["Content-Type"] = contentTypeText
	w.Header().Set("Content-Length", strconv.Itoa(len(text)+1))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // the caller went away
}

// fail answers with one sentence of plain text (PROTOCOL §5.2): libraries show
// it to their user as it is, Laravel as "Pusher error: …", and none parses it.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) (status int) {
	f := a.failure(r, err)
	if f.limit != "" {
		a.cfg.Ledger.Count(f.limit)
	}
	if f.allow != "" {
		w.Header().Set("Allow", f.allow)
	}
	// What 503 is about passes in moments: a full queue, memory that is taken, a
	// log that is being mended.
	if f.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	answerText(w, f.status, f.text)
	return f.status
}

// failure turns an error into an answer; causes go to the log.
func (a *API) failure(r *http.Request, err error) *failure {
	var f *failure
	var refusal *pusher.PublishError
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, broker.ErrTooLarge):
		return failf(http.StatusRequestEntityTooLarge, "%v", err)
	case errors.As(err, &refusal):
		return refused(refusal)
	case errors.Is(err, receipt.ErrContent):
		return failf(http.StatusConflict, "The idempotency key was used for something else, this event is not published. A key belongs to one event, with all that it is sent with")
	case errors.Is(err, receipt.ErrUncertain):
		return failf(http.StatusConflict, "An earlier try with this idempotency key was broken off, and the channel has lost events since: whether it was published cannot be told any more. To publish it in any case, use another key")
	case errors.Is(err, receipt.ErrFull):
		return failf(http.StatusServiceUnavailable, "There is no room for another idempotency key (idempotency_bytes), try again")
	case errors.Is(err, receipt.ErrBusy):
		return failf(http.StatusServiceUnavailable, "An earlier try with this idempotency key is still under way, try again")
	case errors.Is(err, broker.ErrOverloaded):
		return failf(http.StatusServiceUnavailable, "Too many events are waiting to be stored, try again")
	case errors.Is(err, broker.ErrUnavailable), errors.Is(err, broker.ErrClosed):
		return failf(http.StatusServiceUnavailable, "The event log is not available at the moment, try again")
	case r.Context().Err() != nil:
		// The caller is gone; nobody reads the answer.
		return failf(http.StatusServiceUnavailable, "The request was cancelled")
	}
	// Method and path are the caller's text, as long as max_header_bytes allows.
	a.log.Error("request failed", slog.String("method", pusher.Cut(r.Method)), slog.String("path", pusher.Cut(r.URL.Path)), slog.Any("error", err))
	return failf(http.StatusInternalServerError, "Internal error, see the server's log")
}

// refused is the answer for an event that is not published.
func refused(r *pusher.PublishError) *failure {
	if r.TooLarge {
		return failf(http.StatusRequestEntityTooLarge, "%s", r.Reason)
	}
	return failf(http.StatusBadRequest, "%s", r.Reason)
}
