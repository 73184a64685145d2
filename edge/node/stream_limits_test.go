package node_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"reecho/edge/app"
	"reecho/edge/config"
	"reecho/edge/limit"
)

// Streams have a bound for the node and one for an address, and give their
// places back.
func TestStreamLimits(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		edit   func(*config.Config)
		status int
		part   string
		reason limit.Reason
	}{
		"node":    {func(c *config.Config) { c.Streams.EventStreams = 2 }, http.StatusServiceUnavailable, "event_streams is 2", limit.EventStreams},
		"address": {func(c *config.Config) { c.Streams.EventStreamsPerAddress = 2 }, http.StatusTooManyRequests, "event_streams_per_address is 2", limit.AddressStreams},
		"app":     {func(c *config.Config) { c.Apps[0].Limits.MaxConnections = 2 }, http.StatusServiceUnavailable, "limit of 2 connections is reached (max_connections)", limit.AppConnections},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServerWith(t, tt.edit)
			query := url.Values{"channel": {"match.1"}}
			a, b := s.stream(t, query, ""), s.stream(t, query, "")
			a.wantID(1)
			b.wantID(1)
			for _, more := range []url.Values{query, {"channel": {"match.1"}, "poll": {"1"}}} {
				response, text := s.ask(t, http.MethodGet, eventsPath+"?"+more.Encode(), http.Header{"Origin": {"https://example.com"}})
				if response.StatusCode != tt.status || !strings.Contains(text, tt.part) || response.Header.Get("Retry-After") == "" {
					t.Errorf("%s %s %v", response.Status, text, response.Header)
				}
				if response.Header.Get("Access-Control-Allow-Origin") != "https://example.com" {
					t.Errorf("its page cannot read it: %v", response.Header)
				}
			}
			a.hang()
			poll(t, "the place to be free", func() bool {
				response, _ := s.ask(t, http.MethodGet, eventsPath+"?"+query.Encode(), nil)
				return response.StatusCode == http.StatusOK
			})
			if s.Ledger().Total(tt.reason) < 2 {
				t.Errorf("the ledger has %v", s.Ledger().Totals())
			}
		})
	}
}

// A client cannot make the server repeat what it sends: a cursor holds only
// positions of the request's channels, and none is longer than a valid one.
func TestStreamCursorIsBounded(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(cfg *config.Config) { cfg.Socket.MaxHeaderBytes = 128 << 10 },
		demoApp(func(a *app.App) { a.Limits.ReplayEvents = 1000 }))
	s.burst("match.1", 1, 300)
	madeUp := func(n int) string {
		var b strings.Builder
		b.WriteString("1~" + fmt.Sprint(time.Now().Unix()))
		for i := range n {
			fmt.Fprintf(&b, "~A-%d-1", i)
		}
		return b.String()
	}
	for name, header := range map[string]http.Header{
		"6,500 positions": {"Last-Event-ID": {madeUp(6500)}},
		"text":            {"Last-Event-ID": {strings.Repeat("x", 2000)}},
	} {
		response, text := s.ask(t, http.MethodGet, eventsPath+"?channel=match.1&last=1000", header)
		if response.StatusCode != http.StatusBadRequest || !strings.Contains(text, "limit 1332") {
			t.Errorf("%s: %s %.200s", name, response.Status, text)
		}
	}
	for _, cursor := range []string{madeUp(150), "1~x~A-1-" + strings.Repeat("1", 1200), strings.Repeat("~", 1300)} {
		size := s.sizeOfAnswer(t, "channel=match.1&last=300", cursor)
		// An event and its id take about 110 bytes, and 2 KiB open the stream.
		if limit := int64(4<<10 + 300*160); size > limit {
			t.Errorf("%.40s: an answer of %d bytes, limit %d", cursor, size, limit)
		}
	}
}

// sizeOfAnswer reads a stream to event 300, or to a gap.
func (s *server) sizeOfAnswer(t *testing.T, query, lastID string) int64 {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+eventsPath+"?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Last-Event-ID", lastID)
	response, err := apiClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var all bytes.Buffer
	for !bytes.Contains(all.Bytes(), []byte(`"data":"300"}`)) && !bytes.Contains(all.Bytes(), []byte("reecho:gap")) {
		if _, err := io.CopyN(&all, response.Body, 1); err != nil {
			t.Fatalf("%v after %.300s", err, all.String())
		}
	}
	return int64(all.Len())
}

// Bad requests are told so before the stream begins, in few words.
func TestStreamBadQueries(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.Limits.ChannelsPerConnection = 3 }))
	long := strings.Repeat("x", 5000)
	for _, tt := range []struct{ query, part string }{
		{"channel=a&channel=b&channel=c&channel=d", "1 to 3 channels"},
		{strings.Repeat("channel=a&", 2000), "1 to 3 channels"},
		{"channel=" + long, "limit 200"},
		{"channel=a&socket_id=" + strings.Repeat("1", 5000) + ".1", "limit 20"},
		{"channel=a&socket_id=" + long, "socket_id"},
		{"channel=a&socket_id=1.2&socket_id=3.4", "socket_id is given twice"},
		{"channel=a&except=x", "except"},
		{"channel=a" + excepts(101), "more than 100"},
		{"channel=a&last=1&last=2", "last is given twice"},
		{"channel=a&auth[" + long + "]=1&auth[" + long + "]=2", "is given twice"},
		{"channel=a&last=99999999999999999999", "last"},
		{"channel=a&last=-1", "last"},
		{"channel=a&since=0001-01-01T00:00:00Z", "1970"},
		{"channel=a&since=9999-01-01T00:00:00Z", "1970"},
		{"channel=a;channel=b", "malformed"},
	} {
		response, text := s.ask(t, http.MethodGet, eventsPath+"?"+tt.query, nil)
		if response.StatusCode != http.StatusBadRequest || !strings.Contains(text, tt.part) || len(text) > 500 {
			t.Errorf("%.80s: %s %.600s, want %q", tt.query, response.Status, text, tt.part)
		}
	}
	for _, query := range []string{"channel=a&last=9223372036854775807", "channel=a&socket_id=1.2&socket_id=1.2&r=1&r=2&" + long + "=1", "channel=a&since=2261-01-01T00:00:00Z"} {
		if response, text := s.ask(t, http.MethodGet, eventsPath+"?"+query, nil); response.StatusCode != http.StatusOK {
			t.Errorf("%.80s: %s %s", query, response.Status, text)
		}
	}
	lenient := startServer(t, demoApp(func(a *app.App) { a.LenientSubscribe = true }))
	lenient.stream(t, url.Values{"channel": {"a", "a"}}, "").wantID(1)
}

// Who opens streams in a loop is held to the rate of those who open connections.
// A poll is sent away for a while and not refused, for its browser would not
// come back.
func TestStreamsCountAsHandshakes(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.Socket.HandshakesPerSecond = 1 })
	refused := 0
	for range 30 {
		response, text := s.ask(t, http.MethodGet, eventsPath+"?channel=match.1", nil)
		switch response.StatusCode {
		case http.StatusOK:
		case http.StatusTooManyRequests:
			refused++
			if !strings.Contains(text, "More than 1 connections a second") || !strings.Contains(text, "handshakes_per_second") ||
				response.Header.Get("Retry-After") == "" {
				t.Errorf("%s %v", text, response.Header)
			}
		default:
			t.Fatalf("%s %s", response.Status, text)
		}
	}
	if refused < 10 {
		t.Errorf("%d of 30 streams were refused", refused)
	}
	if got := s.Ledger().Total(limit.Handshakes); got != uint64(refused) {
		t.Errorf("the ledger has %d, refused were %d", got, refused)
	}
	polled := false
	for range 30 {
		response, err := apiClient.Get("http://" + s.addr + eventsPath + "?channel=match.1&poll=1&last=1")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("a poll: %s %v", response.Status, err)
		}
		polled = polled || string(text) == "retry: 5000\n\n"
	}
	if !polled {
		t.Error("no poll was sent away")
	}
}

// excepts names so many socket ids in a query.
func excepts(n int) string {
	var query strings.Builder
	for i := range n {
		fmt.Fprintf(&query, "&except=%d.1", i)
	}
	return query.String()
}
