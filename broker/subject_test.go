package broker

import (
	"errors"
	"strings"
	"testing"
)

func TestToken(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"chat": "chat", "private-room.1": "private-room:1", "a_-=@,.;Z9": "a_-=@,:;Z9", "#server-to-user-u-7": "#server-to-user-u-7",
		"*": "%2A", ">": "%3E", "%": "%25", ":": "%3A", "a b": "a%20b", "é": "%C3%A9", "": "%", "\x00": "%00",
	} {
		if got := Token(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
	for _, token := range []string{"", "%2a", "%41", "%2", "a.b", "*", "a b", "%%", "%:"} {
		if name, err := Untoken(token); err == nil {
			t.Errorf("%q is no token, read as %q", token, name)
		}
	}
}

// FuzzToken: one token, reversible, so that two names never share a subject.
func FuzzToken(f *testing.F) {
	for _, seed := range []string{"chat", "private-room.1", "*", ">", "a.b", "a:b", "%2A", "", "é ", "\xff\x00\r\n"} {
		f.Add(seed, seed+".")
	}
	f.Fuzz(func(t *testing.T, app, channel string) {
		for _, name := range []string{app, channel} {
			token := Token(name)
			if token == "" || strings.ContainsAny(token, ".*> \t\r\n\x00") {
				t.Errorf("%q: token %q", name, token)
			}
			if back, err := Untoken(token); err != nil || back != name {
				t.Errorf("%q: token %q, read back %q, error %v", name, token, back, err)
			}
		}
		if p := (Ref{App: app, Channel: channel}).partition(8); p < 0 || p > 7 {
			t.Errorf("partition %d", p)
		}
		if n := strings.Count((&lane{token: "3"}).subject(storedRoot, Ref{App: app, Channel: channel}), "."); n != 3 {
			t.Errorf("%q, %q: %d dots in the subject", app, channel, n)
		}
	})
}

func TestParseAck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in   string
		want ack
		err  string
	}{
		{in: `{"stream":"EVENTS-0", "seq":42}`, want: ack{sequence: 42}},
		{in: `{"stream":"EVENTS-0","domain":"d","seq":42,"duplicate":true}`, want: ack{sequence: 42, duplicate: true}},
		{in: `{"seq":7}`, want: ack{sequence: 7}},
		{in: `{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"EVENTS-0","seq":0}`, want: ack{passing: true}, err: "maximum messages exceeded"},
		{in: `{"error":{"code":503,"err_code":10023,"description":"insufficient resources"},"stream":"EVENTS-0","seq":0}`, want: ack{passing: true}, err: "insufficient resources"},
		{in: `{"error":{"code":500,"err_code":10047,"description":"insufficient storage resources available"}}`, err: "(code 10047)"},
		{in: `{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"},"stream":"EVENTS-0","seq":0}`, err: ErrTooLarge.Error()},
		{in: `{}`, err: "[unexpected]"},
		{in: `x`, err: "read its answer"},
		{in: ``, err: "read its answer"},
	}
	for _, tt := range tests {
		got, err := parseAck([]byte(tt.in))
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: got %+v, error %v", tt.in, got, err)
		}
		// Callers branch on these alone.
		if err != nil && !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v is neither ErrUnavailable nor ErrTooLarge", tt.in, err)
		}
	}
}
