package node_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"reecho/edge/app"
)

const base = "/apps/" + appID

// wantCall makes a call and checks status and answer; for errors a part of the
// text is enough.
func (s *server) wantCall(method, path string, query url.Values, body string, status int, want string) {
	s.t.Helper()
	got, text := s.call(method, path, query, body)
	if got != status || status == http.StatusOK && text != want || !strings.Contains(text, want) {
		s.t.Errorf("%s %s %.200s: got %d %q, want %d %q", method, path, body, got, text, status, want)
	}
}

// H-127 to H-132, H-147, PROTOCOL §11.5 and §11.7: publishes, right and wrong.
func TestPostEvents(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.connect(t)
	c.subscribe("chat")
	post := func(body string, status int, want string) {
		t.Helper()
		s.wantCall("POST", base+"/events", nil, body, status, want)
	}
	for _, body := range []string{
		`{"name":"x","data":"1","channel":"chat"}`, `{"name":"x","data":"1","channels":["chat"]}`, `{"name":"x","data":"1","channels":"chat"}`,
		`{"name":"x","data":"1","channels":["chat","chat"]}`, `{"name":"x","data":1,"channels":["chat"],"channel":"other","unknown":[]}`,
	} {
		post(body, 200, "{}")
		if f := c.wantOn("chat", "x"); f.text(t) != "1" {
			t.Errorf("%s: got %s", body, f.raw)
		}
	}
	c.wantNothing()
	channels := func(n int) string {
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("c%d", i)
		}
		return mustJSON(t, map[string]any{"name": "x", "data": "1", "channels": names})
	}
	post(channels(100), 200, "{}")
	post(channels(101), 400, "1 to 100 channels")
	post(channels(0), 400, "1 to 100 channels")
	sized := func(n int) string {
		return mustJSON(t, map[string]any{"name": "x", "data": strings.Repeat("x", n), "channel": "c"})
	}
	post(sized(10240), 200, "{}")
	post(sized(10241), 413, "data content of this event exceeds the allowed maximum (10240 bytes)")
	post(sized(2<<20), 413, "request body")
	for body, want := range map[string]string{
		`not json`: "not a JSON object", `null`: "not a JSON object", `5`: "not a JSON object", `[]`: "not a JSON object", `{`: "ends too early",
		`{"data":"1","channel":"chat"}`:                                                    "name is missing",
		`{"name":"` + strings.Repeat("x", 201) + `","data":"1","channel":"chat"}`:          "201 characters, limit 200",
		`{"name":"pusher:x","data":"1","channel":"chat"}`:                                  "reserved",
		`{"name":"pusher_internal:x","data":"1","channel":"chat"}`:                         "reserved",
		`{"name":"x","channel":"chat"}`:                                                    "data is missing",
		`{"name":"x","data":"1"}`:                                                          "channels is missing",
		`{"name":"x","data":"1","channel":"a b"}`:                                          "Invalid channel name",
		`{"name":"x","data":"1","channel":"chat","socket_id":"x"}`:                         "socket_id",
		`{"name":"x","data":"1","channel":"chat","socket_id":"1.2\n"}`:                     "socket_id",
		`{"name":"x","data":"1","channels":["private-encrypted-a","private-encrypted-b"]}`: "encrypted",
		`{"name":"x","data":"1","channel":"chat","info":"bogus"}`:                          "Unknown info attribute",
		`{"name":"x","name":"y","data":"1","channel":"chat"}`:                              "stands twice",
	} {
		post(body, 400, want)
	}
	post(`{"name":"x","data":"1","channel":"private-encrypted-a"}`, 200, "{}")
	post(`{"name":"App\\Events\\Foo","data":"1","channel":"chat"}`, 200, "{}")
	c.wantOn("chat", `App\Events\Foo`)
	s.wantCall("POST", base+"/events", url.Values{"name": {"q"}, "channels[]": {"chat", "other"}}, `{"data":"from the query"}`, 401, "Invalid signature")
	s.wantCall("POST", base+"/events", url.Values{"name": {"q"}, "channel": {"chat"}}, `{"data":"from the query"}`, 200, "{}")
	c.wantOn("chat", "q")
	c.wantNothing()
}

// H-133, PROTOCOL §11.3: counts with a publish.
func TestPostEventsInfo(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := s.connect(t), s.connect(t)
	a.subscribe("chat")
	b.subscribe("chat")
	a.join(lobby, `{"user_id":1}`)
	b.join(lobby, `{"user_id":"1"}`)
	s.wantCall("POST", base+"/events", nil, `{"name":"x","data":"1","channels":["chat","presence-lobby","presence-empty"],"info":"subscription_count,user_count"}`, 200,
		`{"channels":{"chat":{"subscription_count":2},"presence-lobby":{"user_count":1,"subscription_count":2},"presence-empty":{"user_count":0,"subscription_count":0}}}`)
	s.wantCall("POST", base+"/batch_events", nil, `{"batch":[{"name":"x","data":"1","channel":"chat"},{"name":"x","data":"1","channel":"chat","info":"subscription_count"}]}`, 200,
		`{"batch":[{},{"subscription_count":2}]}`)
}

// H-134: a batch is checked before anything of it is stored.
func TestPostBatch(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.connect(t)
	c.subscribe("chat")
	batch := func(n int, extra string) string {
		items := make([]string, n)
		for i := range items {
			items[i] = fmt.Sprintf(`{"name":"x","data":"%d","channel":"chat"}`, i)
		}
		return `{"batch":[` + strings.Join(items, ",") + extra + `]}`
	}
	post := func(body string, status int, want string) {
		t.Helper()
		s.wantCall("POST", base+"/batch_events", nil, body, status, want)
	}
	post(batch(11, ""), 400, "Batch too large")
	post(batch(2, `,{"name":"pusher:x","data":"1","channel":"chat"}`), 400, "Batch event 3: event name")
	post(batch(2, `,null`), 400, "batch event 3")
	post(batch(2, `,{"name":"x","data":"`+strings.Repeat("x", 10241)+`","channel":"chat"}`), 413, "Batch event 3: The data content of this event")
	for _, body := range []string{`{"batch":[]}`, `{}`, `null`, `5`, `"x"`, `[]`} {
		post(body, 400, "")
	}
	c.wantNothing()
	post(batch(10, ""), 200, "{}")
	for i := range 10 {
		if f := c.wantOn("chat", "x"); f.text(t) != fmt.Sprint(i) {
			t.Errorf("event %d is %s", i, f.raw)
		}
	}
}

// H-136 to H-141, H-76: questions.
func TestGets(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	info := func(v string) url.Values { return url.Values{"info": {v}} }
	s.wantCall("GET", base+"/channels", nil, "", 200, `{"channels":{}}`)
	s.wantCall("GET", base+"/channels/presence-lobby/users", nil, "", 200, `{"users":[]}`)
	s.wantCall("GET", base+"/channels/x", nil, "", 200, `{"occupied":false}`)
	s.wantCall("GET", base+"/channels/x", info("subscription_count"), "", 200, `{"occupied":false,"subscription_count":0}`)
	a, b := s.connect(t), s.connect(t)
	a.join(lobby, `{"user_id":1}`)
	b.join(lobby, `{"user_id":"two"}`)
	a.wantOn(lobby, "pusher_internal:member_added")
	a.subscribe("chat,;=@.x")
	s.wantCall("GET", base+"/channels", url.Values{"filter_by_prefix": {"presence-"}, "info": {"user_count"}}, "", 200, `{"channels":{"presence-lobby":{"user_count":2}}}`)
	s.wantCall("GET", base+"/channels", info("user_count"), "", 400, "filter_by_prefix")
	s.wantCall("GET", base+"/channels", url.Values{"filter_by_prefix": {"chat"}, "info": {"subscription_count"}}, "", 200, `{"channels":{"chat,;=@.x":{"subscription_count":1}}}`)
	s.wantCall("GET", base+"/channels/presence-lobby", info("user_count,subscription_count"), "", 200, `{"occupied":true,"user_count":2,"subscription_count":2}`)
	s.wantCall("GET", base+"/channels/chat,;=@.x", nil, "", 200, `{"occupied":true}`)
	s.wantCall("GET", base+"/channels/chat", info("user_count"), "", 400, "presence")
	s.wantCall("GET", base+"/channels/chat", info("cache"), "", 400, "cache channels")
	s.wantCall("GET", base+"/channels/presence-lobby/users", nil, "", 200, `{"users":[{"id":"1"},{"id":"two"}]}`)
	s.wantCall("GET", base+"/channels/chat/users", nil, "", 400, "presence")
	s.wantCall("GET", base+"/channels/presence-lobby/stats", nil, "", 200, `{"occupied":true,"user_count":2}`)
	s.wantCall("GET", base+"/connections", nil, "", 200, `{"connections":2}`)
	s.wantCall("GET", base+"/channels/a%20b", nil, "", 400, "Invalid channel name")
	s.wantCall("GET", base+"/nothing", nil, "", 404, "/apps/{app_id}")
	s.wantCall("DELETE", base+"/channels", nil, "", 405, "not allowed")
	s.wantCall("GET", base+"/events", nil, "", 405, "not allowed")
	_ = a.conn.Close()
	_ = b.conn.Close()
	poll(t, "the rooms to empty", func() bool {
		_, body := s.call("GET", base+"/channels", nil, "")
		return body == `{"channels":{}}`
	})
}

// H-125, H-143, PROTOCOL §11.8: whoever may not is told so by the status.
func TestAuthentication(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(), demoApp(func(a *app.App) {
		a.ID, a.Enabled, a.Credentials = "78", false, []app.Credential{{Key: "off", Secret: secret}}
	}))
	s.wantCall("GET", "/apps/78/channels", nil, "", 401, "")
	s.wantCall("GET", "/apps/78/channels", url.Values{"auth_key": {"off"}}, "", 403, "disabled")
	s.wantCall("GET", base+"/channels", url.Values{"auth_key": {"nobody"}}, "", 401, "auth_key")
	s.wantCall("GET", "/apps/999/channels", nil, "", 401, "another app")
	s.wantCall("GET", "/apps/999/channels", url.Values{"auth_key": {"nobody"}}, "", 404, "999")
	s.wantCall("GET", base+"/channels", url.Values{"auth_version": {"2"}}, "", 401, "auth_version")
	s.wantCall("GET", base+"/channels", url.Values{"auth_timestamp": {"1"}}, "", 401, "Timestamp expired")
}

// H-142: the deprecated publish answers 202 with nothing.
func TestPostChannelEvent(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.connect(t)
	c.subscribe("chat")
	if status, body := s.call("POST", base+"/channels/chat/events", url.Values{"name": {"x"}}, "raw data"); status != 202 || body != "" {
		t.Errorf("%d %q", status, body)
	}
	if f := c.wantOn("chat", "x"); f.text(t) != "raw data" {
		t.Errorf("got %s", f.raw)
	}
	s.wantCall("POST", base+"/channels/chat/events", nil, "raw data", 400, "event name")
}

// Health, keep-alive after errors (PROTOCOL §11.9), content types (H-144).
func TestHTTP(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for path, want := range map[string]string{
		"/health": "200 text/plain; charset=utf-8 ok\n", "/": "200 text/plain; charset=utf-8 reecho is up\n",
		"/up":             "200 application/json {\"health\":\"OK\"}",
		"/nothing":        "404 text/plain; charset=utf-8 There is nothing at this path. The API is below /apps/{app_id}\n",
		"/apps/77/events": "405 text/plain; charset=utf-8 Method GET is not allowed at this path\n",
		"//apps/../x":     "404 text/plain; charset=utf-8 There is nothing at this path. The API is below /apps/{app_id}\n",
	} {
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
			t.Fatalf("%s: the connection was closed: %v", path, err)
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if got := fmt.Sprintf("%d %s %s", res.StatusCode, res.Header.Get("Content-Type"), body); got != want || res.Close {
			t.Errorf("%s: got %q (close %v), want %q", path, got, res.Close, want)
		}
	}
}
