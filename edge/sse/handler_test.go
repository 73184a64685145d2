package sse

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"reecho/edge/app"
	"reecho/edge/limit"
	"reecho/edge/pusher"
)

// Streams and their socket ids have paths of their own, below the prefix.
func TestServes(t *testing.T) {
	t.Parallel()
	h := &Handler{cfg: Config{PathPrefix: "/rt"}}
	for path, want := range map[string]bool{
		"/rt/app/k/events": true, "/rt/app/k/events/": true, "/rt/app/k/events/socket_id": true, "/rt/app/k/events/socket_id/": true,
		"/app/k/events": false, "/rt/app/k": false, "/rt/app/events": false, "/rt/app/k/events/more": false,
		"/rt/session/s-1/app/k/events": false, "/rt/session//app/k/events": false, "/rt/app/k/socket_id": false,
	} {
		if got := h.Serves(path); got != want {
			t.Errorf("%s: got %v", path, got)
		}
	}
}

// A stream is what browsers and proxies need, byte by byte, and its id is a
// place from which it goes on.
func TestStream(t *testing.T) {
	t.Parallel()
	s := mustServe(t, Config{}, nil)
	response := s.do(http.MethodGet, "?channel=match.1")
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-cache, no-store, no-transform", "X-Accel-Buffering": "no", "Vary": "Origin",
	} {
		if got := response.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	text := make([]byte, 1+padding+len("\nretry: 1000\n\nid: "))
	if _, err := io.ReadFull(response.body, text); err != nil {
		t.Fatal(err)
	}
	if want := ":" + strings.Repeat(" ", padding) + "\nretry: 1000\n\nid: "; string(text) != want {
		t.Errorf("a stream begins with %q", text)
	}
	a := s.stream("channel=match.1&channel=match.2")
	a.want(":\nretry: 1000\n", "id\n", "id\n")
	if !regexp.MustCompile(`^2~[0-9a-z]+~[0-9A-Za-z]+-[0-9a-z]+-0~[0-9A-Za-z]+-[0-9a-z]+-0~[0-9a-z]+$`).MatchString(a.id) {
		t.Errorf("the id is %q", a.id)
	}
	s.publish("match.1", "1", "2")
	a.want(score("1"))
	_ = a.body.Close()
	s.publish("match.1", "3")
	b := s.stream("channel=match.1&cursor=1", "Last-Event-ID", a.id)
	b.want(":\nretry: 1000\n", "event: cursor\ndata: {}\nid\n",
		`data: {"event":"reecho:resumed","channel":"match.1","data":"{\"complete\":true,\"events\":2}"}`+"\nid\n", score("2"), score("3"))
	c := s.stream("channel=match.1&lastEventId=1~x")
	c.want(":\nretry: 1000\n",
		`data: {"event":"reecho:gap","channel":"match.1","data":"{\"complete\":false,\"events\":0,\"reason\":\"unknown_position\"}"}`+"\nid\n")
	d := s.stream("channel=match.1&last=2")
	d.want(":\nretry: 1000\n", "id\n", score("2"), score("3"))
}

// The first poll has its answer when it stands somewhere; the next when there
// is an event. That it is one of many is not told.
func TestPoll(t *testing.T) {
	t.Parallel()
	s := mustServe(t, Config{}, func(a *app.App) { a.SubscriptionCounts = true })
	a := s.stream("channel=match.1&poll=1")
	a.want("retry: 50\n", "id\n")
	if left := a.block(); left != "" {
		t.Errorf("got %q behind the answer", left)
	}
	s.publish("match.1", "1")
	b := s.stream("channel=match.1&poll=1&last_event_id=" + a.id)
	b.want("retry: 50\n", "id\n", score("1"))
	_, _ = io.Copy(io.Discard, b.body) // it is over
	mustPoll(t, "the polls to leave", func() bool { return s.hub.Connections(s.app) == 0 })
	// A gap is an answer.
	c := s.stream("channel=match.1&poll=1&lastEventId=1~x")
	c.want("retry: 50\n", `data: {"event":"reecho:gap","channel":"match.1","data":"{\"complete\":false,\"events\":0,\"reason\":\"unknown_position\"}"}`+"\nid\n")
}

// Who may not read is told so with a status, before a stream begins.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := mustServe(t, Config{}, func(a *app.App) {
		a.AllowedOrigins = mustOrigins(t, "example.com")
		a.Limits.MaxConnections = 1
	})
	s.want(http.StatusBadRequest, "Name 1 to", "GET", "")
	s.want(http.StatusForbidden, "Origin not allowed", "GET", "?channel=a", "Origin", "https://example.org")
	s.want(http.StatusUnauthorized, "GET /app/"+testKey+"/events/socket_id for one", "GET", "?channel=private-a")
	if allow := s.want(http.StatusMethodNotAllowed, "with GET", "POST", "?channel=a").Get("Allow"); allow != "GET, HEAD, OPTIONS" {
		t.Errorf("Allow: %s", allow)
	}
	s.want(http.StatusMethodNotAllowed, "with GET", "DELETE", "/socket_id")
	s.want(http.StatusOK, "", "HEAD", "?channel=a")
	s.want(http.StatusNoContent, "", "OPTIONS", "?channel=a", "Origin", "https://example.com")
	open := s.stream("channel=match.1")
	open.want(":\nretry: 1000\n", "id\n")
	if after := s.want(http.StatusServiceUnavailable, "max_connections", "GET", "?channel=a").Get("Retry-After"); after != "5" {
		t.Errorf("Retry-After: %s", after)
	}
}

// The bounds of a node and of an address hold, and are counted.
func TestBounds(t *testing.T) {
	t.Parallel()
	ledger := limit.NewLedger(slog.New(slog.DiscardHandler))
	s := mustServe(t, Config{EventStreams: 3, EventStreamsPerAddress: 2, Ledger: ledger}, nil)
	for range 2 {
		open := s.stream("channel=match.1")
		open.want(":\nretry: 1000\n", "id\n")
	}
	s.want(http.StatusTooManyRequests, "event_streams_per_address is 2", "GET", "?channel=a")
	s.handler.counts.open.Add(1)
	s.want(http.StatusServiceUnavailable, "event_streams is 3", "GET", "?channel=a")
	s.handler.counts.open.Add(-1)
	if nodes, addresses := ledger.Total(limit.EventStreams), ledger.Total(limit.AddressStreams); nodes != 1 || addresses != 1 {
		t.Errorf("the ledger has %d and %d, want one each", nodes, addresses)
	}
	if n := s.handler.counts.open.Load(); n != 2 {
		t.Errorf("%d streams are counted, want 2", n)
	}
}

// While the hub closes, streams end so that their clients come back, and those
// that come are sent away in the same manner.
func TestClosingHub(t *testing.T) {
	t.Parallel()
	s := mustServe(t, Config{}, nil)
	open := s.stream("channel=match.1")
	open.want(":\nretry: 1000\n", "id\n")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.hub.Close(ctx, 0); err != nil {
		t.Error(err)
	}
	open.want("")
	s.want(http.StatusOK, "retry: 1000\n\n", "GET", "?channel=match.1")
}

// A client that hangs up while a long replay waits for it to read leaves
// nothing behind.
func TestHangUp(t *testing.T) {
	t.Parallel()
	s := mustServe(t, Config{}, nil)
	for range 300 {
		s.publish("match.1", strings.Repeat("x", 10_000))
	}
	e := s.stream("channel=match.1&channel=match.2&last=300")
	e.want(":\nretry: 1000\n")
	_ = e.body.Close()
	mustPoll(t, "the client to be gone", func() bool { return s.hub.Connections(s.app) == 0 })
	if n := s.hub.Channel(t.Context(), s.app, "match.1").Subscriptions; n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
	mustPoll(t, "its place to be free", func() bool { return s.handler.counts.open.Load() == 0 })
}

// A socket id, what is signed for it, and the end of both: the stream reads its
// private channel and its user's, and ends when the user is terminated.
func TestAuthorized(t *testing.T) {
	t.Parallel()
	s := mustServe(t, Config{}, nil)
	issue := func() string {
		var issued struct {
			ID      string `json:"socket_id"`
			Expires int64  `json:"expires"`
		}
		if err := json.NewDecoder(s.do("POST", "/socket_id").body).Decode(&issued); err != nil {
			t.Fatal(err)
		}
		if ends := time.Until(time.Unix(issued.Expires, 0)); ends < app.DefaultStreamAuthorizationTime-time.Minute || ends > app.DefaultStreamAuthorizationTime {
			t.Errorf("ends in %v", ends)
		}
		return issued.ID
	}
	id := issue()
	headers := []string{
		headerAuth, "private-a " + testKey + ":" + pusher.Sign(testSecret, id+":private-a"),
		headerUserAuth, testKey + ":" + pusher.Sign(testSecret, id+`::user::{"id":"alice"}`),
		headerUserData, "%7B%22id%22:%22alice%22%7D",
	}
	query := "?channel=private-a&channel=%23server-to-user-alice&socket_id=" + id
	e := s.stream(query[1:], headers...)
	e.want(":\nretry: 1000\n", "id\n", "id\n")
	s.publish("#server-to-user-alice", "1")
	e.want(`data: {"event":"score","channel":"#server-to-user-alice","data":"1"}` + "\nid\n")
	s.hub.Terminate(t.Context(), s.app, "alice")
	e.want("")
	s.want(http.StatusUnauthorized, "terminated", "GET", query, headers...)
	if again := issue(); again == id {
		t.Error("the same id again")
	}
}

// Each mistake about who one is has its answer.
func TestUnauthorized(t *testing.T) {
	t.Parallel()
	tenant := mustTenant(t, func(a *app.App) { a.AuthorizedConnections = true })
	issued, _ := tenant.IssueID(testSecret)
	id := issued.String()
	old := pusher.NewStreamID(testSecret, "77", time.Now().Add(-time.Second)).String()
	sign := func(text string) string { return testKey + ":" + pusher.Sign(testSecret, text) }
	alice := `{"id":"alice"}`
	for name, tt := range map[string]struct {
		channel, id, auth, user, data string
		status                        int // 0: read
		part                          string
	}{
		"signed":          {"private-a", id, sign(id + ":private-a"), "", "", 0, ""},
		"signed in":       {"match.1", id, "", sign(id + "::user::" + alice), alice, 0, ""},
		"own channel":     {"#server-to-user-alice", id, "", sign(id + "::user::" + alice), alice, 0, ""},
		"other's channel": {"#server-to-user-bob", id, "", sign(id + "::user::" + alice), alice, 401, "Not signed in as the user"},
		"not signed":      {"private-a", id, "", "", "", 401, "private-a"},
		"forged":          {"private-a", id, testKey + ":00", "", "", 401, "signature"},
		"no id":           {"private-a", "", sign(id + ":private-a"), "", "", 401, "needs a socket_id"},
		"made up":         {"private-a", "1.2", sign("1.2:private-a"), "", "", 401, "was not issued"},
		"expired":         {"private-a", old, sign(old + ":private-a"), "", "", 401, "has expired"},
		"no id at all":    {"match.1", "nobody", "", "", "", 400, "socket_id"},
		"half a sign-in":  {"match.1", id, "", sign(id + "::user::" + alice), "", 400, "belong together"},
		"forged sign-in":  {"match.1", id, "", testKey + ":00", alice, 401, "signature"},
		"nobody":          {"match.1", "", "", "", "", 401, "authorised connections only"},
	} {
		q := &query{channels: []string{tt.channel}, values: map[string]string{paramSocketID: tt.id, paramUserAuth: tt.user, paramUserData: tt.data}}
		_, err := authorize(tenant, "/ids", []pusher.Subscribe{{Channel: tt.channel, Auth: tt.auth}}, q)
		var got *refusal
		switch status := statusOf(err, &got); {
		case status != tt.status:
			t.Errorf("%s: got %d (%v), want %d", name, status, err, tt.status)
		case got != nil && !strings.Contains(strings.ToLower(got.text), strings.ToLower(tt.part)):
			t.Errorf("%s: got %q, want %q", name, got.text, tt.part)
		}
	}
	tenant.UserAuthentication = false
	q := &query{values: map[string]string{paramSocketID: id, paramUserAuth: sign(id + "::user::" + alice), paramUserData: alice}}
	if _, err := authorize(tenant, "/ids", nil, q); statusOf(err, new(*refusal)) != http.StatusForbidden {
		t.Errorf("a sign-in where there is none: %v", err)
	}
}

// Every number that is negative is reported, and nothing is served then.
func TestConfig(t *testing.T) {
	t.Parallel()
	_, err := New(Config{EventStreams: -1, EventStreamsPerAddress: -1, MaxQueuedBytes: -1, WriteTimeout: -1}, nil)
	if err == nil || strings.Count(err.Error(), "must not be negative") != 4 {
		t.Errorf("got %v", err)
	}
	h, err := New(Config{EventStreams: 7}, nil)
	if err != nil || h.cfg.EventStreams != 7 || h.cfg.EventStreamsPerAddress != DefaultEventStreamsPerAddress || h.cfg.Budget == nil {
		t.Errorf("got %+v, %v", h, err)
	}
}

// statusOf is the status of a refusal, 0 of none, -1 of another error.
func statusOf(err error, got **refusal) int {
	r, ok := err.(*refusal) //nolint:errorlint // as it is returned
	switch {
	case err == nil:
		return 0
	case !ok:
		return -1
	}
	*got = r
	return r.status
}

func mustOrigins(t *testing.T, patterns ...string) []app.Origin {
	t.Helper()
	all, err := app.ParseOrigins(patterns...)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
