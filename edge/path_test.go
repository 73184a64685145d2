package edge

import "testing"

// A path names a key and perhaps a session; an empty session is one, and any
// other path is none of a client's.
func TestParsePath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]Path{
		"/rt/app/k":                  {Key: "k"},
		"/rt/app/k/":                 {Key: "k"},
		"/rt/session/s-1/app/k":      {Key: "k", Session: "s-1", HasSession: true},
		"/rt/session/s-1/app/k/":     {Key: "k", Session: "s-1", HasSession: true},
		"/rt/session//app/k":         {Key: "k", HasSession: true},
		"/rt/session/app/k":          {Key: "k", HasSession: true},
		"/app/k":                     {},
		"/rt":                        {},
		"/rt/app/":                   {},
		"/rt/app//":                  {},
		"/rt/app/k/events":           {},
		"/rt/apps/77":                {},
		"/rt/session":                {},
		"/rt/session/":               {},
		"/rt/session/s-1":            {},
		"/rt/session/s-1/app/":       {},
		"/rt/session/s/1/app/k":      {},
		"/rt/session/s-1/app/k/more": {},
	} {
		got, ok := ParsePath("/rt", path)
		if got != want || ok != (want.Key != "") {
			t.Errorf("%s: got %+v, %v, want %+v", path, got, ok, want)
		}
	}
}
