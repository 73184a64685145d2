package pusher

import (
	"fmt"
	"time"
)

// The times that a request may name: events are stored with nanoseconds since
// 1970 in 64 bits, which end in April 2262. What is beyond would wrap around to
// the other end of time.
var (
	earliestTime = time.Unix(0, 0)
	latestTime   = time.Date(2262, time.January, 1, 0, 0, 0, 0, time.UTC)
)

// ParseTime reads a time of a request (RFC 3339). The error is fit for whoever
// sent it and begins with its name.
func ParseTime(name, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s is %s: should be a time like 2026-01-31T20:00:00Z (RFC 3339)", name, Quote(text))
	}
	if t.Before(earliestTime) || !t.Before(latestTime) {
		return time.Time{}, fmt.Errorf("%s is %s: should be a time from 1970 to 2261", name, Quote(text))
	}
	return t, nil
}
