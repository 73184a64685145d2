package node_test

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"reecho/edge"
	"reecho/edge/app"
	"reecho/edge/pusher"
	"reecho/replay"
)

// door is a way to publish.
type door struct {
	name  string
	query bool // names come in the query, where bytes are bytes
	call  func(s *server, ev pusher.Publish) (status int, text string)
}

// doors are all ways to publish over HTTP. Each passes the parts of an event on
// as they are, right or wrong.
var doors = []door{
	{"events", false, func(s *server, ev pusher.Publish) (int, string) {
		return s.call("POST", base+"/events", nil, publishBody(ev))
	}},
	{"batch_events", false, func(s *server, ev pusher.Publish) (int, string) {
		first := `{"name":"first","data":"1","channel":"first"}`
		return s.call("POST", base+"/batch_events", nil, `{"batch":[`+first+`,`+publishBody(ev)+`]}`)
	}},
	{"events by query", true, func(s *server, ev pusher.Publish) (int, string) {
		query := url.Values{"name": {ev.Name}, "channel": ev.Channels}
		if ev.SocketID != "" {
			query.Set("socket_id", ev.SocketID)
		}
		if ev.Info != "" {
			query.Set("info", ev.Info)
		}
		return s.call("POST", base+"/events", query, `{"data":`+jsonText(ev.Data)+`}`)
	}},
	{"deprecated", true, func(s *server, ev pusher.Publish) (int, string) {
		query := url.Values{"name": {ev.Name}}
		if ev.SocketID != "" {
			query.Set("socket_id", ev.SocketID)
		}
		if ev.Info != "" {
			query.Set("info", ev.Info)
		}
		c := s.raw(s.t)
		at := base + "/channels/" + ev.Channels[0] + "/events"
		c.send("POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", target("POST", at, query, ev.Data), len(ev.Data), ev.Data)
		status, text := c.answer()
		if status == 202 {
			return 200, text
		}
		return status, text
	}},
}

// jsonText makes a JSON string of any bytes.
func jsonText(text string) string { return string(pusher.AppendString(nil, text)) }

func publishBody(ev pusher.Publish) string {
	body := `{"name":` + jsonText(ev.Name) + `,"data":` + jsonText(ev.Data) + `,"channel":` + jsonText(ev.Channels[0])
	if ev.SocketID != "" {
		body += `,"socket_id":` + jsonText(ev.SocketID)
	}
	if ev.Info != "" {
		body += `,"info":` + jsonText(ev.Info)
	}
	return body + `}`
}

// Q: what one door refuses all refuse, with the same status; what one takes all
// take and store alike.
func TestEveryDoorChecksTheSame(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	event := func(edit func(*pusher.Publish)) pusher.Publish {
		ev := pusher.Publish{Name: "x", Data: "1", Channels: []string{"chat"}}
		edit(&ev)
		return ev
	}
	named := func(name string) pusher.Publish { return event(func(ev *pusher.Publish) { ev.Name = name }) }
	on := func(channel string) pusher.Publish {
		return event(func(ev *pusher.Publish) { ev.Channels = []string{channel} })
	}
	without := func(id string) pusher.Publish { return event(func(ev *pusher.Publish) { ev.SocketID = id }) }
	with := func(data string) pusher.Publish { return event(func(ev *pusher.Publish) { ev.Data = data }) }
	asking := func(info string) pusher.Publish { return event(func(ev *pusher.Publish) { ev.Info = info }) }
	for _, tt := range []struct {
		ev     pusher.Publish
		status int
		data   string // of what is stored
	}{
		{named(""), 400, ""},
		{named(strings.Repeat("é", 201)), 400, ""},
		{named("pusher:x"), 400, ""},
		{named("pusher_internal:member_added"), 400, ""},
		{named("\xff"), 400, ""},
		{named("a\xed\xa0\xbd"), 400, ""},
		{named("a\xf0\x9f\x98"), 400, ""},
		{on("a%20b"), 400, ""},
		{on(strings.Repeat("x", 201)), 400, ""},
		{on("%23x"), 400, ""},
		{on("%23server-to-user-"), 400, ""},
		{on("%C3%A9"), 400, ""},
		{on("%FF"), 400, ""},
		{on("*"), 400, ""},
		{without("x"), 400, ""},
		{without("1"), 400, ""},
		{without("1.2\n"), 400, ""},
		{without("1.2 "), 400, ""},
		{without(strings.Repeat("1", 200)), 400, ""},
		{without(strings.Repeat("1", 10_000) + ".1"), 400, ""},
		{asking("bogus"), 400, ""},
		{asking("user_count,bogus"), 400, ""},
		{with(strings.Repeat("x", 10241)), 413, ""},
		{with(strings.Repeat("é", 5121)), 413, ""},

		{with(strings.Repeat("\x01", 10240)), 200, strings.Repeat("\x01", 10240)},
		{with("a\xff\U0001F600"), 200, "a\uFFFD\U0001F600"},
		{with("\xf0\x9f\x98"), 200, "\uFFFD"},
		{with(`{"a":"\ud83d"}`), 200, `{"a":"\ufffd"}`}, // what subscribers read as JSON, all can read
		{with(`{"a":"\ud83d"`), 200, `{"a":"\ud83d"`},   // no JSON
		{with("\x00\u2028\u2029\x7f"), 200, "\x00\u2028\u2029\x7f"},
		{named(`App\Events\Foo`), 200, "1"},
		{named("\u0000é"), 200, "1"},
		{without("1.2"), 200, "1"},
		{without("007.1"), 200, "1"},
		{asking("user_count,subscription_count"), 200, "1"},
	} {
		channel, _ := url.PathUnescape(tt.ev.Channels[0])
		for _, d := range doors {
			ev := tt.ev
			if d.name != "deprecated" {
				ev.Channels = []string{channel}
			}
			s.checkDoor(d, ev, channel, tt.status, tt.data)
		}
	}
	if n := len(s.history("first")); n != 11 {
		t.Errorf("%d batches were stored in part or whole, want 11", n)
	}
	// In the query a name stands once.
	for _, query := range []url.Values{{"name": {"a", "b"}}, {"name": {"a"}, "socket_id": {"1.2", "1.3"}}} {
		s.wantCall("POST", base+"/channels/chat/events", query, "1", 400, "stands 2 times")
		query.Set("channel", "chat")
		s.wantCall("POST", base+"/events", query, `{"data":"1"}`, 400, "stands 2 times")
	}
}

func (s *server) checkDoor(d door, ev pusher.Publish, channel string, want int, data string) {
	s.t.Helper()
	owner := s.Hub().Apps().ByID(appID)
	newest := func() (edge.HistoryEvent, bool) {
		page, err := s.Hub().History(s.t.Context(), owner, channel, replay.PageQuery{Limit: 1, Newest: true})
		if err != nil {
			s.t.Fatal(err)
		}
		if len(page.Events) == 0 {
			return edge.HistoryEvent{}, false
		}
		return page.Events[0], true
	}
	before, _ := newest()
	status, text := d.call(s, ev)
	if status != want || len(text) > 1100 {
		s.t.Errorf("%s: %.40q on %.40q without %.40q: got %d %.300q, want %d", d.name, ev.Name, channel, ev.SocketID, status, text, want)
	}
	after, ok := newest()
	switch {
	case want != 200 && after.Position != before.Position:
		s.t.Errorf("%s: %.40q on %.40q is stored", d.name, ev.Name, channel)
	case want == 200 && (!ok || after.Position == before.Position || after.Name != ev.Name || after.Data != data):
		s.t.Errorf("%s: %.40q on %.40q: stored is %+v, want data %.40q", d.name, ev.Name, channel, after, data)
	}
}

// Q: a client event's data is counted as it is delivered, however it is written.
func TestClientEventDataIsCountedAsDelivered(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := s.connect(t), s.connect(t)
	a.subscribe("private-x")
	b.subscribe("private-x")
	for data, delivered := range map[string]string{
		`"` + strings.Repeat(`\u00e9`, 5120) + `"`:             strings.Repeat("é", 5120),
		`"` + strings.Repeat(`\"`, 10240) + `"`:                strings.Repeat(`"`, 10240),
		`[1,` + strings.Repeat(" ", 20_000) + `2]`:             "[1,2]",
		`"` + strings.Repeat(`\u00e9`, 5121) + `"`:             "",
		`"` + strings.Repeat("x", 10241) + `"`:                 "",
		`["` + strings.Repeat("x", 10240-len(`[""]`)+1) + `"]`: "",
	} {
		a.sendText(`{"event":"client-x","channel":"private-x","data":` + data + `}`)
		if delivered == "" {
			a.wantError(0, "limit 10240")
			continue
		}
		if f := b.wantOn("private-x", "client-x"); f.text(t) != delivered {
			t.Errorf("%.30s: delivered %d bytes, want %d", data, len(f.text(t)), len(delivered))
		}
	}
	a.wantNothing()
	b.wantNothing()
}

// J: half an emoji passes through whispers, presence and publishes.
func TestHalfAnEmoji(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := s.connect(t), s.connect(t)
	a.subscribe("private-x")
	b.subscribe("private-x")
	a.join(lobby, `{"user_id":"a","user_info":{"name":"half \ud83d"}}`)
	if f := b.join(lobby, `{"user_id":"b","user_info":{"name":"\ude00"}}`); !strings.Contains(f.text(t), `half \ufffd`) {
		t.Errorf("got %s", f.raw)
	}
	if f := a.wantOn(lobby, "pusher_internal:member_added"); !strings.Contains(f.text(t), `{"name":"\ufffd"}`) {
		t.Errorf("got %s", f.raw)
	}
	for data, want := range map[string]string{
		`"a\ud83d"`: "a\uFFFD", `{"\ud83d":"a\ud83db"}`: `{"\ufffd":"a\ufffdb"}`,
		// As JSON.stringify leaves it, inside of a string.
		`"{\"text\":\"a\\ud83d\"}"`: `{"text":"a\ufffd"}`, `"[\"\\uDE00\\ud83d\\ude00\"]"`: `["\ufffd\ud83d\ude00"]`,
		`"\"\\ud83d\""`: `"\ufffd"`, `"no JSON: \\ud83d"`: `no JSON: \ud83d`, `"\\ud"`: `\ud`,
	} {
		a.sendText(`{"event":"client-x","channel":"private-x","data":` + data + `}`)
		if f := b.wantOn("private-x", "client-x"); f.text(t) != want {
			t.Errorf("whisper %s: got %s, want %s", data, f.raw, want)
		}
		s.wantCall("POST", base+"/events", nil, `{"name":"x","channel":"private-x","data":`+data+`}`, 200, "{}")
		if f := b.wantOn("private-x", "x"); f.text(t) != want {
			t.Errorf("publish %s: got %s, want %s", data, f.raw, want)
		}
		a.wantOn("private-x", "x")
	}
	a.sendText(`{"event":"client-\ud83d","channel":"private-x","data":"1"}`)
	a.wantError(0, "event holds half of a character")
	a.trySubscribe("presence-other", `{"user_id":"\ud83d"}`)
	a.wantError(0, "user_id holds half of a character")
	a.signIn(`{"id":"u","user_info":{"name":"\ud83d"}}`)
	a.wantNothing()
	b.wantNothing()
}

// checkFrame fails unless a frame is what every client can read: one JSON object
// in valid UTF-8, each key of it once, data a string except in errors.
func checkFrame(t testing.TB, text string) (f frame) {
	t.Helper()
	if !utf8.ValidString(text) || !json.Valid([]byte(text)) {
		t.Fatalf("not JSON in valid UTF-8: %q", text)
	}
	if halfEscape(text) {
		t.Fatalf("half of a character: %q", text)
	}
	d := json.NewDecoder(strings.NewReader(text))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		t.Fatalf("not an object: %q", text)
	}
	var keys []string
	for d.More() {
		key, err := d.Token()
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		name := key.(string)
		if slices.Contains(keys, name) || !slices.Contains([]string{"event", "channel", "data", "user_id", "position"}, name) {
			t.Fatalf("key %q: %q", name, text)
		}
		keys = append(keys, name)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if isText := value[0] == '"'; isText == (name == "data" && strings.HasPrefix(text, `{"event":"pusher:error"`)) {
			t.Fatalf("%s is %.40s: %q", name, value, text)
		}
	}
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if strings.HasPrefix(f.Event, "pusher_internal:") || f.Event == "pusher:signin_success" {
		// What the server says itself is JSON in the string, too.
		if inner := f.text(t); !json.Valid([]byte(inner)) || halfEscape(inner) || !utf8.ValidString(inner) {
			t.Fatalf("in the data: %q", inner)
		}
	}
	return f
}

// halfEscape looks for escapes of a surrogate without its other half.
func halfEscape(text string) bool {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		i++
		if text[i] != 'u' || !isSurrogate(text[i+1:]) {
			continue
		}
		high := strings.IndexByte("89abAB", text[i+2]) >= 0
		if !high || len(text) < i+11 || text[i+5:i+7] != `\u` || !isSurrogate(text[i+7:]) || strings.IndexByte("cdefCDEF", text[i+8]) < 0 {
			return true
		}
		i += 10
	}
	return false
}

// isSurrogate reports whether hexadecimal digits begin with D8 to DF.
func isSurrogate(digits string) bool {
	return (digits[0] == 'd' || digits[0] == 'D') && digits[1] >= '8'
}

// watched are the channels that somebody watches while the doors are tried.
var watched = []string{"chat", "private-x", "private-encrypted-e", lobby}

// Q: what an app's switches promise holds at the API's door too, and before
// anything is read.
func TestSwitchesHoldForTheAPI(t *testing.T) {
	t.Parallel()
	for want, edit := range map[string]func(*app.App){
		"The app is disabled":                  func(a *app.App) { a.Enabled = false },
		"The app only accepts TLS connections": func(a *app.App) { a.TLSOnly = true },
	} {
		s := startServer(t, demoApp(edit))
		for _, path := range []string{"/events", "/batch_events", "/channels/chat/events?name=x"} {
			c := s.raw(t)
			path, name, _ := strings.Cut(path, "?name=")
			query := url.Values{}
			if name != "" {
				query.Set("name", name)
			}
			c.send("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", target("POST", base+path, query, "a body that never comes"))
			if status, text := c.answer(); status != 403 || !strings.Contains(text, want) {
				t.Errorf("%s: got %d %q, want 403 %q", path, status, text, want)
			}
		}
		s.wantCall("GET", base+"/channels", nil, "", 403, want)
	}
}
