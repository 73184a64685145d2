package node_test

import (
	"bytes"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"reecho/edge/app"
	"reecho/edge/config"
	"reecho/edge/pusher"
	"reecho/replay"
)

// FuzzEveryDoor sends anything through every door of a running server. Whatever
// is accepted, everybody gets frames that every client can read, and what is
// stored can be read again; whatever is refused is refused in a few words.
func FuzzEveryDoor(f *testing.F) {
	s := startServerWith(f, func(cfg *config.Config) { cfg.Log.EventsPerChannel = 100 },
		demoApp(func(a *app.App) {
			a.SubscriptionErrors, a.Watchlist, a.SubscriptionCounts = true, true, true
		}))
	watcher := s.connect(f)
	watcher.trySubscribe(lobby, `{"user_id":"watcher"}`)
	for _, name := range watched[:3] {
		watcher.trySubscribe(name, "")
	}
	watcher.sendText(`{"event":"pusher:ping","data":{}}`)
	for watcher.next().Event != "pusher:pong" {
	}
	for i := range len(fuzzDoors) {
		for _, seed := range doorSeeds {
			f.Add(uint8(i), seed[0], seed[1])
		}
	}
	f.Fuzz(func(t *testing.T, at uint8, a, b string) {
		watcher.t, s.t = t, t
		fuzzDoors[int(at)%len(fuzzDoors)](s, a, b)
		s.checkWatcher(watcher)
	})
}

// doorSeeds hold every fault that was found at a door.
var doorSeeds = [][2]string{
	{`{"name":"x","data":"a\ud83d","channel":"chat"}`, "x"},
	{`{"name":"x","data":{"\ud83d":"\ud83d","a":1e999,"b":1,"b":2},"channels":["chat","private-x"]}`, "x"},
	{`{"name":"\ud83d","data":"1","channel":"chat"}`, "\xed\xa0\xbd"},
	{"{\"name\":\"x\",\"data\":\"\xff\",\"channel\":\"chat\"}", "\xff"},
	{"{\"name\":\"\xff\",\"data\":\"1\",\"channel\":\"chat\"}", "pusher:x"},
	{`{"name":"x","data":"\u0000\u2028\u001f\"\\","channel":"chat","socket_id":"1.2"}`, "\x00\u2028"},
	{`{"batch":[{"name":"x","data":"1","channel":"chat"},{"name":"y","data":[[[]]],"channels":["private-x"],"info":"cache"}]}`, ""},
	{`{"batch":[{"name":"x","data":"1","channel":"chat"},{"name":"pusher:y","data":"1","channel":"chat"}]}`, ""},
	{`{"event":"client-x","channel":"private-x","data":{"a":"\ud83d","user_id":"forged"},"user_id":"forged"}`, ""},
	{`{"event":"client-x","channel":"presence-lobby","data":"\ud83d"}`, ""},
	{`{"event":"client-\ud83d","channel":"private-x"}`, ""},
	{`{"event":"pusher:subscribe","data":{"channel":"chat","replay":{"last":1,"since":"2263-01-01T00:00:00Z"}}}`, ""},
	{`{"event":"pusher:subscribe","data":"{\"channel\":\"\ud83d\"}"}`, ""},
	{`{"event":"pusher:unsubscribe","data":{"channel":"private-x"}}`, ""},
	{`{"user_id":"u","user_info":{"a":"\ud83d","\ud83d":1e999}}`, ""},
	{`{"user_id":"\ud83d"}`, ""},
	{"{\"user_id\":\"u\",\"user_info\":\"\x00\"}", ""},
	{`{"user_id":"watcher","user_info":"\u0000\u2028"}`, ""},
	{`{"id":"u","user_info":"\ud83d","watchlist":["a","a","watcher"],"x":"\ud83d"}`, ""},
	{`{"id":"u","watchlist":["a b","\ud83d"]}`, ""},
	{"null", ""},
	{"{", "\\"},
}

// fuzzDoors are the doors, each for a text that is its message.
var fuzzDoors = []func(s *server, a, b string){
	func(s *server, a, _ string) { s.fuzzCall("/events", nil, a) },
	func(s *server, a, _ string) { s.fuzzCall("/batch_events", nil, a) },
	func(s *server, a, b string) {
		s.fuzzCall("/events", url.Values{"name": {b}, "channel": {"chat"}, "data": {a}}, "")
	},
	func(s *server, a, b string) {
		s.fuzzCall("/channels/chat/events", url.Values{"name": {b}}, a)
	},
	func(s *server, a, _ string) { s.fuzzMessage(a) },
	func(s *server, a, _ string) {
		s.fuzzCommand(a, func(c *client) string {
			return mustJSON(s.t, map[string]any{"event": "pusher:subscribe", "data": map[string]any{
				"channel": lobby, "auth": key + ":" + pusher.Sign(secret, c.socketID+":"+lobby+":"+a), "channel_data": a,
			}})
		})
	},
	func(s *server, a, _ string) {
		s.fuzzCommand(a, func(c *client) string {
			return mustJSON(s.t, map[string]any{"event": "pusher:signin", "data": map[string]any{
				"auth": key + ":" + pusher.Sign(secret, c.socketID+"::user::"+a), "user_data": a,
			}})
		})
	},
}

// fuzzCall makes a signed call, which is accepted or refused in a few words.
func (s *server) fuzzCall(path string, query url.Values, body string) {
	t := s.t
	t.Helper()
	status, text := s.call("POST", base+path, query, body)
	switch {
	case status == 200 && !json.Valid([]byte(text)) || status == 202 && text != "":
		t.Fatalf("answer %d %q", status, text)
	case status == 200 || status == 202 || status == 414:
	case status != 400 && status != 401 && status != 413 || len(text) > 1100 || !utf8.ValidString(text):
		t.Fatalf("answer %d %.2000q", status, text)
	}
	if p, err := pusher.DecodePublishQuery([]byte(body), nil); status == 200 && err == nil {
		for _, channel := range p.Channels {
			s.checkStored(channel, p.Name)
		}
	}
}

// checkStored expects an event as the newest of a channel.
func (s *server) checkStored(channel, name string) {
	t := s.t
	t.Helper()
	page, err := s.Hub().History(t.Context(), s.Hub().Apps().ByID(appID), channel, replay.PageQuery{Limit: 1, Newest: true})
	if err != nil || len(page.Events) != 1 || page.Events[0].Name != name || !utf8.ValidString(page.Events[0].Data) {
		t.Fatalf("%q on %q: stored is %+v, error %v", name, channel, page, err)
	}
}

func (s *server) fuzzMessage(text string) {
	s.t.Helper()
	s.fuzzCommand(text, func(*client) string { return text })
}

// fuzzCommand sends what make returns over a connection that is on every kind of
// channel, and checks the answers.
func (s *server) fuzzCommand(input string, make func(*client) string) {
	t := s.t
	t.Helper()
	if !utf8.ValidString(input) || len(input) > 90<<10 {
		return // is closed with 1007 or 1009 by package socket
	}
	c := s.connect(t)
	defer c.conn.Close()
	c.subscribe("private-x")
	c.sendText(make(c))
	c.sendText(`{"event":"pusher:ping","data":{}}`)
	refusals := 0
	for f := c.nextAny(); f.Event != "pusher:pong"; f = c.nextAny() {
		checkFrame(t, f.raw)
		if strings.HasPrefix(f.raw, `{"event":"pusher:error"`) || strings.HasPrefix(f.raw, `{"event":"pusher:subscription_error"`) {
			refusals += len(f.raw)
		}
	}
	if refusals > 7000 {
		t.Fatalf("%d bytes of refusals for %d bytes: %.200q", refusals, len(input), input)
	}
}

// checkWatcher publishes on all watched channels and checks what came before.
func (s *server) checkWatcher(watcher *client) {
	t := s.t
	t.Helper()
	owner := s.Hub().Apps().ByID(appID)
	for _, name := range watched {
		err := s.Hub().Publish(t.Context(), owner, []pusher.Publish{{Name: "fence", Data: "", Channels: []string{name}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for left := len(watched); left > 0; {
		f := checkFrame(t, watcher.nextAny().raw)
		switch {
		case f.Event == "fence":
			left--
		case f.Channel != nil && !slices.Contains(watched, *f.Channel) || strings.HasPrefix(f.Event, "pusher:"):
			t.Fatalf("the watcher got %s", f.raw)
		case f.UserID != nil && strings.Contains(*f.UserID, "forged"):
			t.Fatalf("forged: %s", f.raw)
		}
		if bytes.Contains([]byte(f.raw), []byte{0}) {
			t.Fatalf("a raw control character: %q", f.raw)
		}
	}
}
