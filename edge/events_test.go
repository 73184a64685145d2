package edge

import (
	"strings"
	"testing"
	"time"

	"reecho/edge/pusher"
	"reecho/replay"
)

// A cursor comes back as it went out, with every channel where it was.
func TestCursor(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	c := parseCursor("")
	c.time = now
	var positions []string
	for _, name := range []string{"match.1", "private-chat", "a,b;c=d@e"} {
		p := replay.NewPositions("EPOCH", "77", name)
		c.advance(string(p.Append(nil, 7)))
		c.advance(string(p.Append(nil, 8)))
		positions = append(positions, string(p.Append(nil, 8)))
	}
	text := string(c.append(nil))
	if strings.ContainsAny(text, "\r\n\x00 ") {
		t.Errorf("%q cannot be an id", text)
	}
	again := parseCursor(text)
	if string(again.append(nil)) != text || again.age(now.Add(time.Minute)) != time.Minute {
		t.Errorf("%s became %s", text, again.append(nil))
	}
	for i, name := range []string{"match.1", "private-chat", "a,b;c=d@e"} {
		if got := again.positions[replay.ChannelTag("77", name)]; got != positions[i] {
			t.Errorf("%s is at %q, want %q", name, got, positions[i])
		}
	}
}

// Any Last-Event-ID: no panic, and what is understood is understood again.
func FuzzCursor(f *testing.F) {
	for _, text := range []string{"", "1", "1~", "1~zz~", "1~t3k9s0~E-1-2~E-2-3", "2~1~E-1-2", "1~-5~a-b-c", strings.Repeat("1~", 100), "1~t3k9s0~E-1-2\ndata: x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := parseCursor(text)
		once := string(c.append(nil))
		if strings.ContainsAny(once, "\r\n\x00 ") {
			t.Errorf("%q became %q, which cannot be an id", text, once)
		}
		if twice := string(parseCursor(once).append(nil)); twice != once {
			t.Errorf("%q is %q, which is %q", text, once, twice)
		}
	})
}

// The position is cut from a frame at its own place, whatever the event says.
func TestCutPosition(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", `{"a":1}`, `,"position":"x"}`, `","position":"x"}`, `\",\"position\":\"`} {
		frame := pusher.AppendEvent(nil, "match.1", `e","position":"y`, data, "")
		if text, position := pusher.CutPosition(frame); position != nil || string(text) != string(frame) {
			t.Errorf("%s has position %q", frame, position)
		}
		positioned := pusher.AppendPositioned(nil, frame, []byte("E-1-2"))
		if text, position := pusher.CutPosition(positioned); string(position) != "E-1-2" || string(text)+"}" != string(frame) {
			t.Errorf("%s: %s %q", positioned, text, position)
		}
	}
}
