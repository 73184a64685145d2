package sse

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"reecho/edge/app"
	"reecho/edge/pusher"
	"reecho/replay"
)

func mustRequest(t *testing.T, query string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/app/k/events", nil)
	r.URL.RawQuery = query
	return r
}

// What is wrong with a request is said, and what means nothing is no mistake.
func TestRequestIsChecked(t *testing.T) {
	t.Parallel()
	tenant := mustTenant(t, func(a *app.App) { a.Limits.SSEChannels = 2 })
	long := strings.Repeat("x", 200)
	for query, part := range map[string]string{
		"channel=a":                      "",
		"channel=a&_=1&utm=x&except=1.2": "",
		"channel=a&poll=1&poll=1":        "",
		"":                               "Name 1 to 2 channels",
		"channel=a&channel=b&channel=c":  "Name 1 to 2 channels",
		"channel=a&channel=a":            "named twice",
		"channel=a%20b":                  "Invalid channel name",
		"channel=presence-a":             "needs a WebSocket connection",
		"channel=a;b":                    "malformed",
		"channel=%zz":                    "malformed",
		"channel=a&last=0":               "last is not a number",
		"channel=a&since=noon":           "since",
		"channel=a&last=1&since=2020-01-31T20:00:00Z":            "one of last and since",
		"channel=a&last=1&last=2":                                "given twice",
		"channel=a&auth[a]=x&auth[a]=y":                          "auth[a] is given twice",
		"channel=a&except=nobody":                                "except",
		"channel=a&user_data=%ff":                                "not valid UTF-8",
		"channel=a&lastEventId=" + long:                          "it is none that this server gave",
		"channel=a" + strings.Repeat("&except=1.2", maxExcept+1): "",
		"channel=a" + excepts(maxExcept):                         "",
		"channel=a" + excepts(maxExcept+1):                       "except names more than",
	} {
		_, err := newRequest(tenant, mustRequest(t, query), "/ids")
		if (err == nil) != (part == "") || err != nil && (!strings.Contains(err.Error(), part) || statusOf(err, new(*refusal)) != http.StatusBadRequest) {
			t.Errorf("%s: got %v, want %q", query, err, part)
		}
	}
	tenant.LenientSubscribe = true
	if s, err := newRequest(tenant, mustRequest(t, "channel=a&channel=a"), "/ids"); err != nil || len(s.channels) != 1 {
		t.Errorf("got %+v, %v", s, err)
	}
}

// excepts are so many ids.
func excepts(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "&except=1.%d", i)
	}
	return b.String()
}

// The headers say what the query may say, and win.
func TestHeaders(t *testing.T) {
	t.Parallel()
	r := mustRequest(t, "channel=a&auth[a]=k:1&lastEventId=1~1&last-event-id=1~2&user_auth=k:1&user_data=x&LAST_EVENT_ID=")
	q, err := readQuery(r)
	if err != nil || q.lastID != "1~2" || q.auth["a"] != "k:1" || q.values[paramUserData] != "x" {
		t.Errorf("got %+v, %v", q, err)
	}
	r.Header = http.Header{
		"Last-Event-Id": {"1~3"}, headerAuth: {"a k:2, b k:3", "c k:4"}, headerUserAuth: {"k:2"}, headerUserData: {url.PathEscape(`{"id":"ä"}`)},
	}
	q, err = readQuery(r)
	if err != nil || q.lastID != "1~3" || !reflect.DeepEqual(q.auth, map[string]string{"a": "k:2", "b": "k:3", "c": "k:4"}) ||
		q.values[paramUserAuth] != "k:2" || q.values[paramUserData] != `{"id":"ä"}` {
		t.Errorf("got %+v, %v", q, err)
	}
	for name, value := range map[string]string{headerAuth: "a k:2 b", headerUserData: "%zz"} {
		r.Header = http.Header{name: {value}}
		if _, err := readQuery(r); err == nil {
			t.Errorf("%s: %s is taken", name, value)
		}
	}
}

// What is asked of each channel is what the cursor says of it; of a channel that
// is new, history; of one that was named and not answered, what came since too;
// behind a cursor that says nothing, a gap.
func TestResume(t *testing.T) {
	t.Parallel()
	a := newTestApp(nil)
	position := func(name string) string { return replay.NewLine("EPOCH", a.ID, name).At(7).String() }
	began := time.Now().Add(-time.Minute).Truncate(time.Second)
	cursorOf := func(all ...standing) string {
		c := newCursor(began)
		for _, st := range all {
			c.add(st)
		}
		return string(c.append(nil))
	}
	one, two := replay.ChannelTag(a.ID, "match.1"), replay.ChannelTag(a.ID, "match.2")
	at := standing{tag: one, position: position("match.1")}
	other := replay.NewLine("EPOCH", "78", "match.1").At(7).String()
	except := []string{"1.2"}
	after := func(text string) pusher.Replay { return pusher.Replay{After: text, Seen: -1, Except: except} }
	history := pusher.Replay{Seen: -1, Except: except}
	hour := began.Add(-time.Hour)
	last := func(since time.Time) pusher.Replay {
		return pusher.Replay{Seen: -1, Last: 3, Since: since, Except: except}
	}
	since := func(at time.Time) pusher.Replay { return pusher.Replay{Seen: -1, Since: at, Except: except} }
	now := time.Time{} // stands for the time of the request
	for name, tt := range map[string]struct {
		history       pusher.Replay
		lastID        string
		first, second pusher.Replay
		owed          owed // on match.2
		resumed       bool
	}{
		"first":            {history, "", history, history, owedNothing, false},
		"first, last":      {last(time.Time{}), "", last(now), last(now), owedNow, false},
		"first, since":     {since(hour), "", since(hour), since(hour), owedNothing, false},
		"new channel":      {history, cursorOf(at), after(at.position), history, owedNothing, true},
		"named":            {history, cursorOf(at, standing{tag: two, since: began}), after(at.position), since(began), owedAgain, true},
		"named, last":      {last(time.Time{}), cursorOf(at, standing{tag: two, since: began}), after(at.position), last(began), owedAgain, true},
		"named, since":     {since(hour), cursorOf(at, standing{tag: two, since: began}), after(at.position), since(hour), owedAgain, true},
		"gap owed":         {history, cursorOf(at, standing{tag: two}), after(at.position), after("?"), owedNothing, true},
		"damaged":          {history, "1~x", after("?"), after("?"), owedNothing, true},
		"cut":              {history, cursorOf(at)[:20], after("?"), after("?"), owedNothing, true},
		"others'":          {history, cursorOf(standing{tag: replay.PositionTag(other), position: other}), after(other), after(other), owedNothing, true},
		"others', at none": {history, cursorOf(standing{tag: "other", since: began}), after("?"), after("?"), owedNothing, true},
	} {
		s := &request{channels: []pusher.Subscribe{{Channel: "match.1"}, {Channel: "match.2"}}}
		if err := s.resume(a, tt.lastID, tt.history); err != nil {
			t.Fatal(err)
		}
		first, second := *s.channels[0].Replay, *s.channels[1].Replay
		if first.After == at.position {
			if first.Seen < time.Minute || first.Seen > time.Hour || !s.cursor.time.Equal(began) {
				t.Errorf("%s: seen %v ago, the cursor is of %v", name, first.Seen, s.cursor.time)
			}
			first.Seen = -1
		}
		for _, got := range []*pusher.Replay{&first, &second} {
			if age := time.Since(got.Since); age >= 0 && age < 30*time.Second {
				got.Since = now
			}
		}
		if !reflect.DeepEqual(first, tt.first) || !reflect.DeepEqual(second, tt.second) || s.owed["match.2"] != tt.owed || s.resumed != tt.resumed {
			t.Errorf("%s: got %+v and %+v, owed %v, resumed %v", name, first, second, s.owed, s.resumed)
		}
		if len(s.cursor.all) != 2 {
			t.Errorf("%s: the cursor names %+v", name, s.cursor.all)
		}
	}
}

// Two channels with positions that look alike cannot be in one stream.
func TestTagsCollide(t *testing.T) {
	t.Parallel()
	seen := make(map[string]string)
	for i := 0; ; i++ {
		name := "match." + strconv.Itoa(i)
		tag := replay.ChannelTag("77", name)
		if other, twice := seen[tag]; twice {
			s := &request{channels: []pusher.Subscribe{{Channel: other}, {Channel: name}}}
			if err := s.resume(newTestApp(nil), "", pusher.Replay{}); err == nil || !strings.Contains(err.Error(), "look like") {
				t.Errorf("%s and %s: got %v", other, name, err)
			}
			return
		}
		seen[tag] = name
	}
}

// A poll does not hear of the users that its user watches, a stream does.
func TestSignin(t *testing.T) {
	t.Parallel()
	for _, poll := range []bool{false, true} {
		s := &request{poll: poll, auth: &auth{user: pusher.User{ID: "alice", Watchlist: []string{"bob"}}, userData: "x"}}
		if who, data := s.signin(); who.ID != "alice" || data != "x" || (len(who.Watchlist) == 0) != poll {
			t.Errorf("poll %v: %+v, %s", poll, who, data)
		}
	}
}
