package xhr

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"reecho/edge/app"
	"reecho/edge/limit"
)

// PROTOCOL J-160, J-161: a stream begins with o and connection_established, stays open,
// and what is sent beside it is answered on it.
func TestStream(t *testing.T) {
	t.Parallel()
	s := mustServe(t, Config{}, nil)
	p := s.peer("1/abcdefgh")
	st := p.stream()
	p.established(st.must)
	p.send(p.subscription("private-chat", ""), `{"event":"pusher:subscribe","data":{"channel":"chat"}}`)
	p.want("pusher_internal:subscription_succeeded", st.must)
	p.want("pusher_internal:subscription_succeeded", st.must)
	s.publish("1")
	if m := p.want("score", st.must); m != `{"event":"score","channel":"chat","data":"1"}` {
		t.Errorf("got %s", m)
	}
	// Without a prefix, as another client and with a trailing slash.
	other := s.peer("2/abcdefgh")
	other.path = "/app/" + testKey + "/2/abcdefgh"
	os := other.stream()
	other.established(os.must)
	other.send(other.subscription("private-chat", ""))
	other.want("pusher_internal:subscription_succeeded", os.must)
	other.send(`{"event":"client-hello","channel":"private-chat","data":{"a":"é\"\\"}}`)
	if m := p.want("client-hello", st.must); !strings.Contains(m, `"data":"{\"a\":\"é\\\"\\\\\"}"`) {
		t.Errorf("got %s", m)
	}
	if p.opened != 1 || p.beats != 0 {
		t.Errorf("%d times o, %d times h", p.opened, p.beats)
	}
}

// PROTOCOL J-163: each poll is answered with all that waits, or waits itself, and the
// session goes on.
func TestPoll(t *testing.T) {
	t.Parallel()
	s := mustServe(t, Config{}, nil)
	p := s.peer("1/abcdefgh")
	p.established(p.poll)
	p.send(p.subscription("chat", ""))
	p.want("pusher_internal:subscription_succeeded", p.poll)
	for i := range 3 {
		s.publish(fmt.Sprint(i))
	}
	for i := range 3 {
		if m := p.want("score", p.poll); !strings.Contains(m, fmt.Sprintf(`"data":"%d"`, i)) {
			t.Errorf("got %s", m)
		}
	}
	published := make(chan struct{})
	go func() {
		defer close(published)
		until(t, "the poll to wait", func() bool { return s.isReceiving(p) })
		s.publish("late")
	}()
	p.want("score", p.poll)
	<-published
	if p.opened != 1 {
		t.Errorf("%d times o", p.opened)
	}
}

// isReceiving reports whether a request of the peer waits for something.
func (s *server) isReceiving(p *peer) bool {
	session := s.handler.find(strings.TrimPrefix(p.path, "/pusher/app/"))
	if session == nil {
		return false
	}
	session.mu.Lock()
	defer session.mu.Unlock()
	return session.receiver != nil
}

// PROTOCOL J-162: pusher-js leaves a stream that has got long, wherever it is then. It
// loses nothing by that, and there is no second o.
func TestStreamReopened(t *testing.T) {
	t.Parallel()
	s := mustServe(t, Config{}, func(a *app.App) { a.Limits.EventDataBytes = 100 << 10 })
	p := s.peer("1/abcdefgh")
	st := p.stream()
	p.established(st.must)
	p.send(p.subscription("chat", ""))
	p.want("pusher_internal:subscription_succeeded", st.must)
	go func() {
		for i := range 100 {
			s.publish(fmt.Sprintf("%03d%s", i, strings.Repeat("é", 5000)))
		}
	}()
	streams := 1
	read := func() {
		// As pusher-js does it: what came behind the end of this line is thrown away.
		if st.size > streamUnits {
			st.hang()
			st = p.stream()
			streams++
		}
		st.must()
	}
	for i := range 100 {
		if m := p.want("score", read); !strings.Contains(m, fmt.Sprintf(`"data":"%03d`, i)) {
			t.Fatalf("event %d is %.60s", i, m)
		}
	}
	if p.opened != 1 || streams < 2 {
		t.Errorf("%d times o on %d streams", p.opened, streams)
	}
}

// A second receiver takes the place of the first, which ends; nothing is lost.
func TestReceiverReplaced(t *testing.T) {
	t.Parallel()
	s := mustServe(t, Config{}, nil)
	p := s.peer("1/abcdefgh")
	first := p.stream()
	p.established(first.must)
	p.send(p.subscription("chat", ""))
	p.want("pusher_internal:subscription_succeeded", first.must)
	second := p.stream()
	s.publish("1")
	p.want("score", second.must)
	if first.more() {
		t.Error("the first one goes on")
	}
	if p.opened != 1 || s.open() != 1 {
		t.Errorf("%d times o, %d sessions", p.opened, s.open())
	}
}

// PROTOCOL J-164: h comes by itself, and is the answer to nothing.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	s := mustServe(t, Config{Heartbeat: 2 * time.Second}, nil)
	p, polled := s.peer("1/abcdefgh"), s.peer("2/abcdefgh")
	st := p.stream()
	p.established(st.must)
	polled.established(polled.poll)
	for range 20 {
		if status, _ := p.post("[]"); status != http.StatusNoContent {
			t.Fatal(status)
		}
	}
	p.send(`{"event":"pusher:ping","data":{}}`)
	before := p.beats
	p.want("pusher:pong", st.must)
	if p.beats > before+2 {
		t.Errorf("%d heartbeats for 20 signs of life", p.beats)
	}
	for before = p.beats; p.beats == before; {
		st.must()
	}
	for polled.beats == 0 {
		polled.poll()
	}
}

// A session whose client receives no more is over after a while, for others too.
func TestDisconnect(t *testing.T) {
	t.Parallel()
	s := mustServe(t, Config{DisconnectDelay: time.Second}, nil)
	alice, bob := s.peer("1/abcdefgh"), s.peer("2/abcdefgh")
	as, bs := alice.stream(), bob.stream()
	alice.established(as.must)
	bob.established(bs.must)
	alice.send(alice.subscription("presence-room", `{"user_id":"alice"}`))
	alice.want("pusher_internal:subscription_succeeded", as.must)
	bob.send(bob.subscription("presence-room", `{"user_id":"bob"}`))
	bob.want("pusher_internal:subscription_succeeded", bs.must)
	alice.want("pusher_internal:member_added", as.must)
	bs.hang()
	alice.want("pusher_internal:member_removed", as.must)
	until(t, "the session to be over", func() bool { return s.open() == 1 })
	if status, _ := bob.post("[]"); status != http.StatusNotFound {
		t.Errorf("got %d", status)
	}
	// What receives for it begins anew, which the client understands.
	bs = bob.stream()
	bob.established(bs.must)
	if bob.opened != 2 {
		t.Errorf("%d times o", bob.opened)
	}
}

// PROTOCOL J-165: a client is told why it is closed, on a stream, and with a poll also
// when none waits at the moment.
func TestClose(t *testing.T) {
	t.Parallel()
	s := mustServe(t, Config{}, nil)
	p, polled := s.peer("1/abcdefgh"), s.peer("2/abcdefgh")
	st := p.stream()
	p.established(st.must)
	polled.established(polled.poll)
	for _, each := range []*peer{p, polled} {
		each.server.handler.find(testKey+strings.TrimPrefix(each.path, "/pusher/app/"+testKey)).Close(4009, `told "so"`)
	}
	for st.more() {
	}
	polled.poll()
	for _, each := range []*peer{p, polled} {
		if each.ended != `c[4009,"told \"so\""]` {
			t.Errorf("got %s", each.ended)
		}
	}
	until(t, "both to be over", func() bool { return s.open() == 0 })
}

// Who gets no session is told why, as on a WebSocket, and how to go on.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := mustServe(t, Config{Sessions: 3, SessionsPerAddress: 2}, func(a *app.App) {
		a.Limits.MaxConnections = 2
		a.AllowedOrigins, _ = app.ParseOrigins("https://example.com")
	})
	for name, tt := range map[string]struct{ path, origin, want string }{
		"app":      {"/pusher/app/nope/1/abcdefgh/xhr_streaming" + testQuery, "", "c[4001,"},
		"protocol": {"/pusher/app/" + testKey + "/1/abcdefgh/xhr?protocol=3", "", "c[4007,"},
		"none":     {"/pusher/app/" + testKey + "/2/abcdefgh/xhr", "", "c[4008,"},
		"origin":   {"/pusher/app/" + testKey + "/3/abcdefgh/xhr" + testQuery, "https://x.test", "c[4009,"},
		"session":  {"/session/short/app/" + testKey + "/4/abcdefgh/xhr" + testQuery, "", "c[4005,"},
	} {
		r := s.request(t.Context(), http.MethodPost, tt.path, "")
		if tt.origin != "" {
			r.Header.Set("Origin", tt.origin)
		}
		got := s.do(r)
		if got.status != http.StatusOK || !strings.HasPrefix(got.body, "o{}\na[") || !strings.Contains(got.body, "\n"+tt.want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	until(t, "those refused to be over", func() bool { return s.open() == 0 })
	first, second := s.peer("1/abcdefgh"), s.peer("2/abcdefgh")
	first.established(first.poll)
	second.established(second.poll)
	third := s.peer("3/abcdefgh")
	third.poll()
	if !strings.HasPrefix(third.ended, `c[4100,"Over capacity: your address has`) || !strings.Contains(third.ended, "xhr_sessions_per_address") {
		t.Errorf("got %s", third.ended)
	}
}

// The limits of the node and of the app count these clients too.
func TestLimits(t *testing.T) {
	t.Parallel()
	ledger := limit.NewLedger(slog.New(slog.DiscardHandler))
	s := mustServe(t, Config{Sessions: 1, Ledger: ledger}, nil)
	first, second := s.peer("1/abcdefgh"), s.peer("2/abcdefgh")
	first.established(first.poll)
	if second.poll(); !strings.Contains(second.ended, "(xhr_sessions)") || ledger.Total(limit.XHRSessions) != 1 {
		t.Errorf("got %s", second.ended)
	}
	s = mustServe(t, Config{Sessions: 2}, func(a *app.App) { a.Limits.MaxConnections = 1 })
	first, second = s.peer("1/abcdefgh"), s.peer("2/abcdefgh")
	first.established(first.poll)
	second.poll()
	if !strings.HasPrefix(second.ended, "c[4004,") {
		t.Errorf("got %s", second.ended)
	}
}

// What is no request of these transports gets a status that says so.
func TestStatuses(t *testing.T) {
	t.Parallel()
	s := mustServe(t, Config{MaxMessageBytes: 1000}, func(a *app.App) {
		a.AllowedOrigins, _ = app.ParseOrigins("https://example.com")
	})
	p := s.peer("1/abcdefgh")
	p.established(p.poll)
	for name, tt := range map[string]struct {
		method, path, body, origin string
		status                     int
		text                       string
	}{
		"get":             {"GET", p.path + "/xhr", "", "", http.StatusMethodNotAllowed, "with POST"},
		"body":            {"POST", p.path + "/xhr_send", "{}", "", http.StatusBadRequest, "not a JSON array"},
		"no string":       {"POST", p.path + "/xhr_send", "[1]", "", http.StatusBadRequest, "not a string"},
		"empty":           {"POST", p.path + "/xhr_send", "", "", http.StatusBadRequest, "not a JSON array"},
		"no session":      {"POST", "/pusher/app/" + testKey + "/1/nnnnnnnn/xhr_send", "[]", "", http.StatusNotFound, "no such session"},
		"no app":          {"POST", "/pusher/app/nope/1/abcdefgh/xhr_send", "[]", "", http.StatusNotFound, "does not exist"},
		"origin":          {"POST", p.path + "/xhr_send", "[]", "https://x.test", http.StatusForbidden, "Origin"},
		"preflight":       {"OPTIONS", p.path + "/xhr_send", "", "https://example.com", http.StatusNoContent, ""},
		"no preflight":    {"OPTIONS", p.path + "/xhr_send", "", "https://x.test", http.StatusForbidden, "Origin"},
		"body of receive": {"POST", p.path + "/xhr", strings.Repeat(" ", maxIgnored+1), "", http.StatusRequestEntityTooLarge, "no body"},
		"info":            {"GET", "/pusher/info", "", "https://x.test", http.StatusOK, `"websocket":false`},
		"info of app":     {"GET", "/pusher/app/" + testKey + "/info", "", "", http.StatusOK, `"entropy":`},
		"post info":       {"POST", "/pusher/info", "", "", http.StatusMethodNotAllowed, "GET"},
	} {
		r := s.request(t.Context(), tt.method, tt.path, tt.body)
		if tt.origin != "" {
			r.Header.Set("Origin", tt.origin)
		}
		got := s.do(r)
		allowed := tt.origin
		if tt.status == http.StatusForbidden {
			allowed = ""
		}
		if got.status != tt.status || !strings.Contains(got.body, tt.text) || got.header.Get("Access-Control-Allow-Origin") != allowed {
			t.Errorf("%s: %+v", name, got)
		}
		if methods := got.header.Get("Access-Control-Allow-Methods"); name == "preflight" && (methods != "GET, POST" || !strings.Contains(got.header.Get("Access-Control-Allow-Headers"), "Content-Type")) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// A message that is too large closes the session, for pusher-js hears of nothing else.
	if status, text := p.post(`["` + strings.Repeat("x", 1001) + `"]`); status != http.StatusRequestEntityTooLarge || !strings.Contains(text, "max_message_bytes") {
		t.Errorf("got %d %s", status, text)
	}
	p.poll()
	if !strings.HasPrefix(p.ended, "c[1009,") {
		t.Errorf("got %s", p.ended)
	}
	q := s.peer("2/abcdefgh")
	q.established(q.poll)
	if status, _ := q.post(`["` + strings.Repeat("x", 3000) + `"]`); status != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d", status)
	}
	q.poll()
	if !strings.HasPrefix(q.ended, "c[1009,") {
		t.Errorf("got %s", q.ended)
	}
}

// A bad message is answered in its place, and the session stays.
func TestMessages(t *testing.T) {
	t.Parallel()
	s := mustServe(t, Config{}, nil)
	p := s.peer("1/abcdefgh")
	p.established(p.poll)
	p.send("not JSON", `{"event":"pusher:bogus"}`, `{"event":"pusher:ping"}`)
	for _, want := range []string{"pusher:error", "pusher:error", "pusher:pong"} {
		p.want(want, p.poll)
	}
}

// Below a prefix a client may come by it, and by the path of a pusher-js that knows of
// none.
func TestPrefix(t *testing.T) {
	t.Parallel()
	s := mustServe(t, Config{PathPrefix: "/below"}, nil)
	for i, root := range []string{"/below/pusher", "/below", "/pusher", "/below/session/0123456789abcdef"} {
		p := s.peer("")
		p.path = fmt.Sprintf("%s/app/%s/%d/abcdefgh", root, testKey, i)
		p.established(p.poll)
	}
	if s.open() != 4 {
		t.Errorf("%d sessions", s.open())
	}
}
