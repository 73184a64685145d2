package sse

import (
	"hash/crc32"
	"strconv"
	"strings"
	"time"

	"reecho/replay"
)

// cursor is a place in several channels: the id of an event in a stream. On the
// wire it is 2~<time>~<standing>~<standing>…~<check>: the time in seconds, base
// 36, and a checksum of all before it, so that a part of an id is none. It is
// repeated with each event, so it names the channels of its request and no others;
// but it names all of them, from the first id on. A channel that an id does not
// name is therefore new in the request that brings it, and was told nothing yet.
type cursor struct {
	// time is when the client was last known to miss nothing of the channels
	// of which it has a position.
	time  time.Time
	all   []standing     // in the order of the request
	byTag map[string]int // where in all
}

// standing is where a client stands in one channel. On the wire it is the
// position; without one .<tag>.<since>, in milliseconds, base 36; and .<tag> if
// a gap is owed.
type standing struct {
	tag      string // of the channel
	position string // "" before the first answer of the channel
	// since, without a position, is from when on what is stored belongs to the
	// client. If it is zero that is not known, and the client is owed a gap.
	since time.Time
}

const cursorVersion = "2"

// Bounds of what may come in as a cursor.
const (
	// maxCursorHead is more than the version, the longest time and the check
	// take.
	maxCursorHead = 32
	// maxPosition is more than a position takes: an epoch of 10 characters with
	// a run of 8, a tag of up to 7, a sequence of up to 20, and the dashes.
	maxPosition = 64
)

// maxCursor is longer than any cursor over so many channels.
func maxCursor(channels int) int { return maxCursorHead + channels*(maxPosition+1) }

// parseCursor reads an id whole; ok is false if it is none that this server
// made for at most so many channels.
func parseCursor(text string, channels int) (c *cursor, ok bool) {
	end := strings.LastIndexByte(text, '~')
	if end < 0 || text[end+1:] != string(appendCheck(nil, []byte(text[:end]))) {
		return nil, false
	}
	parts := strings.Split(text[:end], "~")
	if len(parts) < 3 || len(parts)-2 > channels || parts[0] != cursorVersion {
		return nil, false
	}
	seconds, err := strconv.ParseInt(parts[1], 36, 64)
	c = newCursor(time.Unix(seconds, 0))
	for _, part := range parts[2:] {
		st, ok := parseStanding(part)
		if _, twice := c.byTag[st.tag]; twice || !ok {
			return nil, false
		}
		c.add(st)
	}
	return c, err == nil
}

// parseStanding reads what goes out again in every id.
func parseStanding(text string) (st standing, ok bool) {
	if len(text) > maxPosition {
		return st, false
	}
	rest, without := strings.CutPrefix(text, ".")
	if !without {
		st = standing{tag: replay.PositionTag(text), position: text}
		return st, st.tag != "" && !strings.ContainsFunc(text, notOfPosition)
	}
	tag, since, owes := strings.Cut(rest, ".")
	if st.tag = tag; tag == "" || strings.ContainsFunc(tag, notOfPosition) {
		return st, false
	}
	if owes {
		ms, err := strconv.ParseInt(since, 36, 64)
		if st.since = time.UnixMilli(ms); err != nil || ms <= 0 {
			return st, false
		}
	}
	return st, true
}

func notOfPosition(r rune) bool {
	return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-'
}

func newCursor(now time.Time) *cursor { return &cursor{time: now, byTag: make(map[string]int)} }

// add names one more channel.
func (c *cursor) add(st standing) {
	c.byTag[st.tag] = len(c.all)
	c.all = append(c.all, st)
}

// of is the standing in a channel, by its tag.
func (c *cursor) of(tag string) (st standing, named bool) {
	at, named := c.byTag[tag]
	if named {
		st = c.all[at]
	}
	return st, named
}

// advance sets the position of a channel that c names.
func (c *cursor) advance(position string) {
	if at, named := c.byTag[replay.PositionTag(position)]; named {
		c.all[at].position = position
	}
}

// whole reports whether there is a position of every channel.
func (c *cursor) whole() bool {
	for i := range c.all {
		if c.all[i].position == "" {
			return false
		}
	}
	return true
}

// age is how long ago the cursor was made, negative if that cannot be.
func (c *cursor) age(now time.Time) time.Duration {
	return now.Sub(c.time)
}

func (c *cursor) append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, cursorVersion+"~"...)
	dst = strconv.AppendInt(dst, c.time.Unix(), 36)
	for i := range c.all {
		dst = c.all[i].append(append(dst, '~'))
	}
	return appendCheck(append(dst, '~'), dst[start:])
}

func appendCheck(dst, text []byte) []byte {
	return strconv.AppendUint(dst, uint64(crc32.ChecksumIEEE(text)), 36)
}

func (st *standing) append(dst []byte) []byte {
	switch {
	case st.position != "":
		return append(dst, st.position...)
	case st.since.IsZero():
		return append(append(dst, '.'), st.tag...)
	}
	dst = append(append(append(dst, '.'), st.tag...), '.')
	return strconv.AppendInt(dst, st.since.UnixMilli(), 36)
}
