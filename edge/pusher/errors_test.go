package pusher

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// What is repeated of a request is short and valid UTF-8, whatever it was.
func TestCut(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "chat", strings.Repeat("x", 100), strings.Repeat("x", 101), strings.Repeat("é", 100), "x" + strings.Repeat("😀", 100),
		strings.Repeat("\xff", 50), strings.Repeat("\xff", 500), strings.Repeat("\x80", 500), strings.Repeat("x", 96) + "\xf0\x9f\x98", strings.Repeat("\x00", 1_000_000),
	} {
		got := Cut(text)
		if !utf8.ValidString(got) || len(got) > 3*maxQuoted || utf8.ValidString(text) && len(got) > maxQuoted {
			t.Errorf("%.40q…: %d bytes %q", text, len(got), got)
		}
		if utf8.ValidString(text) && len(text) <= maxQuoted && got != text {
			t.Errorf("%q became %q", text, got)
		}
		if quoted := Quote(text); len(quoted) > 4*maxQuoted || strings.ContainsAny(quoted, "\n\x00") {
			t.Errorf("%.40q…: quoted %q", text, quoted)
		}
		e := Errorf(0, "%s", text+strings.Repeat("y", 2000))
		for _, frame := range [][]byte{AppendError(nil, e, ""), AppendSubscriptionError(nil, "chat", e.Message, 400)} {
			if !json.Valid(frame) || !utf8.Valid(frame) || len(frame) > 8*maxSentence {
				t.Errorf("%.40q…: a frame of %d bytes: %.100q", text, len(frame), frame)
			}
		}
	}
}
