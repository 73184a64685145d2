package edge

import (
	"strconv"
	"strings"
	"time"

	"reecho/replay"
)

// cursor is a place in several channels: the id of an event in a stream. On the
// wire it is 1~<time>~<position>~<position>…, the time in seconds, base 36.
type cursor struct {
	// time is when the client was last known to miss nothing.
	time      time.Time
	order     []string          // tags, as they came
	positions map[string]string // by the tag of the channel
}

const cursorVersion = "1"

// parseCursor reads a cursor; one that is ill-formed is empty.
func parseCursor(text string) *cursor {
	c := &cursor{positions: make(map[string]string)}
	parts := strings.Split(text, "~")
	if len(parts) < 2 || parts[0] != cursorVersion {
		return c
	}
	seconds, err := strconv.ParseInt(parts[1], 36, 64)
	if err != nil {
		return c
	}
	c.time = time.Unix(seconds, 0)
	for _, position := range parts[2:] {
		// It goes out again, in every id.
		if !strings.ContainsFunc(position, notOfPosition) {
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
