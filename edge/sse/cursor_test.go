package sse

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"reecho/replay"
)

// A cursor comes back as it went out, with every channel where it was.
func TestCursor(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	c := newCursor(now)
	for i, name := range []string{"match.1", "private-chat", "a,b;c=d@e", "match.2", "match.3"} {
		line := replay.NewLine("EPOCH", "77", name)
		c.add(standing{tag: replay.ChannelTag("77", name)})
		switch {
		case i < 3:
			c.advance(line.At(7).String())
			c.advance(line.At(8).String())
		case i == 3:
			c.all[i].since = now.Add(123 * time.Millisecond)
		}
	}
	c.advance("EPOCH-other-9") // is of no channel of it
	text := string(c.append(nil))
	if strings.ContainsAny(text, "\r\n\x00 ") {
		t.Errorf("%q cannot be an id", text)
	}
	if len(text) > maxCursor(5) {
		t.Errorf("a cursor of %d bytes, limit %d", len(text), maxCursor(5))
	}
	again, ok := parseCursor(text, 5)
	if !ok || !reflect.DeepEqual(again, c) || again.age(now.Add(time.Minute)) != time.Minute || again.whole() {
		t.Errorf("%s became %+v, want %+v", text, again, c)
	}
	if _, ok := parseCursor(text, 4); ok {
		t.Error("a cursor of more channels than there may be is taken")
	}
}

// No part of a cursor is one, nor is one that was changed somewhere.
func TestCursorIsTakenWhole(t *testing.T) {
	t.Parallel()
	c := newCursor(time.Unix(1_800_000_000, 0))
	for _, name := range []string{"match.1", "match.2", "match.3"} {
		c.add(standing{tag: replay.ChannelTag("77", name), position: replay.NewLine("EPOCH", "77", name).At(812).String()})
	}
	text := string(c.append(nil))
	for i := range text {
		for _, other := range []string{text[:i], text[i+1:], text[:i] + text[i+1:], text[:i] + "0" + text[i:], text[:i] + "z" + text[i+1:], text + text[:i+1]} {
			if _, ok := parseCursor(other, 10); ok && other != text {
				t.Errorf("%q is taken for %q", other, text)
			}
		}
	}
	// Nor one that somebody made up, with the check that belongs to it.
	for _, text := range []string{
		"1~0~E-t-1", "2~0", "2~0~", "2~?~E-t-1", "2~0~E-t-1~E-t-2", "2~0~E-t-1~.t", "2~0~E--1", "2~0~E", "2~0~.", "2~0~.t.", "2~0~.t.-1", "2~0~.t.0",
		"2~0~.t u", "2~0~E-t-1\n", "2~0~E-t-" + strings.Repeat("1", maxPosition), "2~0~E-t-1~",
	} {
		if _, ok := parseCursor(string(appendCheck([]byte(text+"~"), []byte(text))), 10); ok {
			t.Errorf("%q is taken", text)
		}
	}
}

// Any Last-Event-ID: no panic, and what is understood goes out as it came.
func FuzzCursor(f *testing.F) {
	for _, text := range []string{"", "2", "2~", "2~zz~", "2~t3k9s0~E-1-2~E-2-3", "2~1~.1.zz~.2", "2~-5~a-b-c", strings.Repeat("2~", 100), "2~t3k9s0~E-1-2\ndata: x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = string(appendCheck([]byte(text+"~"), []byte(text)))
		c, ok := parseCursor(text, 3)
		if !ok {
			return
		}
		once := string(c.append(nil))
		if strings.ContainsAny(once, "\r\n\x00 ") {
			t.Errorf("%q became %q, which cannot be an id", text, once)
		}
		if len(once) > maxCursor(3) {
			t.Errorf("%q became %d bytes", text, len(once))
		}
		again, ok := parseCursor(once, 3)
		if !ok || string(again.append(nil)) != once {
			t.Errorf("%q is %q, which is %q", text, once, again.append(nil))
		}
	})
}
