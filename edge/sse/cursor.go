package sse

import (
	"strconv"
	"strings"
	"time"

	"reecho/replay"
)

// cursor is a place in several channels: the id of an event in a stream. On the
// wire it is 1~<time>~<position>~<position>…, the time in seconds, base 36. It
// is repeated with each event, so it holds nothing but positions of the channels
// of its request.
type cursor struct {
	// time is when the client was last known to miss nothing.
	time      time.Time
	order     []string          // tags, as they came
	positions map[string]string // by the tag of the channel
	// empty: there was not one position, of whatever channel, that could be
	// read.
	empty bool
}

const cursorVersion = "1"

// Bounds of what may come in as a cursor.
const (
	// maxCursorHead is more than the version and the longest time take.
	maxCursorHead = 32
	// maxPosition is more than a position takes: an epoch of 10 characters with
	// a run of 8, a tag of up to 7, a sequence of up to 20, and the dashes.
	maxPosition = 64
)

// maxCursor is longer than any cursor over so many channels.
func maxCursor(channels int) int { return maxCursorHead + channels*(maxPosition+1) }

// parseCursor reads what text says of the channels with these tags. A cursor
// that is ill-formed is empty.
func parseCursor(text string, tags map[string]bool) *cursor {
	c := &cursor{positions: make(map[string]string, len(tags)), empty: true}
	version, rest, _ := strings.Cut(text, "~")
	began, rest, _ := strings.Cut(rest, "~")
	seconds, err := strconv.ParseInt(began, 36, 64)
	if version != cursorVersion || err != nil {
		return c
	}
	c.time = time.Unix(seconds, 0)
	for position := range strings.SplitSeq(rest, "~") {
		// It goes out again, in every id.
		if position == "" || len(position) > maxPosition || strings.ContainsFunc(position, notOfPosition) {
			continue
		}
		c.empty = false
		if tags[replay.PositionTag(position)] {
			c.advance(position)
		}
	}
	return c
}

func notOfPosition(r rune) bool {
	return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-'
}

// advance sets the position of a channel.
func (c *cursor) advance(position string) {
	key := replay.PositionTag(position)
	if _, known := c.positions[key]; !known {
		c.order = append(c.order, key)
	}
	c.positions[key] = position
}

// age is how long ago the cursor was made, negative if that cannot be.
func (c *cursor) age(now time.Time) time.Duration {
	return now.Sub(c.time)
}

func (c *cursor) append(dst []byte) []byte {
	dst = append(dst, cursorVersion+"~"...)
	dst = strconv.AppendInt(dst, c.time.Unix(), 36)
	for _, key := range c.order {
		dst = append(append(dst, '~'), c.positions[key]...)
	}
	return dst
}
