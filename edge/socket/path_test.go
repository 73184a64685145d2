package socket

import (
	"net/http"
	"net/url"
	"testing"
)

// TestRoutePath: the upgrade's path and that of other requests are the same.
func TestRoutePath(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]string{
		"/app/key":                "/app/key",
		"/app/key?x=//":           "/app/key",
		"//app///key//":           "/app/key/",
		"/app%2Fkey":              "/app%2Fkey",
		"/app%2fkey":              "/app%2Fkey",
		"/app/%2F/key":            "/app/%2F/key",
		"/%61pp/k%20y":            "/app/k y",
		"/app/%252Fkey":           "/app/%2Fkey", // no separator either
		"/":                       "/",
		"//":                      "/",
		"http://host//app//key?x": "/app/key",
	} {
		got, _, ok := splitTarget([]byte(target))
		if !ok || got != want {
			t.Errorf("splitTarget(%q) = %q, %t, want %q", target, got, ok, want)
		}
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatal(err)
		}
		if got := RoutePath(u); got != want {
			t.Errorf("RoutePath(%q) = %q, want %q", target, got, want)
		}
		r := &http.Request{URL: u}
		if got := RoutePath(mergedPath(r).URL); got != want {
			t.Errorf("RoutePath of merged %q = %q, want %q", target, got, want)
		}
	}
	for _, bad := range []string{"", "*", "key", "http://host", "/app/%zz", "/app/%2"} {
		if got, _, ok := splitTarget([]byte(bad)); ok {
			t.Errorf("splitTarget(%q) = %q, want none", bad, got)
		}
	}
}

// TestMergedPath: what is encoded stays so, and what was sent is kept.
func TestMergedPath(t *testing.T) {
	t.Parallel()
	u, err := url.ParseRequestURI("//apps/7//users/a%2F%2Fb/x")
	if err != nil {
		t.Fatal(err)
	}
	r := mergedPath(&http.Request{URL: u, RequestURI: "sent"})
	if r.URL.EscapedPath() != "/apps/7/users/a%2F%2Fb/x" || r.URL.Path != "/apps/7/users/a//b/x" || r.RequestURI != "sent" {
		t.Errorf("got %q, %q, %q", r.URL.EscapedPath(), r.URL.Path, r.RequestURI)
	}
	if u.Path != "//apps/7//users/a//b/x" {
		t.Errorf("the request was changed: %q", u.Path)
	}
}
