package broker

import "time"

// account is what a stream, or an app in it, is taken to hold: stored, when that
// was last found out, and what was answered since and is pending, in bytes.
type account struct{ stored, answered, pending int64 }

func (a *account) bytes() int64 { return a.stored + a.answered + a.pending }

// settle says that what was pending has been decided.
func (a *account) settle(bytes int64) {
	a.pending -= bytes
	a.answered += bytes
}

// found takes down what was found out when of what was answered no more than so
// much can have been missing.
func (a *account) found(stored, answered int64) {
	a.stored = stored
	a.answered -= answered
}

// usage is what an app has in the stream.
type usage struct {
	account
	// counted: whether the app had company, other apps with events in the
	// stream, was found out when those had accepted so many events.
	counted, company bool
	others           int64
	events           int64 // accepted since the start
	// count and size are of its newest events, for their average.
	count, size int64
	// removed are bytes since that was told.
	removed int64
	told    time.Time
}

// averageOver is of how many of its newest events an app's average is, about.
const averageOver = 4096

// add counts what was let in. Old events weigh less and less in the average,
// since what an app sends may change.
func (u *usage) add(size, events int64) {
	u.pending += size
	u.events += events
	u.count += events
	u.size += size
	if u.count >= averageOver {
		u.count, u.size = u.count/2, u.size/2
	}
}
