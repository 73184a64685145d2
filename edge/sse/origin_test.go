package sse

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"reecho/edge/app"
)

// A page reads the answer if its app allows the origin, and a preflight says
// what it may send.
func TestAllowOrigin(t *testing.T) {
	t.Parallel()
	a := newTestApp(func(a *app.App) { a.AllowedOrigins = mustOrigins(t, "https://example.com") })
	for name, tt := range map[string]struct {
		app            *app.App
		method, origin string
		asked          string
		allowed        bool
		wantOrigin     string
		wantHeaders    string
	}{
		"no page":          {newTestApp(nil), "GET", "", "", true, "", ""},
		"any page":         {newTestApp(nil), "GET", "https://x.test", "", true, "https://x.test", ""},
		"allowed":          {a, "GET", "https://example.com", "", true, "https://example.com", ""},
		"not allowed":      {a, "GET", "https://x.test", "", false, "", ""},
		"no app":           {nil, "GET", "https://x.test", "", true, "https://x.test", ""},
		"preflight":        {a, "OPTIONS", "https://example.com", "last-event-id", true, "https://example.com", requestHeaders},
		"asks for another": {a, "OPTIONS", "https://example.com", "x-trace, Last-Event-ID", true, "https://example.com", requestHeaders + ", x-trace"},
		"asks for no name": {a, "OPTIONS", "https://example.com", "x y", true, "https://example.com", requestHeaders},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), tt.method, "/", nil)
		r.Header = http.Header{"Origin": {tt.origin}, "Access-Control-Request-Headers": {tt.asked}}
		got, header := allowOrigin(w, r, tt.app), w.Header()
		if got != tt.allowed || header.Get("Access-Control-Allow-Origin") != tt.wantOrigin || header.Get("Access-Control-Allow-Headers") != tt.wantHeaders ||
			header.Get("Vary") != "Origin" {
			t.Errorf("%s: got %v, %v", name, got, header)
		}
	}
}
