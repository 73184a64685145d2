package node_test

import (
	"bufio"
	"crypto/md5" // body_md5 is part of the Pusher protocol
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"reecho/edge/app"
	"reecho/edge/config"
	"reecho/edge/limit"
	"reecho/edge/pusher"
)

// target is the signed path and query of an API call.
func target(method, path string, query url.Values, body string) string {
	v := url.Values{"auth_key": {key}, "auth_timestamp": {strconv.FormatInt(time.Now().Unix(), 10)}, "auth_version": {"1.0"}}
	if body != "" {
		sum := md5.Sum([]byte(body))
		v.Set("body_md5", hex.EncodeToString(sum[:]))
	}
	for k, values := range query {
		v[k] = values
	}
	text := v.Encode() // sorted, as the libraries sign it
	if plain, err := url.QueryUnescape(text); err == nil {
		text = plain
	}
	if _, given := query["auth_signature"]; !given {
		v.Set("auth_signature", pusher.Sign(secret, method+"\n"+path+"\n"+text))
	}
	return (&url.URL{Path: path}).EscapedPath() + "?" + v.Encode()
}

// raw is an HTTP connection that is written by hand.
type raw struct {
	t    testing.TB
	conn *net.TCPConn
	r    *bufio.Reader
}

func (s *server) raw(t testing.TB) *raw {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &raw{t: t, conn: conn.(*net.TCPConn), r: bufio.NewReader(conn)}
}

func (c *raw) send(format string, args ...any) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.conn, format, args...); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// answer reads an answer, which must come before patience ends.
func (c *raw) answer() (status int, body string) {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatalf("read an answer: %v", err)
	}
	text, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		c.t.Fatalf("read an answer: %v", err)
	}
	return res.StatusCode, string(text)
}

// L: what is wrong without the body is answered without the body, which never
// comes here.
func TestRefusedBeforeTheBody(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const body = `{"name":"x","data":"1","channel":"chat"}`
	with := func(name, value string) string {
		return target("POST", base+"/events", url.Values{name: {value}}, body)
	}
	for _, tt := range []struct {
		target, header, want string
		status               int
	}{
		{with("auth_key", "nobody"), "Content-Length: 1000000", "auth_key", 401},
		{with("auth_key", "nobody"), "Content-Length: 1000", "auth_key", 401},
		{with("auth_key", "nobody"), "Transfer-Encoding: chunked", "auth_key", 401},
		{with("auth_key", "nobody"), "Content-Length: 1000\r\nExpect: 100-continue", "auth_key", 401},
		{with("auth_version", "2.0"), "Content-Length: 1000000", "auth_version", 401},
		{with("auth_timestamp", "1"), "Content-Length: 1000000", "Timestamp expired", 401},
		{with("auth_timestamp", "9999999999"), "Content-Length: 1000000", "Timestamp expired", 401},
		{with("auth_timestamp", "9223372036854775807"), "Content-Length: 1000000", "Timestamp expired", 401},
		{with("auth_timestamp", "9223372036854775808"), "Content-Length: 1000000", "auth_timestamp", 401},
		{with("auth_timestamp", "NaN"), "Content-Length: 1000000", "auth_timestamp", 401},
		{with("auth_signature", ""), "Content-Length: 1000000", "auth_signature is missing", 401},
		{target("POST", base+"/events", nil, ""), "Content-Length: 1000000", "body_md5 is missing", 401},
		{"/apps/999/events", "Content-Length: 1000000", "no app", 404},
		{base + "/nothing", "Content-Length: 1000000", "There is nothing", 404},
		{target("POST", base+"/events", nil, body), "Content-Length: 1048577", "1048576 bytes", 413},
		{base + "/events?" + strings.Repeat("a", 16<<10), "Content-Length: 1000000", "", 400},
		{base + "/events?" + strings.Repeat("a", 16<<10+1), "Content-Length: 1000000", "limit 16384 (max_query_bytes)", 414},
		{base + "/events?" + strings.Repeat("a&", 1001), "Content-Length: 1000000", "more than 1000 parameters", 400},
		{base + "/events?" + strings.Repeat("a[1]&", 1001), "Content-Length: 1000000", "more than 1000 parameters", 400},
	} {
		c := s.raw(t)
		c.send("POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", tt.target, tt.header)
		status, text := c.answer()
		if tt.want == "" { // the longest query is not too long
			tt.status = 401
		}
		if status != tt.status || !strings.Contains(text, tt.want) || len(text) > 1200 {
			t.Errorf("%.120s %s: got %d %.300q, want %d %q", tt.target, tt.header, status, text, tt.status, tt.want)
		}
	}
}

// L: whoever sends a body of a call that was refused gets to read why.
func TestRefusedCallersReadWhy(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for range 20 {
		status, text := s.call("POST", base+"/events", url.Values{"auth_key": {"nobody"}}, strings.Repeat(" ", 1<<20))
		if status != 401 || !strings.Contains(text, "auth_key") {
			t.Fatalf("got %d %q", status, text)
		}
	}
}

// L: the bodies under way are bounded in all; small ones have a share of their
// own, and everything works again when the others are gone.
func TestRequestMemory(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]string{"announced": "Content-Length: 1000000", "chunked": "Transfer-Encoding: chunked"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testRequestMemory(t, header)
		})
	}
}

func testRequestMemory(t *testing.T, header string) {
	t.Helper()
	s := startServerWith(t, func(cfg *config.Config) { cfg.API.RequestMemory = 2 << 20 })
	padded := `{"name":"x","data":"1","channel":"chat"` + strings.Repeat(" ", 300<<10) + `}`
	refused := make(chan string, 100)
	var held []*raw
	for range 20 {
		c := s.raw(t)
		held = append(held, c)
		c.send("POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", target("POST", base+"/events", nil, "another body"), header)
		part := strings.Repeat(" ", 200<<10)
		if header == "Transfer-Encoding: chunked" {
			part = fmt.Sprintf("%x\r\n%s\r\n", len(part), part)
		}
		// One that is refused is closed while it sends.
		_, _ = io.WriteString(c.conn, part)
		go func() {
			res, err := http.ReadResponse(c.r, nil)
			if err != nil {
				return // closed by the test
			}
			text, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			refused <- fmt.Sprint(res.StatusCode, " ", res.Header.Get("Retry-After"), " ", string(text))
		}()
	}
	// 20 × 256 KiB are wanted, 1.5 MiB are for large bodies.
	for range 14 {
		select {
		case got := <-refused:
			if !strings.HasPrefix(got, "503 1 ") || !strings.Contains(got, "2097152 bytes (request_memory)") {
				t.Errorf("got %q", got)
			}
		case <-time.After(patience):
			t.Fatal("bodies above the limit are not refused")
		}
	}
	if n := s.Ledger().Total(limit.RequestMemory); n < 14 {
		t.Errorf("the ledger counts %d refusals, want 14", n)
	}
	s.publish("chat", "x", "small ones go on", "")
	for _, c := range held {
		_ = c.conn.Close()
	}
	poll(t, "large bodies to be taken again", func() bool {
		status, _ := s.call("POST", base+"/events", nil, padded)
		return status == 200
	})
}

// K: a caller that closes its side, as netcat and HTTP/1.0 clients do, is told
// what became of its event.
func TestHalfClosedCallersGetTheirAnswer(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	body := `{"name":"x","data":"1","channels":["chat"],"info":"subscription_count"}`
	for range 50 {
		c := s.raw(t)
		c.send("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", target("POST", base+"/events", nil, body), len(body), body)
		if err := c.conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if status, text := c.answer(); status != 200 || text != `{"channels":{"chat":{"subscription_count":0}}}` {
			t.Fatalf("got %d %q", status, text)
		}
	}
	s.wantStored("chat", 50)
}

// wantStored expects a number of retained events on a channel.
func (s *server) wantStored(channel string, want int) {
	s.t.Helper()
	_, text := s.call("GET", base+"/channels/"+url.PathEscape(channel)+"/events", nil, "")
	if got := strings.Count(text, `"position":`); got != want {
		s.t.Errorf("%d events are stored on %s, want %d: %.200s", got, channel, want, text)
	}
}

// K: limits count different bytes: of the data, of its JSON, of the message, of
// the stream. None of their combinations is a 500, and what is refused is not
// stored, on no channel.
func TestLimitsInDifferentUnits(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(cfg *config.Config) {
		cfg.Log.MaxBytes = 4 << 20 // 1 MiB for each stream
		cfg.Apps[0].Retention = []app.Retention{{Channels: "off-*", Off: true}, {Channels: "large-*", Bytes: 1 << 30}}
	}, demoApp(func(a *app.App) { a.Limits.EventDataBytes, a.Limits.RequestBytes = 4<<20, 32<<20 }))
	event := func(data string, channels ...string) string {
		return mustJSON(t, map[string]any{"name": "x", "channels": channels, "data": data})
	}
	controls := func(n int) string { return strings.Repeat("\x01", n) } // 6 bytes each in JSON
	for _, tt := range []struct {
		body   string
		status int
	}{
		{event(strings.Repeat("a", 1000<<10), "chat"), 200},
		{event(strings.Repeat("a", 1<<20), "chat"), 413},
		{event(controls(200<<10), "chat"), 413},
		{event(controls(1<<20), "large-1"), 200},
		{event(controls(2<<20), "large-1"), 413},
		{event(controls(2<<20), "off-1"), 413},
		{event(controls(1<<20), "off-1", "large-1", "chat"), 413},
		{event(controls(1<<20), "large-1", "off-1", "a"), 413},
		{event(strings.Repeat("a", 4<<20), "large-1"), 200},
		{event(strings.Repeat("a", 4<<20+1), "large-1"), 413},
	} {
		status, text := s.call("POST", base+"/events", nil, tt.body)
		if status != tt.status || status == 413 && !strings.Contains(text, "data content of this event exceeds the allowed maximum") {
			t.Errorf("%.60s… of %d bytes: got %d %q, want %d", tt.body, len(tt.body), status, text, tt.status)
		}
	}
	batch := `{"batch":[{"name":"x","data":"1","channel":"chat"},{"name":"x","data":` + mustJSON(t, controls(200<<10)) + `,"channel":"a"}]}`
	s.wantCall("POST", base+"/batch_events", nil, batch, 413, "Batch event 2: The data content of this event")
	s.wantCall("POST", base+"/channels/chat/events", url.Values{"name": {"x"}}, controls(200<<10), 413, "data content of this event")
	s.wantStored("chat", 1)
	s.wantStored("a", 0)
	s.wantStored("large-1", 2)
}

// L: an answer repeats little of what was sent, and that once.
func TestRefusalsAreShort(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(cfg *config.Config) { cfg.API.QueryBytes, cfg.Socket.MaxHeaderBytes = 60<<10, 128<<10 },
		demoApp(func(a *app.App) { a.SubscriptionErrors = true }))
	long := strings.Repeat("é\x01", 5000)
	for _, at := range []string{
		"/apps/" + long + "/events", base + "/" + long, base + "/channels/" + long, base + "/channels/" + long + "/events",
		base + "/channels/" + long + "/users", base + "/channels/" + long + "/stats",
	} {
		c := s.raw(t)
		c.send("GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target("GET", at, nil, ""))
		status, text := c.answer()
		wantShort(t, fmt.Sprintf("%d GET %s", status, at), text)
	}
	for _, name := range []string{"auth_key", "auth_version", "auth_timestamp", "auth_signature", "body_md5", "info", "filter_by_prefix", "after", "before", "order", "limit", "since", "x", long[:3000]} {
		for _, at := range []string{"/channels", "/channels/chat/events", "/channels/chat"} {
			c := s.raw(t)
			c.send("GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target("GET", base+at, url.Values{name: {long}}, ""))
			status, text := c.answer()
			wantShort(t, fmt.Sprintf("%d %s of %s", status, name, at), text)
		}
	}
	for _, member := range []string{"name", "channel", "socket_id", "info", "channels"} {
		body := map[string]any{"name": "x", "data": "1", "channel": "chat"}
		body[member] = "pusher:" + long
		status, text := s.call("POST", base+"/events", nil, mustJSON(t, body))
		wantShort(t, fmt.Sprintf("%d %s", status, member), text)
	}
	sent := func(what string, frame string) {
		t.Helper()
		c := s.connect(t) // below any rate
		defer c.conn.Close()
		c.sendText(frame)
		c.sendText(`{"event":"pusher:ping","data":{}}`)
		all := ""
		for f := c.next(); f.Event != "pusher:pong"; f = c.next() {
			all += f.raw
		}
		wantShort(t, what, all)
	}
	message := func(event, channel string, data any) string {
		return mustJSON(t, map[string]any{"event": event, "channel": channel, "data": data})
	}
	sent("event", message(long, "", nil))
	sent("client event", message("client-"+long, "private-a", nil))
	sent("client event's channel", message("client-x", "private-"+long, nil))
	sent("no JSON", "\u00e9"+long)
	for _, command := range []string{"pusher:subscribe", "pusher:unsubscribe"} {
		sent(command+" a long channel", message(command, "", map[string]any{"channel": long}))
		sent(command+" auth", message(command, "", map[string]any{"channel": "private-a", "auth": long}))
		sent(command+" key", message(command, "", map[string]any{"channel": "private-a", "auth": long + ":" + long}))
		sent(command+" signature", message(command, "", map[string]any{"channel": "private-a", "auth": key + ":" + long}))
		sent(command+" channel_data", message(command, "", map[string]any{"channel": "presence-a", "auth": key + ":x", "channel_data": long}))
		sent(command+" after", message(command, "", map[string]any{"channel": "a", "replay": map[string]any{"after": long, "last": 1}}))
		sent(command+" except", message(command, "", map[string]any{"channel": "a", "replay": map[string]any{"except": []string{long}}}))
		sent(command+" since", message(command, "", map[string]any{"channel": "a", "replay": map[string]any{"since": long}}))
		sent(command+" key of data", message(command, "", map[string]any{"channel": "a", "auth": "", long: "", "data": long}))
	}
	sent("sign-in", message("pusher:signin", "", map[string]any{"auth": key + ":" + long, "user_data": long}))
	head := long[:2400] // an upgrade's may be shorter
	for _, at := range []string{"/app/" + url.PathEscape(head), "/app/" + key + "?protocol=" + url.QueryEscape(head), "/app/" + key + goodQuery[:21] + "&version=" + url.QueryEscape(head)} {
		bad := s.dial(t, at)
		select {
		case end := <-bad.closed:
			wantShort(t, "close", end.reason)
		case <-time.After(patience):
			t.Fatalf("%.40s: not closed", at)
		}
		for f := range bad.frames {
			wantShort(t, "refusal", f.raw)
		}
	}
	for _, query := range []string{"channel=" + url.QueryEscape(long), "channel=private-a&auth[private-a]=" + key + ":" + url.QueryEscape(long), "channel=a&since=" + url.QueryEscape(long), "channel=a&socket_id=" + strings.Repeat("1", 40_000) + ".1", "channel=a&last=" + url.QueryEscape(long)} {
		r := s.raw(t)
		r.send("GET /app/%s/events?%s HTTP/1.1\r\nHost: x\r\n\r\n", key, query)
		status, text := r.answer()
		wantShort(t, fmt.Sprintf("%d event stream %s", status, query), text)
	}
}

// wantShort bounds an answer to tens of thousands of bytes.
func wantShort(t *testing.T, what, text string) {
	t.Helper()
	if strings.HasPrefix(what, "431") {
		t.Errorf("%.60q is refused for its head", what)
	}
	if len(text) > 2500 {
		t.Errorf("%.60q: an answer of %d bytes: %.200q", what, len(text), text)
	}
}

// R: times and numbers beyond what can be meant.
func TestHistoryQueriesBeyondTime(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.publish("chat", "x", "1", "")
	at := base + "/channels/chat/events"
	for _, since := range []string{"2262-04-12T00:00:00Z", "2263-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "1e10", "NaN", "-1"} {
		s.wantCall("GET", at, url.Values{"since": {since}}, "", 400, "since is")
		s.wantCall("GET", "/app/"+key+"/events", url.Values{"channel": {"chat"}, "since": {since}}, "", 400, "since is")
	}
	s.wantCall("GET", at, url.Values{"since": {"2261-01-01T00:00:00Z"}}, "", 200, `{"events":[],"more":false}`)
	for _, n := range []string{"0", "-1", "1001", "1e3", "NaN", "Infinity", "99999999999999999999", "1.0", " 1"} {
		s.wantCall("GET", at, url.Values{"limit": {n}}, "", 400, "limit is")
	}
	for name := range map[string]int{"after": 0, "before": 0, "order": 0, "limit": 0, "since": 0} {
		s.wantCall("GET", at, url.Values{name: {"1", "2"}}, "", 400, name+" stands 2 times")
	}
	if n := len(s.history("chat")); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func (s *server) history(channel string) []string {
	s.t.Helper()
	_, text := s.call("GET", base+"/channels/"+channel+"/events", nil, "")
	return strings.SplitAfter(text, `"position":`)[1:]
}

// Refusals are text, also of what was none: a frame that is not UTF-8 closes the
// connections of browsers with 1007, and hides why.
func TestRefusalsAreText(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, at := range []string{"/app/%ff%fe" + goodQuery, "/app/" + key + "?protocol=%ff", "/app/" + key + goodQuery[:21] + "&version=%ed%a0%bd"} {
		c := s.dial(t, at)
		f, ok := <-c.frames
		if !ok {
			t.Fatalf("%s: closed without a frame", at)
		}
		checkFrame(t, f.raw)
		if reason := (<-c.closed).reason; !utf8.ValidString(reason) {
			t.Errorf("%s: closed with %q", at, reason)
		}
	}
	for _, at := range []string{"/apps/%ff/events", base + "/channels/%ff", base + "/channels?info=%ff", "/app/%ff/events?channel=a", "/app/" + key + "/events?channel=%ff"} {
		c := s.raw(t)
		c.send("GET %s HTTP/1.1\r\nHost: x\r\n\r\n", at)
		if status, text := c.answer(); status < 400 || !utf8.ValidString(text) {
			t.Errorf("%s: %d %q", at, status, text)
		}
	}
}
