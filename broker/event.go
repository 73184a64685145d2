package broker

import (
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// Event is one event of a channel.
type Event struct {
	// Sequence is the event's place in its stream, ascending and not
	// contiguous within a channel. 0: an ephemeral event, not stored.
	Sequence uint64
	// Previous is the sequence of the event before it on the channel that was
	// still stored when this one was; 0: none. Only live events have it.
	Previous uint64
	// Time is when the event was stored, in nanoseconds since 1970.
	Time int64
	// Exclude is the socket id that does not get the event, "" none.
	Exclude string
	// Frame is the finished JSON text. It must not be changed.
	Frame []byte
}

// Record is an event to store.
type Record struct {
	App     string
	Channel string
	Frame   []byte // the finished JSON text
	Exclude string // the socket id that does not get the event, "" none
	// ID, if it is not "", is what the stream tells an event by that it has already: one
	// that is published again within duplicateWindow is stored once. Log.Find finds it
	// as long as it is retained. It is of letters, digits and -, 64 bytes at most, and
	// begins with a letter and none of those of others.
	ID string
	// Sequence is set by Publish when the event is stored: its place in the stream, 0 if
	// nothing of the channel is retained.
	Sequence uint64
}

// Ref is the channel of the event.
func (r *Record) Ref() Ref { return Ref{App: r.App, Channel: r.Channel} }

// Headers of live messages (nats-server, stream.go).
const (
	headerSequence  = "Nats-Sequence"
	headerPrevious  = "Nats-Last-Sequence"
	headerPending   = "Nats-Num-Pending"
	headerUpTo      = "Nats-UpTo-Sequence" // the newest of the stream where many are asked for
	headerTime      = "Nats-Time-Stamp"
	headerMessageID = "Nats-Msg-Id"
	headerExclude   = "Reecho-Exclude"
	headerFrom      = "Reecho-From" // the life of the node that tells something, or whose pulse it is
	headerSent      = "Reecho-Sent" // of a pulse: when, in nanoseconds since 1970
)

// liveEvent reads a republished or an ephemeral message.
func liveEvent(m *nats.Msg) Event {
	ev := Event{Frame: m.Data, Exclude: value(m.Header, headerExclude), Sequence: number(m.Header, headerSequence)}
	if ev.Sequence != 0 {
		ev.Previous = number(m.Header, headerPrevious)
		ev.Time = stamp(m.Header)
	}
	return ev
}

// storedEvent reads an answer to a direct get. Its Nats-Last-Sequence is about
// the answer and not about the channel, so Previous stays 0.
func storedEvent(m *nats.Msg) Event {
	return Event{
		Sequence: number(m.Header, headerSequence), Time: stamp(m.Header),
		Exclude: value(m.Header, headerExclude), Frame: m.Data,
	}
}

// value is Header.Get without its work: the keys are spelled as sent.
func value(h nats.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func number(h nats.Header, key string) uint64 {
	n, err := strconv.ParseUint(value(h, key), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func stamp(h nats.Header) int64 {
	t, err := time.Parse(time.RFC3339Nano, value(h, headerTime))
	if err != nil {
		return 0
	}
	return t.UnixNano()
}
