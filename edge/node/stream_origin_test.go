package node_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"reecho/edge/app"
)

// The door of streams checks what that of WebSockets does.
func TestStreamDoor(t *testing.T) {
	t.Parallel()
	named := func(name string, edit func(*app.App)) *app.App {
		return demoApp(edit, func(a *app.App) {
			a.ID, a.Credentials = name, []app.Credential{{Key: name, Secret: "s"}}
		})
	}
	origins, err := app.ParseOrigins("*.example.com")
	if err != nil {
		t.Fatal(err)
	}
	s := startServer(t, named("disabled", func(a *app.App) { a.Enabled = false }), named("tls", func(a *app.App) { a.TLSOnly = true }),
		named("origins", func(a *app.App) { a.AllowedOrigins = origins }), demoApp())
	for _, tt := range []struct {
		method, app, origin string
		status              int
		part                string
		readable            bool // by the page of that origin
	}{
		{"GET", "unknown", "https://a.example.com", 404, "unknown does not exist", true},
		{"GET", "disabled", "https://a.example.com", 403, "disabled", true},
		{"GET", "tls", "https://a.example.com", 403, "TLS", true},
		{"GET", "origins", "https://example.org", 403, "Origin not allowed", false},
		{"GET", "origins", "https://a.example.com", 200, "", true},
		{"GET", "origins", "", 200, "", false},
		{"HEAD", "origins", "https://a.example.com", 200, "", true},
		{"DELETE", "origins", "https://a.example.com", 405, "GET", true},
		{"OPTIONS", "origins", "https://a.example.com", 204, "", true},
		{"OPTIONS", "origins", "https://example.org", 403, "Origin not allowed", false},
		// Else the page could not read what is wrong.
		{"OPTIONS", "unknown", "https://a.example.com", 204, "", true},
		{"OPTIONS", "disabled", "https://a.example.com", 204, "", true},
	} {
		for _, target := range []string{"/app/" + tt.app + "/events?channel=match.1", "/app/" + tt.app + "/events/socket_id"} {
			header := http.Header{}
			if tt.origin != "" {
				header.Set("Origin", tt.origin)
			}
			response, text := s.ask(t, tt.method, target, header)
			if response.StatusCode != tt.status || !strings.Contains(text, tt.part) {
				t.Errorf("%v on %s: %s %s", tt, target, response.Status, text)
			}
			allowed := response.Header.Get("Access-Control-Allow-Origin")
			if tt.readable && allowed != tt.origin || !tt.readable && allowed != "" {
				t.Errorf("%v on %s: allowed origin %q", tt, target, allowed)
			}
			if !strings.Contains(strings.Join(response.Header.Values("Vary"), ","), "Origin") {
				t.Errorf("%v on %s: Vary is %v", tt, target, response.Header.Values("Vary"))
			}
		}
	}
	if response, text := s.ask(t, http.MethodPost, eventsPath+"?channel=match.1", nil); response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") == "" {
		t.Errorf("%s %s", response.Status, text)
	}
}

// A preflight lets through what clients made on fetch send, whatever its name
// is, and repeats nothing that is no name.
func TestStreamPreflight(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	usual := []string{"authorization", "content-type", "accept", "cache-control", "last-event-id", "x-requested-with", "x-reecho-auth", "x-reecho-user-auth", "x-reecho-user-data"}
	for asked, more := range map[string]string{
		"":                              "",
		"authorization,last-event-id":   "",
		"x-socket-id, X-CSRF-Token":     "x-socket-id,x-csrf-token",
		"x-a\"b":                        "",
		"x a, x-b":                      "",
		strings.Repeat("x-long,", 1000): "",
	} {
		header := http.Header{"Origin": {"https://example.com"}, "Access-Control-Request-Method": {"GET"}}
		if asked != "" {
			header.Set("Access-Control-Request-Headers", asked)
		}
		response, _ := s.ask(t, http.MethodOptions, eventsPath+"?channel=private-chat", header)
		allowed := strings.ToLower(strings.ReplaceAll(response.Header.Get("Access-Control-Allow-Headers"), " ", ""))
		want := usual
		if more != "" {
			want = append(want, strings.Split(more, ",")...)
		}
		names := strings.Split(allowed, ",")
		if len(names) != len(want) {
			t.Errorf("%.80s: allowed %s", asked, allowed)
		}
		for _, name := range want {
			if !strings.Contains(","+allowed+",", ","+name+",") {
				t.Errorf("%.80s: %s is missing in %s", asked, name, allowed)
			}
		}
		if vary := response.Header.Values("Vary"); response.StatusCode != http.StatusNoContent || len(vary) != 2 {
			t.Errorf("%.80s: %s, Vary %v", asked, response.Status, vary)
		}
	}
}

// The names that polyfills give the last event id in the query, and which one
// counts: the header, else the one that was appended last.
func TestStreamLastEventID(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	plain := url.Values{"channel": {"match.1"}}
	a := s.stream(t, plain, "")
	a.wantID(1)
	beginning := a.lastID
	s.scores("match.1", 1, 2)
	a.wantScores("match.1", 1, 2)
	s.scores("match.1", 3, 3)
	for _, name := range []string{"last_event_id", "lastEventId", "lastEventID", "Last-Event-ID", "last-event-id", "LAST_EVENT_ID", "LastEventId"} {
		b := s.streamRaw(t, "channel=match.1&"+name+"="+url.QueryEscape(a.lastID), "")
		if data, _ := b.next(); !strings.HasPrefix(data, `{"event":"reecho:resumed"`) || !strings.Contains(data, `\"events\":1`) {
			t.Errorf("%s: got %s", name, data)
		}
		b.wantScores("match.1", 3, 3)
	}
	for name, tt := range map[string]struct{ query, header string }{
		"the later one":  {"last_event_id=" + beginning + "&channel=match.1&lastEventId=" + a.lastID + "&lastEventID=", ""},
		"twice the same": {"lastEventId=" + beginning + "&channel=match.1&lastEventId=" + a.lastID, ""},
		"the header":     {"channel=match.1&lastEventId=" + beginning, a.lastID},
	} {
		b := s.streamRaw(t, tt.query, tt.header)
		if data, _ := b.next(); !strings.Contains(data, `\"events\":1`) {
			t.Errorf("%s: got %s", name, data)
		}
		b.wantScores("match.1", 3, 3)
	}
}
