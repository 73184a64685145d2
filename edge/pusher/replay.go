package pusher

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// MaxExcept is how many earlier socket ids a subscription may name: more than
// connections break in a row before one lives to tell its client where it is,
// which is past what was not for the ids before.
const MaxExcept = 32

// maxSeen is the longest time ago that a client may say: far beyond what any
// stream retains.
const maxSeen = 10 * 365 * 24 * time.Hour

// Replay is what a client that keeps positions asks for when it subscribes
// (DESIGN §6). A client may set one of After, Last and Since; with none it asks for
// positions only. Last and Since together, which no client can say, ask for what
// either would give. It is no part of Pusher's protocol.
type Replay struct {
	// After is the position whose later events are wanted.
	After string
	// Seen is how long ago the client was last connected at that position;
	// negative if it did not say.
	Seen time.Duration
	// Except are socket ids the client had before: events that were not meant
	// for them are not meant for it.
	Except []string
	// Last is the number of newest events that are wanted.
	Last int
	// Since is the time whose later events are wanted.
	Since time.Time
}

var replayFields = fields{"after", "seen", "except", "last", "since"}

// decodeReplay reads the replay member of a subscription; nil if it is absent
// or null.
func decodeReplay(value []byte) (*Replay, error) {
	if isNull(value) {
		return nil, nil //nolint:nilnil // absent
	}
	var v [5][]byte
	if err := decodeObject(value, replayFields, v[:]); err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	r := &Replay{Seen: -1}
	var since string
	var err error
	if r.After, err = nameValue(v[0], "replay.after"); err != nil {
		return nil, err
	}
	if since, err = nameValue(v[4], "replay.since"); err != nil {
		return nil, err
	}
	if r.Except, err = nameList(v[2], "replay.except"); err != nil {
		return nil, err
	}
	if !isNull(v[1]) {
		if r.Seen, err = seconds(v[1]); err != nil {
			return nil, err
		}
	}
	if !isNull(v[3]) {
		if r.Last, err = strconv.Atoi(string(v[3])); err != nil || r.Last < 1 {
			return nil, errors.New("replay.last is not a number of events, 1 or more")
		}
	}
	if since != "" {
		if r.Since, err = ParseTime("replay.since", since); err != nil {
			return nil, err
		}
	}
	return r, r.check()
}

func (r *Replay) check() error {
	wanted := 0
	for _, set := range []bool{r.After != "", r.Last != 0, !r.Since.IsZero()} {
		if set {
			wanted++
		}
	}
	if wanted > 1 {
		return errors.New("replay takes one of after, last and since")
	}
	if len(r.Except) > MaxExcept {
		return fmt.Errorf("replay.except holds %d socket ids, limit %d", len(r.Except), MaxExcept)
	}
	for _, id := range r.Except {
		if _, _, err := ParseSocketID(id); err != nil {
			return fmt.Errorf("replay.except: %w", err)
		}
	}
	return nil
}

func seconds(value []byte) (time.Duration, error) {
	var n float64
	if err := json.Unmarshal(value, &n); err != nil || n < 0 || math.IsNaN(n) {
		return 0, errors.New("replay.seen is not a number of seconds, 0 or more")
	}
	if n >= maxSeen.Seconds() {
		return maxSeen, nil
	}
	return time.Duration(n * float64(time.Second)), nil
}

// Outcome is what a subscriber that asked for replay is told.
type Outcome struct {
	Events   int    // how many follow
	Position string // what the client has before they follow
	Reason   string // why something is missing; "" if nothing is
}

// AppendOutcome appends the replay member of the data of
// subscription_succeeded, a JSON object.
func AppendOutcome(dst []byte, o Outcome) []byte {
	dst = appendOutcome(append(dst, '{'), o.Events, o.Reason)
	dst = append(dst, `,"position":`...)
	return append(AppendString(dst, o.Position), '}')
}

func appendOutcome(dst []byte, events int, reason string) []byte {
	dst = append(dst, `"complete":`...)
	dst = strconv.AppendBool(dst, reason == "")
	dst = append(dst, `,"events":`...)
	dst = strconv.AppendInt(dst, int64(events), 10)
	if reason != "" {
		dst = append(dst, `,"reason":`...)
		dst = AppendString(dst, reason)
	}
	return dst
}

// Events that tell an application what came of a reconnect. They are no
// pusher: events, so that applications can bind to them; only on encrypted
// channels they are, behind encryptedPrefix: there clients decrypt whatever is
// not, and drop what they cannot (pusher-js 8.6, EncryptedChannel).
const (
	eventResumed = "reecho:resumed"
	eventGap     = "reecho:gap"

	encryptedPrefix = "pusher:"
)

// AppendResumed tells a client that came back that it gets what it missed, or,
// with a reason, that it does not.
func AppendResumed(dst []byte, channel string, events int, reason string) []byte {
	event := eventResumed
	if reason != "" {
		event = eventGap
	}
	if KindOf(channel).Has(Encrypted) {
		event = encryptedPrefix + event
	}
	var scratch [128]byte
	data := append(appendOutcome(append(scratch[:0], '{'), events, reason), '}')
	return appendSystem(dst, event, channel, string(data))
}

// AppendPositioned appends an event's frame, made by AppendEvent, with the
// position that stands behind prefix and sequence.
func AppendPositioned(dst, frame, position []byte) []byte {
	dst = append(dst, frame[:len(frame)-1]...)
	dst = append(dst, `,"position":"`...)
	dst = append(dst, position...)
	return append(dst, `"}`...)
}

// CutPosition splits a frame of AppendPositioned: the event is text with a brace
// behind it. A frame without a position is all text. A quote inside a JSON
// string is escaped, so nothing in an event can look like the member that is
// cut. It allocates nothing.
func CutPosition(frame []byte) (text, position []byte) {
	const member = `,"position":"`
	at := bytes.LastIndex(frame, []byte(member))
	if at < 0 {
		return frame, nil
	}
	return frame[:at], frame[at+len(member) : len(frame)-len(`"}`)]
}

// AppendPing asks a client for a pusher:pong.
func AppendPing(dst []byte) []byte {
	return append(dst, `{"event":"pusher:ping","data":"{}"}`...)
}
