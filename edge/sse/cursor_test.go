package sse

import (
	"strings"
	"testing"
	"time"

	"reecho/replay"
)

// A cursor comes back as it went out, with every channel where it was.
func TestCursor(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	names := []string{"match.1", "private-chat", "a,b;c=d@e"}
	tags := make(map[string]bool)
	for _, name := range names {
		tags[replay.ChannelTag("77", name)] = true
	}
	c := parseCursor("", tags)
	c.time = now
	var positions []string
	for _, name := range names {
		p := replay.NewLine("EPOCH", "77", name)
		c.advance(p.At(7).String())
		c.advance(p.At(8).String())
		positions = append(positions, p.At(8).String())
	}
	text := string(c.append(nil))
	if strings.ContainsAny(text, "\r\n\x00 ") {
		t.Errorf("%q cannot be an id", text)
	}
	again := parseCursor(text, tags)
	if string(again.append(nil)) != text || again.age(now.Add(time.Minute)) != time.Minute {
		t.Errorf("%s became %s", text, again.append(nil))
	}
	for i, name := range names {
		if got := again.positions[replay.ChannelTag("77", name)]; got != positions[i] {
			t.Errorf("%s is at %q, want %q", name, got, positions[i])
		}
	}
	if len(text) > maxCursor(len(names)) {
		t.Errorf("a cursor of %d bytes, limit %d", len(text), maxCursor(len(names)))
	}
	few := parseCursor(text, map[string]bool{replay.ChannelTag("77", names[1]): true})
	if len(few.positions) != 1 || few.empty {
		t.Errorf("%d positions were taken for one channel: %v", len(few.positions), few.positions)
	}
	if other := parseCursor(text, nil); len(other.positions) != 0 || other.empty {
		t.Errorf("a cursor of other channels: %+v", other)
	}
}

// Any Last-Event-ID: no panic, and what is understood is understood again.
func FuzzCursor(f *testing.F) {
	for _, text := range []string{"", "1", "1~", "1~zz~", "1~t3k9s0~E-1-2~E-2-3", "2~1~E-1-2", "1~-5~a-b-c", strings.Repeat("1~", 100), "1~t3k9s0~E-1-2\ndata: x"} {
		f.Add(text)
	}
	tags := map[string]bool{"1": true, "2": true, "b": true}
	f.Fuzz(func(t *testing.T, text string) {
		c := parseCursor(text, tags)
		once := string(c.append(nil))
		if strings.ContainsAny(once, "\r\n\x00 ") {
			t.Errorf("%q became %q, which cannot be an id", text, once)
		}
		if len(once) > maxCursor(len(tags)) {
			t.Errorf("%q became %d bytes", text, len(once))
		}
		if twice := string(parseCursor(once, tags).append(nil)); twice != once {
			t.Errorf("%q is %q, which is %q", text, once, twice)
		}
	})
}
