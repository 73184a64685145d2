package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// mark says that events of an app were removed, while older ones of others
// stayed: a fact that clients which come back depend on. It is a message of the
// stream itself, so it is there exactly as long as it can matter: when it goes
// by age or size, all that was removed would be gone, too.
type mark struct {
	Sequence uint64    `json:"sequence"` // up to this one
	Time     time.Time `json:"time"`     // none of them is younger
	stored   time.Time // when the mark was
}

// markSubject is that of the marks of an app, or of all apps: "". No app has
// an empty id, so it is no channel's.
func (l *lane) markSubject(app string) string { return l.subject(storedRoot, Ref{Channel: app}) }

// readMark returns the newest mark of an app, a zero one if there is none. Like
// Log.Last it misses nothing stored before: a mark too old would hide a gap.
func (b *Broker) readMark(ctx context.Context, l *lane, app string) (mark, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	find := b.lastDirect
	if b.cfg.Replicas > 1 {
		find = b.lastOfLeader
	}
	ev, found, err := find(ctx, l, l.markSubject(app))
	if err != nil || !found {
		return mark{}, err
	}
	var m mark
	if err := json.Unmarshal(ev.Frame, &m); err != nil {
		return mark{}, fmt.Errorf("read a mark of stream %s: %w", l.stream, err)
	}
	m.stored = time.Unix(0, ev.Time)
	return m, nil
}

// writeMark returns when the mark is stored.
func (b *Broker) writeMark(ctx context.Context, l *lane, app string, m mark) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	answer, err := b.reader().RequestWithContext(ctx, l.markSubject(app), data)
	if err != nil {
		return err
	}
	_, err = parseAck(answer.Data)
	return err
}

// purgeRequest is nats-server's JSApiStreamPurgeRequest.
type purgeRequest struct {
	Filter   string `json:"filter"`
	Sequence uint64 `json:"seq,omitempty"`
	Keep     uint64 `json:"keep,omitempty"`
}

// purgeApp removes the events of an app before those given. The marks come
// first: who finds an event missing must find them.
func (b *Broker) purgeApp(ctx context.Context, l *lane, app string, from events) error {
	m := mark{Sequence: from.first - 1, Time: from.time}
	for _, of := range []string{app, ""} {
		if err := b.writeMark(ctx, l, of, m); err != nil {
			return fmt.Errorf("mark a removal in stream %s: %w", l.stream, err)
		}
	}
	// Of the marks the newest says all, and the others fill the stream.
	for filter, request := range map[string]purgeRequest{
		l.appSubjects(app): {Sequence: from.first}, l.markSubject(app): {Keep: 1}, l.markSubject(""): {Keep: 1},
	} {
		request.Filter = filter
		if err := b.ask(ctx, b.api+"STREAM.PURGE."+l.stream, request, nil); err != nil {
			return fmt.Errorf("remove the oldest events of app %s from stream %s: %w", app, l.stream, err)
		}
	}
	return nil
}

// events are those of an app from a place on.
type events struct {
	first uint64    // the sequence of the first
	time  time.Time // when that was stored
	count int64
}

// eventsOf counts an app's events from a sequence on. The answer is one event,
// with the number of those behind it, so it costs the same for any number.
func (b *Broker) eventsOf(ctx context.Context, l *lane, app string, from uint64) (events, error) {
	var e events
	request := get{Sequence: max(from, 1), NextFor: l.appSubjects(app), Batch: 1}
	err := b.get(ctx, l, request, func(m *nats.Msg) {
		e = events{first: number(m.Header, headerSequence), time: time.Unix(0, stamp(m.Header)), count: 1}
	}, func(end *nats.Msg) {
		e.count += int64(number(end.Header, headerPending))
	})
	if err != nil {
		return e, fmt.Errorf("count the events of app %s in stream %s: %w", app, l.stream, err)
	}
	return e, nil
}

// appSubjects is the pattern of all stored subjects of an app.
func (l *lane) appSubjects(app string) string {
	return storedRoot + "." + l.token + "." + Token(app) + ".*"
}
