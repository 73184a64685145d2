package sse

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// Any query and any headers: no panic, and an error of bounded length or
// parameters as they stand there.
func FuzzQuery(f *testing.F) {
	for _, query := range []string{
		"channel=a&channel=b&auth[a]=k:s&socket_id=1.2&last=3", "channel=%zz", "a;b", "&&=&==", "last-event-id=1~2&lastEventId=3~4",
		"except=1.2&except=x", "auth[]=&auth[=&auth]=", "user_auth=k:s&user_data=%7B%7D", strings.Repeat("channel=a&", 100),
	} {
		f.Add(query, "private-a k:s", "%7B%22id%22%3A1%7D")
	}
	f.Fuzz(func(t *testing.T, query, auth, userData string) {
		r := &http.Request{URL: &url.URL{RawQuery: query}, Header: http.Header{
			headerAuth: {auth}, headerUserData: {userData},
		}}
		q, err := readQuery(r)
		switch {
		case err != nil:
			if len(err.Error()) > 500 {
				t.Errorf("%q: an error of %d bytes", query, len(err.Error()))
			}
		case !utf8.ValidString(q.values[paramUserData]) || len(q.except) > maxExcept:
			t.Errorf("%q became %+v", query, q)
		}
	})
}
