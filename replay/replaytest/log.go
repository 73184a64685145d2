// Package replaytest is a model of the event log, for tests of what sits on it:
// what it retains is what JetStream would, and its answers come late, fail and
// are overtaken as those of a server may. Time is that of package time, so that
// a test in a synctest bubble has years of it.
package replaytest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"reecho/broker"
	"reecho/replay"
)

// ErrFailing is the error of all reads while the log fails.
var ErrFailing = fmt.Errorf("%w: the log fails", broker.ErrUnavailable)

// maxLatency bounds how late an answer comes.
const maxLatency = 40 * time.Millisecond

// Log is one stream with the channels of several apps, and a table of values. It
// is safe for concurrent use.
type Log struct {
	// Retention applies to all channels. What is changed counts from the next run
	// on, when the node is a new one, too; Off keeps nothing and trims as before.
	Retention broker.Retention
	// KeepEpoch makes the log wrong: it has the epoch it had whatever the bounds become.
	KeepEpoch bool

	mu        sync.Mutex
	rng       *rand.Rand
	epoch     int
	kept      broker.Retention // the bounds of the last run that kept anything
	unused    bool             // there was a run since that did not
	runs      broker.Runs      // of the epoch
	started   int              // how many there were of any
	next      uint64           // the next sequence
	events    []Stored
	bytes     int64
	removed   map[string]mark // by app; "" any
	failing   bool
	blind     bool // no event is found, as by a server that cannot open its files
	receivers map[broker.Ref]broker.Receiver
	values    map[string]broker.Value
	revision  uint64    // of the newest value
	void      time.Time // when a copy was put in the place of values
	disturbed chan int
}

// Stored is a retained event.
type Stored struct {
	broker.Event
	Ref  broker.Ref
	size int64
}

// mark is what was removed of an app out of turn.
type mark struct {
	sequence uint64
	time, at time.Time // of the youngest; when
}

var _ replay.Logs = (*Log)(nil)

// NewLog returns an empty log.
func NewLog(rng *rand.Rand, kept broker.Retention) *Log {
	l := &Log{rng: rng, Retention: kept, kept: kept, receivers: make(map[broker.Ref]broker.Receiver), values: make(map[string]broker.Value), disturbed: make(chan int)}
	l.Begin()
	return l
}

// Begin loses all events: a new epoch.
func (l *Log) Begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epoch++
	l.next, l.events, l.bytes, l.removed = 1, nil, 0, make(map[string]mark)
	l.runs, l.kept, l.unused = nil, l.Retention, false
	l.beginRunLocked()
}

// Change changes Retention while nodes read it.
func (l *Log) Change(change func(kept *broker.Retention)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.Retention)
}

// Restart begins a new run of the epoch, as a restart of the server does.
func (l *Log) Restart() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.beginRunLocked()
}

// beginRunLocked does what the broker does when it starts (package broker, start).
func (l *Log) beginRunLocked() {
	l.started++
	if l.Retention.Off {
		l.unused = true
		return
	}
	if (l.unused || l.raised()) && !l.KeepEpoch {
		l.epoch++
		l.runs = nil
	}
	l.kept, l.unused = l.Retention, false
	l.trimLocked()
	run := broker.Run{Token: fmt.Sprintf("r%d", l.started), First: l.next, Began: time.Now()}
	if l.started == 1 {
		run.Began = time.Time{} // the data is new
	}
	l.runs = append(l.runs, run)
}

// raised reports that more will be kept in some way than was.
func (l *Log) raised() bool {
	r, have := l.Retention, l.kept
	return r.MaxAge > have.MaxAge || r.EventsPerChannel > have.EventsPerChannel || r.MaxBytes > have.MaxBytes
}

// Copy is what a log was at a time.
type Copy struct {
	kept    broker.Retention
	unused  bool
	epoch   int
	runs    broker.Runs
	next    uint64
	events  []Stored
	bytes   int64
	removed map[string]mark
	values  map[string]broker.Value
}

// Last is the newest sequence that a copy has given.
func (c Copy) Last() uint64 { return c.next - 1 }

// Copy takes a copy of the log.
func (l *Log) Copy() Copy {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Copy{l.kept, l.unused, l.epoch, slices.Clone(l.runs), l.next, slices.Clone(l.events), l.bytes, maps.Clone(l.removed), maps.Clone(l.values)}
}

// Restore puts a copy in the place of the log and of the values, and begins a new
// run.
func (l *Log) Restore(c Copy) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept, l.unused = c.kept, c.unused
	l.epoch, l.runs, l.next = c.epoch, slices.Clone(c.runs), c.next
	l.events, l.bytes, l.removed = slices.Clone(c.events), c.bytes, maps.Clone(c.removed)
	l.values, l.void = maps.Clone(c.values), time.Now()
	l.beginRunLocked()
}

// Fail makes all reads fail, or work again.
func (l *Log) Fail(failing bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failing = failing
}

// Blind makes reads find no events, or find them again.
func (l *Log) Blind(blind bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blind = blind
}

// Publish stores an event of a size, about, and returns it as it goes out live; while
// nothing is kept it stores nothing, and the event has no sequence.
func (l *Log) Publish(ref broker.Ref, exclude string, size int) broker.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Retention.Off {
		return broker.Event{Time: time.Now().UnixNano(), Exclude: exclude, Frame: []byte("0 ")}
	}
	previous := uint64(0)
	for i := range l.events {
		if l.events[i].Ref == ref {
			previous = l.events[i].Sequence
		}
	}
	text := fmt.Sprintf("%d %s", l.next, strings.Repeat(".", size))
	ev := broker.Event{Sequence: l.next, Time: time.Now().UnixNano(), Exclude: exclude, Frame: []byte(text)}
	l.next++
	l.events = append(l.events, Stored{Event: ev, Ref: ref, size: int64(len(text))})
	l.bytes += int64(len(text))
	l.trimLocked()
	ev.Previous = previous
	return ev
}

// trimLocked does what JetStream does by count, size and age.
func (l *Log) trimLocked() {
	counts := make(map[broker.Ref]int64)
	for i := len(l.events) - 1; i >= 0; i-- {
		ref := l.events[i].Ref
		if counts[ref]++; counts[ref] > l.kept.EventsPerChannel {
			l.removeLocked(i)
		}
	}
	for len(l.events) > 0 && (l.bytes > l.kept.MaxBytes || time.Since(time.Unix(0, l.events[0].Time)) > l.kept.MaxAge) {
		l.removeLocked(0)
	}
}

func (l *Log) removeLocked(i int) {
	l.bytes -= l.events[i].size
	l.events = append(l.events[:i:i], l.events[i+1:]...)
}

// Share removes the oldest n events of an app, as when it has more than its
// share of the stream.
func (l *Log) Share(app string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := 0; i < len(l.events) && n > 0; {
		if l.events[i].Ref.App != app {
			i++
			continue
		}
		m := mark{sequence: l.events[i].Sequence, time: time.Unix(0, l.events[i].Time), at: time.Now()}
		l.removed[app], l.removed[""] = m, m
		l.removeLocked(i)
		n--
	}
}

// Deliver gives a live event to whoever follows its channel.
func (l *Log) Deliver(ref broker.Ref, ev broker.Event) {
	l.mu.Lock()
	r := l.receivers[ref]
	l.mu.Unlock()
	if r != nil {
		r.Live(ev)
	}
}

// unfollow ends what Follow began, unless somebody else follows by now.
func (l *Log) unfollow(ref broker.Ref, r broker.Receiver) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.receivers[ref] == r {
		delete(l.receivers, ref)
	}
}

// Retained returns what is retained of a channel now, in order.
func (l *Log) Retained(ref broker.Ref) []broker.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ofLocked(ref, func(*Stored) bool { return true })
}

// Epoch counts the times the log began, or was given an epoch; it is 0 while nothing
// is kept.
func (l *Log) Epoch() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Retention.Off {
		return 0
	}
	return l.epoch
}

func (l *Log) ofLocked(ref broker.Ref, wanted func(*Stored) bool) (events []broker.Event) {
	l.trimLocked()
	for i := range l.events {
		if e := &l.events[i]; !l.Retention.Off && e.Ref == ref && wanted(e) {
			events = append(events, e.Event)
		}
	}
	return events
}

// pause waits, or returns the error of ctx. Without a wait there is no timer: one that
// is due at once now and then ends the program, in bubbles with the race detector
// (seen with Go 1.26.8, in runtime.(*timer).maybeRunChan).
func pause(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return ctx.Err()
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answer waits for as long as an answer takes and locks the log, unless it is
// failing.
func (l *Log) answer(ctx context.Context) (unlock func(), err error) {
	l.mu.Lock()
	late := time.Duration(0)
	if l.rng.IntN(3) > 0 {
		late = time.Duration(l.rng.Int64N(int64(maxLatency)))
	}
	l.mu.Unlock()
	if err := pause(ctx, late); err != nil {
		return nil, err
	}
	l.mu.Lock()
	if l.failing {
		l.mu.Unlock()
		return nil, ErrFailing
	}
	l.trimLocked()
	return l.mu.Unlock, nil
}

// Tails implements replay.Logs.
func (l *Log) Tails(ctx context.Context, refs []broker.Ref) ([]broker.Tail, error) {
	asked := time.Now()
	unlock, err := l.answer(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	tails := make([]broker.Tail, len(refs))
	for i, ref := range refs {
		tails[i].Known = asked
		for _, ev := range l.ofLocked(ref, func(*Stored) bool { return true }) {
			tails[i].Sequence = ev.Sequence
		}
	}
	return tails, nil
}

// Scan implements replay.Logs.
func (l *Log) Scan(ctx context.Context, _ int, from, to uint64, visit func(broker.Ref, broker.Event) bool) error {
	unlock, err := l.answer(ctx)
	if err != nil {
		return err
	}
	events := append([]Stored(nil), l.events...)
	unlock()
	for _, e := range events {
		if e.Sequence >= from && e.Sequence <= to && !visit(e.Ref, e.Event) {
			return nil
		}
	}
	return nil
}

// Disturbed implements replay.Logs.
func (l *Log) Disturbed() <-chan int { return l.disturbed }

// Failure implements replay.Logs: what fails here is not told of.
func (l *Log) Failure() error { return nil }

// Get implements session.Records.
func (l *Log) Get(ctx context.Context, key string) (broker.Value, error) {
	unlock, err := l.answer(ctx)
	if err != nil {
		return broker.Value{}, err
	}
	defer unlock()
	return l.values[key], nil
}

// Put implements session.Records.
func (l *Log) Put(ctx context.Context, key string, text []byte, expected uint64) (revision uint64, err error) {
	unlock, err := l.answer(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	if have := l.values[key].Revision; expected != broker.AnyRevision && expected != have {
		return 0, fmt.Errorf("%w: %s has revision %d, not %d", broker.ErrConflict, key, have, expected)
	}
	l.revision++
	l.values[key] = broker.Value{Text: text, Put: time.Now(), Revision: l.revision}
	return l.revision, nil
}

// List implements session.Records.
func (l *Log) List(ctx context.Context, prefix string) ([]string, error) {
	unlock, err := l.answer(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	keys := slices.Sorted(maps.Keys(l.values))
	return slices.DeleteFunc(keys, func(key string) bool { return !strings.HasPrefix(key, prefix) }), nil
}

// Void implements session.Records.
func (l *Log) Void() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.void
}

// Forget forgets a value, as a table does that is full.
func (l *Log) Forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.values, key)
}

// Expire forgets the values that were put longer ago than age.
func (l *Log) Expire(age time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.values, func(_ string, v broker.Value) bool { return time.Since(v.Put) > age })
}

// Keys are the keys of all values.
func (l *Log) Keys() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.values))
}

// Log implements replay.Logs.
func (l *Log) Log(ref broker.Ref) replay.Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Retention.Off {
		return channelLog{l, ref, "none", nil}
	}
	return channelLog{l, ref, fmt.Sprintf("E%d", l.epoch), slices.Clone(l.runs)}
}
