package node_test

import (
	"bytes"
	"context"
	"crypto/md5" // body_md5 is part of the Pusher protocol
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"reecho/edge/app"
	"reecho/edge/config"
	"reecho/edge/pusher"
)

// callWithKeys makes a signed call with X-Idempotency-Key, as often as there are keys.
func (s *server) callWithKeys(path, body string, keys ...string) (status int, text string) {
	s.t.Helper()
	sum := md5.Sum([]byte(body))
	query := fmt.Sprintf("auth_key=%s&auth_timestamp=%d&auth_version=1.0&body_md5=%s", key, time.Now().Unix(), hex.EncodeToString(sum[:]))
	query += "&auth_signature=" + pusher.Sign(secret, "POST\n"+path+"\n"+query)
	req, err := http.NewRequestWithContext(s.t.Context(), "POST", "http://"+s.addr+path+"?"+query, bytes.NewBufferString(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header["X-Idempotency-Key"] = keys
	res, err := apiClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

// wantLogged checks the data of all events that are retained of a channel.
func (s *server) wantLogged(channel string, data ...string) {
	s.t.Helper()
	if _, got := s.call("GET", base+"/channels/"+channel+"/events", url.Values{"limit": {"1000"}}, ""); len(data) != strings.Count(got, `"data":`) {
		s.t.Errorf("stored on %s: %s, want %s", channel, got, data)
	} else {
		for _, text := range data {
			if strings.Count(got, `"data":"`+text+`"`) != 1 {
				s.t.Errorf("stored on %s: %s, want %s", channel, got, data)
			}
		}
	}
}

func TestIdempotentPublish(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.connect(t)
	c.subscribe("chat")
	const body = `{"name":"x","data":"1","channels":["chat","other"],"info":"subscription_count,position"}`
	want := func(path, body string, keys []string, status int, part string) string {
		t.Helper()
		got, text := s.callWithKeys(base+path, body, keys...)
		if got != status || !strings.Contains(text, part) {
			t.Errorf("%s %.200s with %.200q: got %d %q, want %d %q", path, body, keys, got, text, status, part)
		}
		return text
	}
	one := []string{"order-1"}
	first := want("/events", body, one, 200, `{"channels":{"chat":{"subscription_count":1,"position":"`)
	// The answer is that of then, though there is another subscriber by now.
	s.connect(t).subscribe("chat")
	for _, again := range []string{
		want("/events", body, one, 200, ""),
		want("/events", `{"info":["subscription_count","position"],"channels":["chat","other"],"data":"1", "name":"x"}`, one, 200, ""),
		want("/events", strings.Replace(body, "{", `{"idempotency_key":"order-1",`, 1), one, 200, ""),
		want("/events", strings.Replace(body, "{", `{"idempotency_key":"order-1",`, 1), nil, 200, ""),
	} {
		if again != first {
			t.Errorf("answered %s, at first %s", again, first)
		}
	}
	for _, other := range []string{
		strings.Replace(body, `"1"`, `"2"`, 1), strings.Replace(body, `"x"`, `"y"`, 1), strings.Replace(body, `,"other"`, ``, 1),
		strings.Replace(body, `,position`, ``, 1), strings.Replace(body, `{`, `{"socket_id":"1.2",`, 1),
	} {
		want("/events", other, one, 409, "The idempotency key was used for something else")
	}
	want("/batch_events", `{"batch":[{"name":"x","data":"1","channel":"chat"}]}`, one, 409, "used for something else")
	if f := c.wantOn("chat", "x"); f.text(t) != "1" {
		t.Errorf("got %s", f.raw)
	}
	c.wantNothing()
	s.wantLogged("chat", "1")
	s.wantLogged("other", "1")
	// What is refused leaves the key to the right one.
	for refused, status := range map[string]int{
		`{"name":"x","data":"3","channel":"a b"}`:                                     400,
		`{"name":"x","data":"` + strings.Repeat("x", 10241) + `","channel":"chat"}`:   413,
		`{"name":"x","data":"3","channel":"chat","info":"bogus"}`:                     400,
		`{"name":"x","data":"3","channels":["private-encrypted-a","chat"]}`:           400,
		`{"name":"x","data":"3","channel":"chat","idempotency_key":"another-order"}`:  400,
		`{"name":"x","data":"3","channel":"chat","idempotency_key":"another order"}`:  400,
		`{"name":"x","data":"3","channel":"chat","idempotency_key":["order-2"]}`:      400,
		`{"batch":[{"name":"x","data":"3","channel":"chat"}],"idempotency_key":true}`: 400,
	} {
		want("/events", refused, []string{"order-2"}, status, "")
	}
	want("/events", `{"name":"x","data":"4","channel":"chat"}`, []string{"order-2"}, 200, "{}")
	s.wantLogged("chat", "1", "4")
	for _, keys := range [][]string{{""}, {"a b"}, {"a\tb"}, {"ü"}, {strings.Repeat("k", 129)}, {"a", "b"}, {"a", "a"}} {
		want("/events", body, keys, 400, "X-Idempotency-Key")
	}
	want("/events", `{"name":"x","data":"5","channel":"chat","idempotency_key":"b"}`, []string{"a"}, 400, "they should be the same, or one is enough")
	want("/events", `{"name":"x","data":"6","channel":"chat"}`, []string{strings.Repeat("~", 128)}, 200, "{}")
	s.wantLogged("chat", "1", "4", "6")
}

func TestIdempotentBatch(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const body = `{"batch":[{"name":"x","data":"1","channel":"a","info":"position"},{"name":"x","data":"2","channel":"b"},{"name":"x","data":"3","channel":"a","info":"position"}]}`
	_, first := s.callWithKeys(base+"/batch_events", body, "k")
	for range 2 {
		if status, again := s.callWithKeys(base+"/batch_events", strings.Replace(body, "{", `{"idempotency_key":"k",`, 1)); status != 200 || again != first {
			t.Errorf("answered %d %s, at first %s", status, again, first)
		}
	}
	s.wantLogged("a", "1", "3")
	s.wantLogged("b", "2")
	_, last := s.call("GET", base+"/channels/a", url.Values{"info": {"position"}}, "")
	if position := last[strings.Index(last, `"position"`) : len(last)-1]; !strings.HasSuffix(first, `,{},{`+position+`}]}`) {
		t.Errorf("answered %s, the channel is at %s", first, last)
	}
	if status, text := s.callWithKeys(base+"/batch_events", strings.Replace(body, `"2"`, `"9"`, 1), "k"); status != 409 {
		t.Errorf("another batch: %d %s", status, text)
	}
	// The deprecated way: everything but the data is in the query.
	for range 3 {
		s.wantCall("POST", base+"/channels/c/events", url.Values{"name": {"x"}, "idempotency_key": {"old"}}, "1", 202, "")
	}
	s.wantCall("POST", base+"/channels/c/events", url.Values{"name": {"x"}, "idempotency_key": {"old"}}, "2", 409, "used for something else")
	s.wantCall("POST", base+"/channels/c/events", url.Values{"name": {"x"}, "idempotency_key": {"o d"}}, "2", 400, "visible ASCII")
	s.wantLogged("c", "1")
}

// Where nothing is retained an event is delivered once all the same, and has no position.
func TestIdempotentWithoutRetention(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.Retention = []app.Retention{{Channels: "cursor.*", Off: true}} }))
	c := s.connect(t)
	c.subscribe("cursor.1")
	const body = `{"name":"x","data":"1","channels":["cursor.1"],"info":"position"}`
	for range 3 {
		if status, text := s.callWithKeys(base+"/events", body, "k"); status != 200 || text != `{"channels":{"cursor.1":{"position":null}}}` {
			t.Errorf("answered %d %s", status, text)
		}
	}
	c.wantOn("cursor.1", "x")
	c.wantNothing()
	s.wantCall("GET", base+"/channels/cursor.1", url.Values{"info": {"position"}}, "", 200, `{"occupied":true,"position":null}`)
}

// Keys outlive a restart.
func TestIdempotentOverRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(c *config.Config) { c.Store.Dir = dir }
	s := startServerWith(t, in)
	const body = `{"name":"x","data":"1","channels":["a","b"],"info":"position"}`
	_, first := s.callWithKeys(base+"/events", body, "k")
	if err := s.close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = startServerWith(t, in)
	if status, again := s.callWithKeys(base+"/events", body, "k"); status != 200 || again != first {
		t.Errorf("answered %d %s, before the restart %s", status, again, first)
	}
	s.wantLogged("a", "1")
}

// The position of a channel is that of its newest event, told alike by a publish, by the
// channel and by what subscribers get; it is there before the first and after all are gone.
func TestPosition(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.Log.MaxAge = 2 * time.Second })
	position := func() string {
		t.Helper()
		status, text := s.call("GET", base+"/channels/chat", url.Values{"info": {"subscription_count,position"}}, "")
		_, position, _ := strings.Cut(text, `"position":`)
		if status != 200 || position == "" {
			t.Fatalf("answered %d %s", status, text)
		}
		return strings.Trim(position, `"}`)
	}
	sequence := func(position string) int {
		n, err := strconv.Atoi(position[strings.LastIndexByte(position, '-')+1:])
		if err != nil {
			t.Fatalf("position %q: %v", position, err)
		}
		return n
	}
	before := position()
	c := s.connect(t)
	c.send("pusher:subscribe", "", map[string]any{"channel": "chat", "replay": map[string]any{}})
	c.want("pusher_internal:subscription_succeeded")
	s.publish("other", "x", "1", "")
	_, answer := s.call("POST", base+"/events", nil, `{"name":"x","data":"1","channel":"chat","info":"position"}`)
	at := position()
	if want := fmt.Sprintf(`{"channels":{"chat":{"position":%q}}}`, at); answer != want {
		t.Errorf("the publish was answered %s, the channel is at %s", answer, at)
	}
	if f := c.wantOn("chat", "x"); !strings.Contains(f.raw, `"position":"`+at+`"`) {
		t.Errorf("got %s, the channel is at %s", f.raw, at)
	}
	if sequence(before) >= sequence(at) {
		t.Errorf("positions %s, then %s", before, at)
	}
	poll(t, "the event to be gone", func() bool {
		_, text := s.call("GET", base+"/channels/chat/events", nil, "")
		return text == `{"events":[],"more":false}`
	})
	if gone := position(); sequence(gone) < sequence(at) {
		t.Errorf("positions %s, then %s", at, gone)
	}
	s.wantCall("GET", base+"/channels", url.Values{"info": {"position"}}, "", 400, "position is told of one channel at a time")
	s.wantCall("GET", base+"/channels/chat", url.Values{"info": {"positions"}}, "", 400, "user_count, subscription_count, cache and position")
}

// Three nodes are tried at once, again and again, while one of them goes and comes back.
func TestMeshIdempotency(t *testing.T) {
	t.Parallel()
	servers := startMesh(t, 3, asItIs)
	const rounds = 40
	try := func(round int) {
		body := fmt.Sprintf(`{"name":"x","data":"%d","channels":["a","b","c","d"],"info":"position"}`, round)
		answers := make([]string, len(servers))
		var all sync.WaitGroup
		for i, s := range servers {
			all.Go(func() {
				poll(t, "an answer", func() bool {
					status, text := s.callWithKeys(base+"/events", body, fmt.Sprint("key-", round))
					answers[i] = text
					return status == 200
				})
			})
		}
		all.Wait()
		for _, answer := range answers {
			if answer != answers[0] {
				t.Errorf("round %d: answered %s", round, answers)
				return
			}
		}
	}
	for round := range rounds {
		if round == rounds/2 {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			if err := servers[2].close(ctx); err != nil {
				t.Error(err)
			}
			cancel()
			servers = servers[:2]
		}
		try(round)
	}
	var want []string
	for round := range rounds {
		try(round)
		want = append(want, strconv.Itoa(round))
	}
	for _, channel := range []string{"a", "b", "c", "d"} {
		servers[1].wantLogged(channel, want...)
	}
}
