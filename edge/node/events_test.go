package node_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"reecho/edge/app"
	"reecho/edge/pusher"
)

// publishBatch stores n events x with the same data.
func (s *server) publishBatch(channel, data string, n int) {
	s.t.Helper()
	batch := make([]map[string]string, n)
	for i := range batch {
		batch[i] = map[string]string{"name": "x", "channel": channel, "data": data}
	}
	if status, body := s.call("POST", "/apps/"+appID+"/batch_events", nil, mustJSON(s.t, map[string]any{"batch": batch})); status != http.StatusOK || body != "{}" {
		s.t.Fatalf("batch: %d %s", status, body)
	}
}

// E-77, E-79, E-96: data is delivered as it was published.
func TestEventsVerbatim(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.connect(t)
	c.subscribe("chat")
	for _, data := range []string{
		`{"m":"hi"}`, `plain text`, ``, `"5"`, ` { "a" : 1 } `, "<&>/ \u2028 \U0001F600 \x01\t\"\\", `{"nonce":"x","ciphertext":"y"}`,
	} {
		s.publish("chat", `App\Events\Foo`, data, "")
		f := c.wantOn("chat", `App\Events\Foo`)
		if got := f.text(t); got != data {
			t.Errorf("got %q, want %q", got, data)
		}
	}
	s.publish("chat", "greet", `{"m":"hi"}`, "")
	if f := c.next(); f.raw != `{"event":"greet","channel":"chat","data":"{\"m\":\"hi\"}"}` {
		t.Errorf("got %s", f.raw)
	}
}

// E-80, E-82: exclusion, also of sockets that nobody has.
func TestExclusion(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := s.connect(t), s.connect(t)
	a.subscribe("chat")
	b.subscribe("chat")
	s.publish("chat", "x", "1", a.socketID)
	for _, unknown := range []string{"1.2", "99999999999999.1", "00.0"} {
		s.publish("chat", "x", unknown, unknown)
		if f := a.wantOn("chat", "x"); f.text(t) != unknown {
			t.Errorf("got %s", f.raw)
		}
	}
	if f := b.wantOn("chat", "x"); f.text(t) != "1" {
		t.Errorf("got %s", f.raw)
	}
}

// E-83 to E-88: client events that pass.
func TestClientEvents(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := s.connect(t), s.connect(t)
	a.subscribe("private-x")
	b.subscribe("private-x")
	for sent, want := range map[string]string{
		`{"on":true}`:               `{\"on\":true}`,
		` { "a" : [ 1 , "b c" ] } `: `{\"a\":[1,\"b c\"]}`,
		`"text \"quoted\" é"`:       `text \"quoted\" é`,
		`5`:                         `5`,
		`null`:                      `null`,
	} {
		a.sendText(`{"event":"client-x","channel":"private-x","data":` + sent + `,"user_id":"forged","userId":"forged"}`)
		if f, want := b.next(), `{"event":"client-x","channel":"private-x","data":"`+want+`"}`; f.raw != want {
			t.Errorf("sent %s\ngot  %s\nwant %s", sent, f.raw, want)
		}
	}
	a.wantNothing()
	a.join(lobby, `{"user_id":42}`)
	b.join(lobby, `{"user_id":"b"}`)
	a.wantOn(lobby, "pusher_internal:member_added")
	a.sendText(`{"event":"client-x","channel":"presence-lobby","data":{},"user_id":"forged"}`)
	if f := b.next(); f.raw != `{"event":"client-x","channel":"presence-lobby","data":"{}","user_id":"42"}` {
		t.Errorf("got %s", f.raw)
	}
}

// Where the app allows it, a client may send to channels that it is not on; nobody
// believes who it says it is, and a public channel takes nothing still.
func TestClientEventsOfTheUnsubscribed(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.UnsubscribedClientEvents = true }))
	a, b := s.connect(t), s.connect(t)
	b.subscribe("private-x")
	a.sendText(`{"event":"client-x","channel":"private-x","data":{"n":1},"user_id":"forged"}`)
	if f, want := b.next(), `{"event":"client-x","channel":"private-x","data":"{\"n\":1}"}`; f.raw != want {
		t.Errorf("got  %s\nwant %s", f.raw, want)
	}
	a.sendText(`{"event":"client-x","channel":"private-empty","data":{}}`)
	a.sendText(`{"event":"client-x","channel":"chat","data":{}}`)
	a.wantError(0, "only private and presence channels")
	a.sendText(`{"event":"client-x","channel":"private-x y","data":{}}`)
	a.wantError(0, "contains ' '")
	b.wantNothing()
}

// E-89, E-90, E-91, E-92, E-94: client events that are refused.
func TestClientEventsRefused(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(), demoApp(func(a *app.App) {
		a.ID, a.ClientEvents, a.Credentials = "78", false, []app.Credential{{Key: "silent", Secret: secret}}
	}))
	a, b := s.connect(t), s.connect(t)
	for _, channel := range []string{"chat", "private-x"} {
		a.subscribe(channel)
		b.subscribe(channel)
	}
	for _, m := range []string{
		`{"event":"client-x","channel":"chat","data":{}}`,
		`{"event":"client-x","channel":"private-y","data":{}}`,
		`{"event":"client-x","data":{}}`,
		`{"event":"foo","channel":"private-x","data":{}}`,
		`{"event":"pusher:x","channel":"private-x","data":{}}`,
		`{"event":"pusher_internal:member_added","channel":"private-x","data":{}}`,
		`{"event":"not-client-x","channel":"private-x","data":{}}`,
		`{"event":"client-` + strings.Repeat("x", 200) + `","channel":"private-x","data":{}}`,
		`{"event":"client-x","channel":"private-x","data":"` + strings.Repeat("x", 11<<10) + `"}`,
	} {
		a.sendText(m)
		a.wantError(0, "")
	}
	b.wantNothing()
	off := s.dial(t, "/app/silent"+goodQuery)
	off.established()
	off.send("client-x", "private-x", nil)
	off.wantError(4301, "not enabled")
}

// E-93: the rate limit.
func TestClientEventRate(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := s.connect(t), s.connect(t)
	a.subscribe("private-x")
	b.subscribe("private-x")
	start := time.Now()
	const sent = 15
	for range sent {
		a.sendText(`{"event":"client-x","channel":"private-x","data":{}}`)
	}
	a.sendText(`{"event":"pusher:ping"}`)
	refused := 0
	for f := a.next(); f.Event != "pusher:pong"; f = a.next() {
		if !strings.Contains(f.raw, "4301") {
			t.Errorf("got %s", f.raw)
		}
		refused++
	}
	// A machine that is busy may take longer than it should.
	allowed := 10 + int(time.Since(start).Seconds()*10) + 1
	if delivered := sent - refused; delivered < 10 || delivered > allowed {
		t.Errorf("%d delivered, want 10 to %d", delivered, allowed)
	}
	for range sent - refused {
		b.wantOn("private-x", "client-x")
	}
	b.wantNothing()
}

// E-95: order within a channel.
func TestOrder(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.connect(t)
	c.subscribe("chat")
	for i := range 100 {
		s.publish("chat", "x", fmt.Sprint(i), "")
	}
	for i := range 100 {
		if f := c.wantOn("chat", "x"); f.text(t) != fmt.Sprint(i) {
			t.Fatalf("event %d is %s", i, f.raw)
		}
	}
}

// F-97 to F-100: sign-in.
func TestSignIn(t *testing.T) {
	t.Parallel()
	c := startServer(t).connect(t)
	for _, data := range []string{`{"id":7}`, `{}`, `{"id":""}`, `{"id":null}`, `x`, `{"id":"a b"}`, `{"id":"a","id":"b"}`, `{"id":"a","watchlist":5}`} {
		c.trySignIn(data)
		c.wantError(0, "Invalid user_data")
	}
	c.send("pusher:signin", "", map[string]any{"auth": key + ":00", "user_data": `{"id":"u-7"}`})
	c.wantError(0, "Invalid signature")
	const userData = `{"id":"u-7","user_info":{"name":"Ada"},"watchlist":["u-8","u-9"]}`
	f := c.signIn(userData)
	if want := mustJSON(t, map[string]string{"user_data": userData}); f.text(t) != want {
		t.Errorf("got  %s\nwant %s", f.text(t), want)
	}
	c.trySignIn(`{"id":"u-8"}`)
	c.wantError(0, "Already signed in as user u-7")
	c.signIn(userData)
	c.wantNothing()

	off := startServer(t, demoApp(func(a *app.App) { a.UserAuthentication = false })).connect(t)
	off.trySignIn(userData)
	off.wantError(0, "not enabled")
}

// F-101 to F-105: events for users, and their end.
func TestUsers(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	one, two, other, present := s.connect(t), s.connect(t), s.connect(t), s.connect(t)
	mine := pusher.UserChannel("u-7")
	one.trySubscribe(mine, "")
	one.wantError(0, "Not signed in")
	for _, c := range []*client{one, two} {
		c.signIn(`{"id":"u-7"}`)
		c.subscribe(mine)
	}
	other.signIn(`{"id":"u-8"}`)
	other.trySubscribe(mine, "")
	other.wantError(0, "Not signed in")
	present.join(lobby, `{"user_id":"u-7"}`)
	s.publish(mine, "greeting", "{}", "")
	one.wantOn(mine, "greeting")
	two.wantOn(mine, "greeting")
	if _, body := s.call("GET", "/apps/"+appID+"/channels", nil, ""); body != `{"channels":{"presence-lobby":{}}}` {
		t.Errorf("channels: %s", body)
	}
	if status, body := s.call("POST", "/apps/"+appID+"/users/u-7/terminate_connections", nil, "{}"); status != 200 || body != "{}" {
		t.Errorf("terminate: %d %s", status, body)
	}
	one.wantClose(4009)
	two.wantClose(4009)
	other.wantNothing()
	present.wantNothing()
}

// F-106, F-107, F-108: watchlists.
func TestWatchlist(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.Watchlist = true }))
	watched := s.connect(t)
	watched.signIn(`{"id":"u-8"}`)
	c := s.connect(t)
	c.signIn(`{"id":"u-7","watchlist":["u-8","u-9","u-8"]}`)
	want := func(data string) {
		t.Helper()
		f := c.want("pusher_internal:watchlist_events")
		if f.text(t) != data || f.Channel != nil {
			t.Errorf("got %s, want %s", f.raw, data)
		}
	}
	want(`{"events":[{"name":"online","user_ids":["u-8"]},{"name":"offline","user_ids":["u-9"]}]}`)
	late := s.connect(t)
	late.signIn(`{"id":"u-9"}`)
	want(`{"events":[{"name":"online","user_ids":["u-9"]}]}`)
	_ = watched.conn.Close()
	want(`{"events":[{"name":"offline","user_ids":["u-8"]}]}`)

	ids := make([]string, 101)
	for i := range ids {
		ids[i] = fmt.Sprintf("w-%d", i)
	}
	many := s.connect(t)
	many.signIn(mustJSON(t, map[string]any{"id": "m", "watchlist": ids}))
	if f := many.want("pusher_internal:watchlist_events"); strings.Count(f.raw, "w-") != 100 {
		t.Errorf("watches %d users", strings.Count(f.raw, "w-"))
	}
	many.wantError(4302, "100")
}

// F-109, F-110: subscription counts.
func TestSubscriptionCounts(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.SubscriptionCounts = true }))
	first, second := s.connect(t), s.connect(t)
	wantCount := func(c *client, n int) {
		t.Helper()
		if f := c.wantOn("chat", "pusher_internal:subscription_count"); f.text(t) != fmt.Sprintf(`{"subscription_count":%d}`, n) {
			t.Errorf("got %s, want %d", f.raw, n)
		}
	}
	first.subscribe("chat")
	wantCount(first, 1)
	second.subscribe("chat")
	wantCount(first, 2)
	wantCount(second, 2)
	_ = second.conn.Close()
	wantCount(first, 1)
	first.join(lobby, `{"user_id":"a"}`)
	first.wantNothing()

	for range 100 {
		s.connect(t).subscribe("chat")
	}
	for n := 2; n <= 100; n++ {
		wantCount(first, n)
	}
	for range 50 {
		s.connect(t).subscribe("chat")
	}
	f := first.wantOn("chat", "pusher_internal:subscription_count")
	if !strings.Contains(f.raw, "151") {
		f = first.wantOn("chat", "pusher_internal:subscription_count")
	}
	if !strings.Contains(f.raw, "151") {
		t.Errorf("the second count after 100 is %s, want 151", f.raw)
	}
}
