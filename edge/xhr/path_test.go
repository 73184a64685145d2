package xhr

import (
	"strings"
	"testing"
)

func TestParsePath(t *testing.T) {
	t.Parallel()
	session := target{client: "/app/k", key: "k", id: "12/abcdefgh"}
	with := func(op operation) target {
		t := session
		t.op = op
		return t
	}
	resumed := target{op: opPoll, client: "/session/0123456789abcdef/app/k", key: "k", id: "12/abcdefgh"}
	for _, tt := range []struct {
		prefix, path string
		want         target
		ok           bool
	}{
		{"", "/pusher/app/k/12/abcdefgh/xhr_streaming", with(opStream), true},
		{"", "/pusher/app/k/12/abcdefgh/xhr/", with(opPoll), true},
		{"", "/app/k/12/abcdefgh/xhr_send", with(opSend), true},
		{"/below", "/below/pusher/app/k/12/abcdefgh/xhr", with(opPoll), true},
		{"/below", "/below/app/k/12/abcdefgh/xhr", with(opPoll), true},
		{"/below", "/pusher/app/k/12/abcdefgh/xhr", with(opPoll), true},
		{"/below", "/app/k/12/abcdefgh/xhr", target{}, false},
		{"", "/session/0123456789abcdef/app/k/12/abcdefgh/xhr", resumed, true},
		{"", "/pusher/session/0123456789abcdef/app/k/12/abcdefgh/xhr", resumed, true},
		{"", "/pusher/info", target{op: opInfo}, true},
		{"", "/info", target{}, false},
		{"", "/app/k/info", target{op: opInfo, client: "/app/k", key: "k"}, true},
		{"", "/app/k", target{}, false},
		{"", "/app/k/events", target{}, false},
		{"", "/pusher/app/k/12/abcdefgh/xhr_abort", target{}, false},
		{"", "/pusher/app/k/12/short/xhr", target{}, false},
		{"", "/pusher/app/k//abcdefgh/xhr", target{}, false},
		{"", "/pusher/app//12/abcdefgh/xhr", target{}, false},
		{"", "/pusher/app/k/12/abcdefg%/xhr", target{}, false},
		{"", "/pusher/12/abcdefgh/xhr", target{}, false},
		{"", "xhr", target{}, false},
		{"", "", target{}, false},
	} {
		got, ok := parsePath(tt.prefix, tt.path)
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("%q %q: got %+v, %v, want %+v, %v", tt.prefix, tt.path, got, ok, tt.want, tt.ok)
		}
	}
}

// Any path: no panic, and what is understood is made of its own parts.
func FuzzParsePath(f *testing.F) {
	f.Add("", "/pusher/app/k/12/abcdefgh/xhr_streaming")
	f.Add("/a", "/a/session/x/app/k/1/abcdefgh/xhr_send/")
	f.Add("", "/app/k/info")
	f.Fuzz(func(t *testing.T, prefix, path string) {
		got, ok := parsePath(prefix, path)
		if !ok {
			return
		}
		end := got.client
		if got.id != "" {
			end += "/" + got.id
		}
		if end += "/" + string(got.op); !strings.HasSuffix(strings.TrimSuffix(path, "/"), end) || strings.Count(got.id, "/") > 1 || strings.Contains(got.key, "/") {
			t.Errorf("%q became %+v", path, got)
		}
	})
}
