package node_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"reecho/broker/brokertest/seed"
	"reecho/edge/app"
	"reecho/edge/pusher"
)

// eventsPath is where event streams of the demo app are.
const eventsPath = "/app/" + key + "/events"

// answer is the head of one.
type answer struct {
	StatusCode int
	Status     string
	Header     http.Header
}

// ask makes a request without waiting for the end of a stream.
func (s *server) ask(t *testing.T, method, target string, header http.Header) (answer, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.addr+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		r.Header = header
	}
	response, err := apiClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	head := answer{response.StatusCode, response.Status, response.Header}
	if head.StatusCode == http.StatusOK && head.Header.Get("Content-Type") == "text/event-stream" {
		return head, ""
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return head, string(text)
}

// wantStatus expects an answer, with part in its text.
func (s *server) wantStatus(t *testing.T, query url.Values, status int, part string) {
	t.Helper()
	response, text := s.ask(t, http.MethodGet, eventsPath+"?"+query.Encode(), nil)
	if response.StatusCode != status || !strings.Contains(text, part) {
		t.Errorf("%v: %s %q, want %d %q", query, response.Status, text, status, part)
	}
}

// streamID gets a socket id for event streams.
func (s *server) streamID(t *testing.T, method string) (id string, expires time.Time) {
	t.Helper()
	response, text := s.ask(t, method, eventsPath+"/socket_id", nil)
	var answer struct {
		SocketID string `json:"socket_id"`
		Expires  int64  `json:"expires"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s %s", response.Status, text)
	}
	if c := response.Header.Get("Cache-Control"); c != "no-store" {
		t.Errorf("Cache-Control is %q", c)
	}
	return answer.SocketID, time.Unix(answer.Expires, 0)
}

// signed is the query for a stream of channels, those that need it signed.
func signed(id string, channels ...string) url.Values {
	query := url.Values{"socket_id": {id}, "channel": channels}
	for _, name := range channels {
		if pusher.KindOf(name).Has(pusher.Private) {
			query.Set("auth["+name+"]", key+":"+pusher.Sign(secret, id+":"+name))
		}
	}
	return query
}

// withUser adds a sign-in.
func withUser(query url.Values, userData string) url.Values {
	query.Set("user_data", userData)
	query.Set("user_auth", key+":"+pusher.Sign(secret, query.Get("socket_id")+"::user::"+userData))
	return query
}

// Socket ids of streams: GET and POST, in the form that libraries insist on,
// for the app's keys, over restarts and on every node.
func TestStreamSocketID(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		id, expires := s.streamID(t, method)
		if !regexp.MustCompile(`\A\d+\.\d+\z`).MatchString(id) {
			t.Errorf("%s: %q is no socket id", method, id)
		}
		if left := time.Until(expires); left < app.DefaultStreamAuthorizationTime-time.Minute || left > app.DefaultStreamAuthorizationTime {
			t.Errorf("%s: ends in %v", method, left)
		}
		s.stream(t, signed(id, "private-chat", "match.1"), "").wantID(2)
		other := startServer(t)
		other.stream(t, signed(id, "private-chat"), "").wantID(1)
	}
	for target, status := range map[string]int{
		eventsPath + "/socket_id/": http.StatusOK, eventsPath + "/?channel=match.1": http.StatusOK, "/app/nobody/events/socket_id": http.StatusNotFound, eventsPath + "/socket_ids": http.StatusNotFound,
	} {
		if response, text := s.ask(t, http.MethodGet, target, nil); response.StatusCode != status {
			t.Errorf("%s: %s %s", target, response.Status, text)
		}
	}
}

// An auth string for any other socket id opens nothing: a WebSocket's, a
// made-up one, another app's, one that was tampered with.
func TestStreamSocketIDRefused(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(seed.First(t), 0))
	s := startServer(t, demoApp(), demoApp(func(a *app.App) {
		a.ID, a.Credentials = "78", []app.Credential{{Key: "other", Secret: secret}}
	}))
	id, _ := s.streamID(t, http.MethodGet)
	a, b, _ := strings.Cut(id, ".")
	later, _ := strconv.ParseUint(a, 10, 64)
	refused := map[string]string{
		"a WebSocket's":  s.connect(t).socketID,
		"made up":        "123.456",
		"later":          strconv.FormatUint(later+1<<30, 10) + "." + b,
		"another app's":  pusher.NewStreamID(secret, "78", time.Now().Add(time.Hour)).String(),
		"another secret": pusher.NewStreamID("guessed", appID, time.Now().Add(time.Hour)).String(),
		"too large":      "99999999999999999999." + b,
		"a zero before":  "0" + id,
	}
	for range 20 {
		forged := strconv.FormatUint(r.Uint64()|1<<60, 10) + "." + strconv.FormatUint(r.Uint64()|1, 10)
		refused["random "+forged] = forged
	}
	for name, id := range refused {
		for _, channel := range []string{"private-chat", "private-encrypted-chat", "private-cache-chat"} {
			response, text := s.ask(t, http.MethodGet, eventsPath+"?"+signed(id, "match.1", channel).Encode(), nil)
			if response.StatusCode != http.StatusUnauthorized || !strings.Contains(text, "GET "+eventsPath+"/socket_id") {
				t.Errorf("%s: %s %s", name, response.Status, text)
			}
		}
		s.wantStatus(t, withUser(signed(id, "match.1"), `{"id":"alice"}`), http.StatusUnauthorized, "/socket_id")
		// For public channels an id only says whose events to leave out.
		s.stream(t, signed(id, "match.1"), "").wantID(1)
	}
	s.wantStatus(t, url.Values{"channel": {"private-chat"}}, http.StatusUnauthorized, "GET "+eventsPath+"/socket_id")
	s.wantStatus(t, signed(strings.Repeat("1", 2000)+".2", "match.1"), http.StatusBadRequest, "limit 20")
	ended := pusher.NewStreamID(secret, appID, time.Now().Add(-time.Millisecond)).String()
	s.wantStatus(t, signed(ended, "private-chat"), http.StatusUnauthorized, "expired")
	good := signed(id, "private-chat")
	good.Set("auth[private-chat]", key+":"+pusher.Sign(secret, id+":private-other"))
	s.wantStatus(t, good, http.StatusUnauthorized, "Invalid signature")
}

// A stream ends with its socket id, and one with a new id goes on where it was.
func TestStreamExpires(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.StreamAuthorizationTime = 3 * time.Second }))
	id, _ := s.streamID(t, http.MethodGet)
	query := signed(id, "private-chat")
	a := s.stream(t, query, "")
	a.wantID(1)
	s.scores("private-chat", 1, 2)
	a.wantScores("private-chat", 1, 2)
	if data, more := a.next(); more { // until it ends
		t.Fatalf("got %s", data)
	}
	s.scores("private-chat", 3, 3)
	s.wantStatus(t, query, http.StatusUnauthorized, "expired")
	id, _ = s.streamID(t, http.MethodGet)
	query = signed(id, "private-chat")
	query.Set("lastEventId", a.lastID)
	b := s.stream(t, query, "")
	if data, _ := b.next(); !strings.Contains(data, "reecho:resumed") {
		t.Fatalf("got %s", data)
	}
	b.wantScores("private-chat", 3, 3)
	// What nothing was authorised for goes on.
	public := s.stream(t, signed(pusher.NewStreamID(secret, appID, time.Now()).String(), "match.1"), "")
	public.wantID(1)
	s.scores("match.1", 1, 1)
	public.wantScores("match.1", 1, 1)
}

// A page that has to make a new EventSource must know where the old one was,
// also when no event came: cursor=1 says it as an event of a type of its own.
func TestStreamTellsItsCursor(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a := s.streamRaw(t, "channel=match.1&cursor=1", "")
	if data, ok := a.next(); !ok || data != "{}" || a.event != "cursor" || a.lastID == "" {
		t.Fatalf("got %q of type %q, id %q", data, a.event, a.lastID)
	}
	a.hang()
	s.scores("match.1", 1, 1)
	b := s.streamRaw(t, "channel=match.1&cursor=1&lastEventId="+url.QueryEscape(a.lastID), "")
	for _, want := range []string{"cursor", "", ""} {
		data, _ := b.next()
		if b.event != want {
			t.Errorf("got %s of type %q, want %q", data, b.event, want)
		}
	}
}

// toOthers: an event published with a stream's socket id does not go to it, live
// and in what it missed.
func TestStreamExclusion(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	id, _ := s.streamID(t, http.MethodGet)
	query := signed(id, "private-chat")
	a := s.stream(t, query, "")
	a.wantID(1)
	others, all := s.connect(t), s.connect(t)
	others.subscribe("private-chat")
	all.subscribe("private-chat")
	// What was not delivered yet when a stream comes back is not missed: it comes
	// live then.
	delivered := func() {
		t.Helper()
		all.wantOn("private-chat", "score")
		all.wantOn("private-chat", "score")
	}
	s.publish("private-chat", "score", "own", id)
	s.publish("private-chat", "score", "1", "")
	others.wantOn("private-chat", "score")
	others.wantOn("private-chat", "score")
	delivered()
	a.wantScores("private-chat", 1, 1)
	a.hang()
	s.publish("private-chat", "score", "own", id)
	s.publish("private-chat", "score", "2", others.socketID)
	delivered()
	b := s.stream(t, query, a.lastID)
	if data, _ := b.next(); !strings.Contains(data, `\"events\":1`) {
		t.Errorf("got %s", data)
	}
	b.wantScores("private-chat", 2, 2)
	b.hang()
	// Nor under a new id, if the client says what it was before.
	s.publish("private-chat", "score", "own", id)
	s.publish("private-chat", "score", "3", "")
	delivered()
	next, _ := s.streamID(t, http.MethodGet)
	query = signed(next, "private-chat")
	query["except"] = []string{id}
	for i := range 20 { // of a day
		query.Add("except", fmt.Sprintf("1.%d", i))
	}
	c := s.stream(t, query, b.lastID)
	if data, _ := c.next(); !strings.Contains(data, `\"events\":1`) {
		t.Errorf("got %s", data)
	}
	c.wantScores("private-chat", 3, 3)
	tooLong := map[string]any{"name": "score", "channel": "private-chat", "data": "x", "socket_id": "1." + strings.Repeat("2", 200_000)}
	if status, body := s.call("POST", "/apps/"+appID+"/events", nil, mustJSON(t, tooLong)); status != http.StatusBadRequest || len(body) > 500 {
		t.Errorf("a long socket_id: %d %.600s", status, body)
	}
}

// authorized_connections: a stream with nothing authorised is refused at once.
func TestStreamAuthorizedConnections(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.AuthorizedConnections, a.AuthorizationTimeout = true, time.Nanosecond }))
	id, _ := s.streamID(t, http.MethodGet)
	s.wantStatus(t, url.Values{"channel": {"match.1"}}, http.StatusUnauthorized, "authorised connections")
	s.wantStatus(t, signed(id, "match.1"), http.StatusUnauthorized, "authorised connections")
	for _, query := range []url.Values{signed(id, "match.1", "private-chat"), withUser(signed(id, "match.1"), `{"id":"alice"}`)} {
		e := s.stream(t, query, "")
		e.wantID(len(query["channel"]))
		s.publish("match.1", "score", "1", "")
		e.wantScores("match.1", 1, 1)
	}
}

// A user signs in on a stream as on a WebSocket, gets the events for it, and is
// online.
func TestStreamSignIn(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.Watchlist = true }))
	id, _ := s.streamID(t, http.MethodGet)
	mine := pusher.UserChannel("alice")
	watcher := s.connect(t)
	watcher.signIn(`{"id":"bob","watchlist":["alice"]}`)
	watcher.want("pusher_internal:watchlist_events")
	a := s.stream(t, withUser(signed(id, mine, "match.1"), `{"id":"alice","user_info":{"name":"Zoë"},"watchlist":["bob"]}`), "")
	a.wantID(2)
	if f := watcher.want("pusher_internal:watchlist_events"); !strings.Contains(f.raw, "alice") || !strings.Contains(f.raw, "online") {
		t.Errorf("got %s", f.raw)
	}
	s.publish(mine, "score", "1", "")
	for {
		data, ok := a.next()
		if !ok {
			t.Fatal("the stream ended")
		}
		if strings.Contains(data, "watchlist_events") {
			continue
		}
		if want := `{"event":"score","channel":"` + mine + `","data":"1"}`; data != want {
			t.Errorf("got %s, want %s", data, want)
		}
		break
	}
	for _, tt := range []struct {
		query  url.Values
		status int
		part   string
	}{
		{signed(id, mine), 401, "Not signed in"},
		{withUser(signed(id, mine), `{"id":"bob"}`), 401, "Not signed in"},
		{withUser(signed(id, "match.1"), `{"id":""}`), 401, "Invalid user_data"},
		{withUser(signed(id, "match.1"), `{"id":"a`+"\xff"+`"}`), 400, "UTF-8"},
		{url.Values{"channel": {"match.1"}, "socket_id": {id}, "user_data": {`{"id":"alice"}`}}, 400, "belong together"},
		{url.Values{"channel": {"match.1"}, "socket_id": {id}, "user_data": {`{"id":"alice"}`}, "user_auth": {key + ":00"}}, 401, "Invalid signature"},
	} {
		s.wantStatus(t, tt.query, tt.status, tt.part)
	}
	off := startServer(t, demoApp(func(a *app.App) { a.UserAuthentication = false }))
	id, _ = off.streamID(t, http.MethodGet)
	off.wantStatus(t, withUser(signed(id, "match.1"), `{"id":"alice"}`), http.StatusForbidden, "not enabled")
}

// What may stand in the query may stand in headers, which are not logged.
func TestStreamAuthHeaders(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	id, _ := s.streamID(t, http.MethodGet)
	mine := pusher.UserChannel("alice")
	const userData = `{"id":"alice","user_info":{"name":"Zoë"}}`
	query := withUser(signed(id, "private-a", "private-b"), userData)
	header := http.Header{
		"X-Reecho-Auth":      {"private-a " + query.Get("auth[private-a]") + ", private-b " + query.Get("auth[private-b]")},
		"X-Reecho-User-Auth": {query.Get("user_auth")},
	}
	target := eventsPath + "?" + url.Values{"socket_id": {id}, "channel": {"private-a", "private-b", mine}}.Encode()
	for _, data := range []string{userData, url.PathEscape(userData)} {
		header.Set("X-Reecho-User-Data", data)
		if response, text := s.ask(t, http.MethodGet, target, header); response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %s", data, response.Status, text)
		}
	}
	for _, bad := range []http.Header{{"X-Reecho-Auth": {"private-a"}}, {"X-Reecho-User-Auth": {key + ":00"}}, {"X-Reecho-User-Auth": {key + ":00"}, "X-Reecho-User-Data": {"%zz"}}} {
		if response, text := s.ask(t, http.MethodGet, target, bad); response.StatusCode != http.StatusBadRequest {
			t.Errorf("%v: %s %s", bad, response.Status, text)
		}
	}
}

// terminate_connections ends a user's streams, and what their socket ids open,
// also while the client is on its way back.
func TestStreamTerminate(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	terminate := func() {
		t.Helper()
		if status, body := s.call("POST", "/apps/"+appID+"/users/alice/terminate_connections", nil, "{}"); status != 200 || body != "{}" {
			t.Fatalf("terminate: %d %s", status, body)
		}
	}
	id, _ := s.streamID(t, http.MethodGet)
	before, _ := s.streamID(t, http.MethodGet)
	query := withUser(signed(id, "private-chat"), `{"id":"alice"}`)
	a := s.stream(t, query, "")
	a.wantID(1)
	bob := s.stream(t, withUser(signed(before, "private-chat"), `{"id":"bob"}`), "")
	bob.wantID(1)
	terminate()
	if data, more := a.next(); more {
		t.Errorf("got %s", data)
	}
	s.wantStatus(t, query, http.StatusUnauthorized, "terminated")
	// Nor without saying who it is, nor with another id that she had.
	s.wantStatus(t, signed(id, "private-chat"), http.StatusUnauthorized, "terminated")
	s.wantStatus(t, withUser(signed(before, "private-chat"), `{"id":"alice"}`), http.StatusUnauthorized, "terminated")
	s.publish("private-chat", "score", "1", "")
	bob.wantScores("private-chat", 1, 1)

	// A new authorisation opens streams again, at once.
	for range 20 {
		id, _ = s.streamID(t, http.MethodGet)
		query = withUser(signed(id, "private-chat"), `{"id":"alice"}`)
		poller := s.stream(t, url.Values{"poll": {"1"}, "channel": query["channel"], "socket_id": {id}, "user_data": query["user_data"], "user_auth": query["user_auth"], "auth[private-chat]": query["auth[private-chat]"]}, "")
		for more := true; more; {
			_, more = poller.next()
		}
		// Between two polls nobody is there.
		terminate()
		s.wantStatus(t, signed(id, "private-chat"), http.StatusUnauthorized, "terminated")
	}
}
