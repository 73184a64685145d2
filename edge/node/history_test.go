package node_test

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"reecho/edge/app"
	"reecho/edge/config"
)

// DESIGN §6, way 5: the history API.
func TestHistoryAPI(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.Log.EventsPerChannel = 20 })
	path := "/apps/" + appID + "/channels/match.1/events"
	page := func(query url.Values) (scores []string, positions []string, more bool) {
		t.Helper()
		status, body := s.call("GET", path, query, "")
		var got struct {
			Events []struct {
				Position, Event, Data string
				Time                  time.Time
			}
			More bool
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 {
			t.Fatalf("%v: %d %s", query, status, body)
		}
		for _, e := range got.Events {
			if e.Event != "score" || time.Since(e.Time) > time.Hour {
				t.Errorf("got %+v", e)
			}
			scores, positions = append(scores, e.Data), append(positions, e.Position)
		}
		return scores, positions, got.More
	}
	if scores, _, more := page(nil); len(scores) != 0 || more {
		t.Errorf("of an empty channel: %v %v", scores, more)
	}
	s.scores("match.1", 1, 25)
	all, positions, more := page(nil)
	if strings.Join(all, " ") != "6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25" || more {
		t.Fatalf("all: %v %v", all, more)
	}
	for _, tt := range []struct {
		query url.Values
		want  string
		more  bool
	}{
		{url.Values{"limit": {"3"}}, "6 7 8", true},
		{url.Values{"after": {positions[2]}, "limit": {"3"}}, "9 10 11", true},
		{url.Values{"after": {positions[17]}, "limit": {"3"}}, "24 25", false},
		{url.Values{"after": {positions[19]}}, "", false},
		{url.Values{"order": {"desc"}, "limit": {"3"}}, "25 24 23", true},
		{url.Values{"order": {"desc"}, "limit": {"3"}, "before": {positions[3]}}, "8 7 6", false},
		{url.Values{"after": {positions[3]}, "before": {positions[6]}}, "10 11", false},
		{url.Values{"order": {"desc"}, "after": {positions[16]}}, "25 24 23", false},
		{url.Values{"since": {time.Now().Add(time.Minute).Format(time.RFC3339)}}, "", false},
	} {
		if got, _, more := page(tt.query); strings.Join(got, " ") != tt.want || more != tt.more {
			t.Errorf("%v: got %v %v, want %s %v", tt.query, got, more, tt.want, tt.more)
		}
	}
	s.scores("match.1", 26, 40)
	line := positions[0][:strings.LastIndexByte(positions[0], '-')+1]
	for _, tt := range []struct {
		query  url.Values
		status int
		part   string
	}{
		{url.Values{"after": {positions[0]}}, 410, "trimmed_by_count"},
		{url.Values{"after": {"x"}}, 400, "not a position"},
		{url.Values{"after": {line + "1000"}}, 400, "not a position"},
		{url.Values{"after": {line + "18446744073709551615"}}, 400, "not a position"},
		{url.Values{"after": {line + "18446744073709551616"}}, 400, "not a position"},
		{url.Values{"after": {"0" + positions[0][1:]}}, 410, "epoch_changed"},
		{url.Values{"limit": {"0"}}, 400, "limit"},
		{url.Values{"limit": {"1001"}}, 400, "1000"},
		{url.Values{"order": {"up"}}, 400, "order"},
		{url.Values{"since": {"noon"}}, 400, "RFC 3339"},
	} {
		if status, body := s.call("GET", path, tt.query, ""); status != tt.status || !strings.Contains(body, tt.part) {
			t.Errorf("%v: got %d %s, want %d %s", tt.query, status, body, tt.status, tt.part)
		}
	}
	if status, body := s.call("GET", "/apps/"+appID+"/channels/match.2/events", url.Values{"after": {positions[0]}}, ""); status != 400 || !strings.Contains(body, "another channel") {
		t.Errorf("foreign: %d %s", status, body)
	}
}

// A page of large events is as long as one of small ones.
func TestHistoryOfLargeEvents(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.Limits.EventDataBytes = 500 << 10 }))
	const events = 30
	for i := range events {
		s.publish("match.1", "score", strconv.Itoa(i)+strings.Repeat(" ", 400<<10), "")
	}
	for _, order := range []string{"asc", "desc"} {
		for _, limit := range []int{events - 1, events, events + 1} {
			status, body := s.call("GET", "/apps/"+appID+"/channels/match.1/events", url.Values{"order": {order}, "limit": {strconv.Itoa(limit)}}, "")
			var got struct {
				Events []struct{ Data string }
				More   bool
			}
			if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 {
				t.Fatalf("%d %v", status, err)
			}
			if n := min(limit, events); len(got.Events) != n || got.More != (limit < events) {
				t.Errorf("%s, limit %d: %d events, more %v", order, limit, len(got.Events), got.More)
			}
		}
	}
}
