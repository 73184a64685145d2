package pusher

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDecodeMessages(t *testing.T) {
	t.Parallel()
	many := `["a"` + strings.Repeat(`,"a"`, maxMessages) + `]`
	for body, want := range map[string]struct {
		messages []string
		err      string
	}{
		`[]`:                        {nil, ""},
		` [ "a" , "b" ] `:           {[]string{"a", "b"}, ""},
		`["{\"event\":\"x\"}"]`:     {[]string{`{"event":"x"}`}, ""},
		`["\ud83d\ude00"]`:          {[]string{"😀"}, ""},
		``:                          {nil, "not a JSON array"},
		`"a"`:                       {nil, "not a JSON array"},
		`{"a":1}`:                   {nil, "not a JSON array"},
		`[1]`:                       {nil, "not a string"},
		`[["a"]]`:                   {nil, "not a string"},
		`["a",]`:                    {nil, "not a string"},
		`["a"`:                      {nil, "too early"},
		`["a"]x`:                    {nil, "behind the JSON value"},
		`["a" "b"]`:                 {nil, "unexpected"},
		"[\"a\nb\"]":                {nil, "control character"},
		"[\"\xff\"]":                {nil, "not valid UTF-8"},
		`["\ud83d"]`:                {nil, "half of a character"},
		many:                        {nil, "more than 1000 messages"},
		many[:4] + many[8:]:         {slicesOf("a", maxMessages), ""},
		`["` + `\u0000` + `","ok"]`: {[]string{"\x00", "ok"}, ""},
	} {
		messages, err := DecodeMessages([]byte(body))
		if want.err != "" {
			if err == nil || !strings.Contains(err.Error(), want.err) {
				t.Errorf("%.40q: got %v, want an error with %q", body, err, want.err)
			}
			continue
		}
		if err != nil || len(messages) != len(want.messages) {
			t.Errorf("%.40q: got %d messages, %v", body, len(messages), err)
			continue
		}
		for i, m := range messages {
			if string(m) != want.messages[i] {
				t.Errorf("%.40q: got %q", body, m)
			}
		}
	}
}

func slicesOf(s string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = s
	}
	return all
}

func TestAppendClose(t *testing.T) {
	t.Parallel()
	if got := string(AppendClose(nil, 4001, `no "such" app`)); got != `c[4001,"no \"such\" app"]` {
		t.Errorf("got %s", got)
	}
}

// Any body: no panic, and what is accepted is what encoding/json reads too. What is
// written as messages is read again as they were.
func FuzzDecodeMessages(f *testing.F) {
	for _, body := range []string{`[]`, `["a","\u00e9\n"]`, `["{\"event\":\"pusher:ping\",\"data\":{}}"]`, `[null]`, `["\ud83d\ude00"]`, "[\"\xff\"]", `[[`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		messages, err := DecodeMessages(body)
		if err != nil {
			return
		}
		var want []string
		if err := json.Unmarshal(body, &want); err != nil || len(want) != len(messages) {
			t.Fatalf("%q: %d messages, encoding/json: %d, %v", body, len(messages), len(want), err)
		}
		list := []byte("[")
		for i, m := range messages {
			if string(m) != want[i] || !utf8.Valid(m) {
				t.Fatalf("%q: message %d is %q, encoding/json: %q", body, i, m, want[i])
			}
			list = AppendMessage(list, m)
		}
		again, err := DecodeMessages(append(list, ']'))
		if err != nil || len(again) != len(messages) {
			t.Fatalf("%q became %q, %v", body, list, err)
		}
		for i := range again {
			if !bytes.Equal(again[i], messages[i]) {
				t.Fatalf("%q became %q", messages[i], again[i])
			}
		}
	})
}
