package node_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"reecho/edge/app"
	"reecho/edge/config"
)

// eventStream is an open event stream.
type eventStream struct {
	t       *testing.T
	lines   *bufio.Scanner
	lastID  string
	event   string // the type of the last event, "" for a message
	Header  http.Header
	hang    context.CancelFunc
	comment bool // heartbeats and padding were seen
}

// stream opens an event stream; last is the Last-Event-ID, "" for none.
func (s *server) stream(t *testing.T, query url.Values, last string) *eventStream {
	t.Helper()
	return s.streamRaw(t, query.Encode(), last)
}

func (s *server) streamRaw(t *testing.T, query, last string) *eventStream {
	t.Helper()
	ctx, hang := context.WithTimeout(t.Context(), patience)
	t.Cleanup(hang)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+"/app/"+key+"/events?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	if last != "" {
		request.Header.Set("Last-Event-ID", last)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s %s", response.Status, response.Header)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	return &eventStream{t: t, lines: lines, lastID: last, Header: response.Header, hang: hang}
}

// next returns the data of the next event, as a browser gives it; ok is false
// at the end of the stream. A block without data only moves the id.
func (e *eventStream) next() (data string, ok bool) {
	e.t.Helper()
	found := false
	e.event = ""
	for e.lines.Scan() {
		line := e.lines.Text()
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && found:
			return data, true
		case field == "id":
			e.lastID = value
		case field == "event":
			e.event = value
		case field == "data":
			data, found = value, true
		case field == "":
			e.comment = true
		}
	}
	return "", false
}

// wantScores expects score events with the data first to last.
func (e *eventStream) wantScores(channel string, first, last int) {
	e.t.Helper()
	for i := first; i <= last; i++ {
		want := fmt.Sprintf(`{"event":"score","channel":"%s","data":"%d"}`, channel, i)
		if got, ok := e.next(); !ok || got != want {
			e.t.Fatalf("got %s (%v), want %s", got, e.lines.Err(), want)
		}
	}
}

// wantID waits until the stream has said where it stands on so many channels.
func (e *eventStream) wantID(channels int) {
	e.t.Helper()
	for positionsIn(e.lastID) < channels && e.lines.Scan() {
		if id, ok := strings.CutPrefix(e.lines.Text(), "id: "); ok {
			e.lastID = id
		}
	}
	if positionsIn(e.lastID) != channels {
		e.t.Fatalf("the stream is at %q, %v", e.lastID, e.lines.Err())
	}
}

// positionsIn is how many channels an id has a position of.
func positionsIn(id string) (n int) {
	parts := strings.Split(id, "~")
	for _, part := range parts[min(2, len(parts)):] {
		if strings.Contains(part, "-") {
			n++
		}
	}
	return n
}

// DESIGN §6, way 4: a browser that comes back with the last id gets what it missed, on
// every channel, in order, once.
func TestEventStream(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	query := url.Values{"channel": {"match.1", "match.2"}}
	scores := s.watch(t, "match.1")
	a := s.stream(t, query, "")
	a.wantID(2)
	s.scores("match.1", 1, 3)
	a.wantScores("match.1", 1, 3)
	s.scores("match.2", 1, 2)
	a.wantScores("match.2", 1, 1) // and cut
	a.hang()
	scores(4, 6)
	b := s.stream(t, query, a.lastID)
	for _, want := range []struct {
		channel             string
		resumed, from, upTo int
	}{{"match.1", 3, 4, 6}, {"match.2", 1, 2, 2}} {
		data, _ := b.next()
		if !strings.HasPrefix(data, `{"event":"reecho:resumed","channel":"`+want.channel) || !strings.Contains(data, `\"events\":`+strconv.Itoa(want.resumed)) {
			t.Fatalf("got %s", data)
		}
		b.wantScores(want.channel, want.from, want.upTo)
	}
	s.scores("match.2", 3, 3)
	b.wantScores("match.2", 3, 3)
	c := s.stream(t, query, "1~damaged")
	if data, _ := c.next(); !strings.HasPrefix(data, `{"event":"reecho:gap"`) || !strings.Contains(data, "unknown_position") {
		t.Errorf("got %s", data)
	}
}

// A client that takes its events with poll=1 gets an answer that ends, and goes
// on with the next.
func TestEventStreamPoll(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	query := url.Values{"channel": {"match.1"}, "poll": {"1"}}
	a := s.stream(t, query, "")
	if data, more := a.next(); more || a.lastID == "" {
		t.Fatalf("the first answer is %s, id %q", data, a.lastID)
	}
	s.scores("match.1", 1, 3)
	b := s.stream(t, query, a.lastID)
	b.wantScores("match.1", 1, 3)
	if data, more := b.next(); more {
		t.Errorf("got %s", data)
	}
	// With nothing to tell it waits.
	c := s.stream(t, query, b.lastID)
	demo := s.Hub().Apps().ByID(appID)
	poll(t, "the client to wait", func() bool { return s.Hub().Channel(t.Context(), demo, "match.1").Subscriptions == 1 })
	s.scores("match.1", 4, 4)
	c.wantScores("match.1", 4, 4)
}

// A client that stops reading in the middle of a long replay is given up, and
// everything it had with it.
func TestEventStreamOfSlowClient(t *testing.T) {
	t.Parallel()
	const limit = 32 << 20
	s := startServerWith(t, func(c *config.Config) { c.Socket.WriteTimeout = 200 * time.Millisecond },
		demoApp(func(a *app.App) { a.Limits.EventDataBytes, a.Limits.ReplayBytes = 500<<10, limit }))
	for range 60 {
		s.publish("match.1", "score", strings.Repeat("x", 400<<10), "")
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "GET /app/%s/events?channel=match.1&last=60 HTTP/1.1\r\nHost: x\r\n\r\n", key); err != nil {
		t.Fatal(err)
	}
	demo := s.Hub().Apps().ByID(appID)
	poll(t, "the client to come", func() bool { return s.Hub().Connections(demo) == 1 })
	poll(t, "the client to be given up", func() bool { return s.Hub().Connections(demo) == 0 })
	if info := s.Hub().Channel(t.Context(), demo, "match.1"); info.Subscriptions != 0 {
		t.Errorf("%d subscriptions are left", info.Subscriptions)
	}
}

// What cannot be served is told before the stream begins.
func TestEventStreamRefused(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.Limits.SSEChannels = 2 }))
	for query, part := range map[string]string{
		"":                                      "Name 1 to 2 channels",
		"channel=a&channel=b&channel=c":         "Name 1 to 2 channels",
		"channel=a&channel=a":                   "named twice",
		"channel=a%20b":                         "Invalid channel name",
		"channel=presence-a":                    "WebSocket",
		"channel=private-a":                     "private-a",
		"channel=private-a&auth[private-a]=x:y": "private-a",
		"channel=a&last=0":                      "last",
		"channel=a&since=noon":                  "RFC 3339",
		"channel=a&last=1&since=2026-01-31T20Z": "RFC 3339",
		"channel=a&last=1&since=" + yearsAgo:    "one of last and since",
		"channel=a&socket_id=nobody":            "socket_id",
		"channel=a&socket_id=%zz":               "malformed",
	} {
		response, err := http.Get("http://" + s.addr + "/app/" + key + "/events?" + query)
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		_, _ = bufio.NewReader(response.Body).WriteTo(&text)
		_ = response.Body.Close()
		if response.StatusCode/100 != 4 || !strings.Contains(text.String(), part) {
			t.Errorf("%s: %s %s, want %q", query, response.Status, text.String(), part)
		}
	}
}

const yearsAgo = "2020-01-31T20:00:00Z"
