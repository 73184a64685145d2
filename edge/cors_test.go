package edge

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"reecho/edge/app"
)

// A page reads the answer if its app allows the origin, and a preflight says
// what it may send.
func TestCORS(t *testing.T) {
	t.Parallel()
	const requestHeaders = "Accept, Last-Event-ID"
	cors := CORS{Methods: "GET", Headers: requestHeaders}
	origins, err := app.ParseOrigins("https://example.com")
	if err != nil {
		t.Fatal(err)
	}
	a := &app.App{AllowedOrigins: origins}
	for name, tt := range map[string]struct {
		app            *app.App
		method, origin string
		asked          string
		allowed        bool
		wantOrigin     string
		wantHeaders    string
	}{
		"no page":          {&app.App{}, "GET", "", "", true, "", ""},
		"any page":         {&app.App{}, "GET", "https://x.test", "", true, "https://x.test", ""},
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
		got, header := cors.Allow(w, r, tt.app), w.Header()
		if got != tt.allowed || header.Get("Access-Control-Allow-Origin") != tt.wantOrigin || header.Get("Access-Control-Allow-Headers") != tt.wantHeaders ||
			header.Get("Vary") != "Origin" {
			t.Errorf("%s: got %v, %v", name, got, header)
		}
	}
}

// Any preflight: no panic, and headers of bounded length that are names.
func FuzzPreflight(f *testing.F) {
	f.Add("x-a, x-b")
	f.Add("x y,,\r\n")
	f.Fuzz(func(t *testing.T, asked string) {
		r := &http.Request{Header: http.Header{"Access-Control-Request-Headers": {asked}}}
		names := (&CORS{Headers: "Accept"}).asked(r)
		if len(names) > 2*maxAskedHeaders || strings.ContainsAny(names, "\r\n\x00\"") {
			t.Errorf("%q became %q", asked, names)
		}
	})
}
