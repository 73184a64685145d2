package broker

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go"
)

// Log is what is retained of one channel, and the way to its live events: a
// handle that has found the channel's stream, made by Broker.Log and worth
// keeping for as long as the channel is. It is small, to be copied, and holds
// nothing open. It is safe for concurrent use. The zero Log is of no channel
// and must not be used.
//
// Of a channel of which nothing is retained every read gives nothing, without
// an error. A read takes five seconds at most. Its error is ErrTooLarge if no
// subject can be made of the names, ErrUnavailable if the server has not answered,
// or not in full, which is also the context's if that has ended, and else what
// the server says.
//
// Of several replicas of a stream each removes what has its age by its own clock. What
// is asked of the leader is compared with what another one has read, so it counts
// events that are about to be removed as removed.
type Log struct {
	broker *Broker
	lane   *lane
	ref    Ref
}

// Log returns the log of a channel. It asks nothing and never fails: names that
// cannot be a subject give errors from the calls of the log.
func (b *Broker) Log(ref Ref) Log {
	return Log{broker: b, lane: b.laneOf(ref), ref: ref}
}

// Ref names the channel.
func (l Log) Ref() Ref { return l.ref }

// Retention is how the events of the channel are retained.
func (l Log) Retention() Retention { return l.lane.retention }

// Epoch names the life of the sequences of the channel: when it changes,
// sequences from before mean nothing. It stays the same as long as the broker
// lives, unless other brokers share the stream: then the change shows in Disturbed.
func (l Log) Epoch() string { return l.lane.lifeNow().epoch }

// Runs are those of the epoch in which the channel was in this stream all the
// time until now: what was given in others says nothing. They stay the same as
// long as the epoch does and must not be changed.
func (l Log) Runs() Runs { return l.lane.runsOf(l.ref) }

// Stream is the number of the stream that holds the channel, negative if
// nothing of it is retained. The sequences of channels in one stream can be
// compared.
func (l Log) Stream() int {
	if !l.lane.retained() {
		return -1
	}
	return l.lane.index
}

// MaxFrame is the largest frame, in bytes, that can be stored on the channel:
// it has to fit into one message, and into what is retained of the channel's
// stream.
func (l Log) MaxFrame() int { return l.lane.maxFrame(l.ref) }

// stored is the subject of the channel's stored events. It is made for each
// call: kept, it would cost each channel its length, to save a read one
// allocation.
func (l Log) stored() string { return l.lane.subject(storedRoot, l.ref) }

// Read returns up to limit stored events whose sequence is from or above, in
// order, and whether there are more. Nothing stored before the call is missed.
func (l Log) Read(ctx context.Context, from uint64, limit int) (events []Event, more bool, err error) {
	return l.ReadTo(ctx, from, math.MaxUint64, limit)
}

// ReadTo is Read for whoever wants events up to a sequence: above it the answer may
// be a little behind, with several replicas, and costs less.
func (l Log) ReadTo(ctx context.Context, from, upTo uint64, limit int) (events []Event, more bool, err error) {
	events, more, err = l.read(ctx, get{Sequence: max(from, 1), Batch: limit}, upTo)
	if err != nil {
		return nil, false, fmt.Errorf("read channel %q from %d: %w", l.ref.Channel, from, err)
	}
	return events, more, nil
}

// ReadSince is Read from the first event that was stored at or after t.
func (l Log) ReadSince(ctx context.Context, t time.Time, limit int) (events []Event, more bool, err error) {
	events, more, err = l.read(ctx, get{Start: &t, Batch: limit}, math.MaxUint64)
	if err != nil {
		return nil, false, fmt.Errorf("read channel %q since %s: %w", l.ref.Channel, t.Format(time.RFC3339), err)
	}
	return events, more, nil
}

func (l Log) read(ctx context.Context, request get, upTo uint64) (events []Event, more bool, err error) {
	if err := l.ref.check(); err != nil {
		return nil, false, err
	}
	if !l.lane.retained() {
		return nil, false, nil
	}
	request.NextFor, request.MaxBytes = l.stored(), readBytes
	if l.lane.replicated() {
		return l.readWhole(ctx, request, upTo)
	}
	return l.look(ctx, request)
}

// look is one read, which is of one replica.
func (l Log) look(ctx context.Context, request get) (events []Event, more bool, err error) {
	err = l.broker.get(ctx, l.lane, request, func(m *nats.Msg) { events = append(events, storedEvent(m)) }, func(end *nats.Msg) {
		more = number(end.Header, headerPending) > 0
	})
	return events, more, err
}

// Last returns the newest stored event, ok false if there is none. The answer
// is the leader's: nothing stored before the call is missed.
func (l Log) Last(ctx context.Context) (ev Event, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := l.ref.check(); err != nil {
		return Event{}, false, err
	}
	switch {
	case !l.lane.retained():
		return Event{}, false, nil
	case l.lane.replicated():
		// A direct get may be answered by a replica that is behind.
		ev, ok, err = l.broker.lastOfLeader(ctx, l.lane, l.stored())
	default:
		ev, ok, err = l.broker.lastDirect(ctx, l.lane, l.stored())
	}
	if err != nil {
		return Event{}, false, fmt.Errorf("read the last event of channel %q: %w", l.ref.Channel, err)
	}
	return ev, ok, nil
}

// LastReaching is Last as a leader has it whose stream reaches a sequence, which is
// known to have been given. One that has less was cut off, and does not know yet that
// there is another: the error is ErrUnavailable then.
func (l Log) LastReaching(ctx context.Context, sequence uint64) (ev Event, ok bool, err error) {
	if !l.lane.replicated() || !l.lane.retained() {
		return l.Last(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := l.ref.check(); err != nil {
		return Event{}, false, err
	}
	if ev, ok, err = l.lastReaching(ctx, sequence); err != nil {
		return Event{}, false, fmt.Errorf("read the last event of channel %q: %w", l.ref.Channel, err)
	}
	return ev, ok, nil
}

// lastReaching asks first for what says how far the stream of who answers reaches.
func (l Log) lastReaching(ctx context.Context, sequence uint64) (ev Event, ok bool, err error) {
	info, err := l.broker.streamInfoOf(ctx, l.lane, l.stored())
	switch {
	case err != nil:
		return Event{}, false, err
	case info.Last < sequence:
		return Event{}, false, unanswered(errOldLeader)
	case info.Subjects[l.stored()] == 0:
		return Event{}, false, nil
	}
	return l.broker.lastOfLeader(ctx, l.lane, l.stored())
}

// Known is the newest time, up to that at which the leader of the stream is asked, of
// which it is known that what was stored until then is in the answer: one that was cut
// off, and does not know it yet, answers, too.
func (l Log) Known(asked time.Time) time.Time {
	if !l.lane.retained() {
		return asked
	}
	return l.broker.pulse.known(l.lane, math.MaxUint64, asked)
}

// Retains reports whether the event of a sequence that was read is still there.
// The answer is the leader's. It is by far the cheapest question, and while it is
// so nothing behind that event has been trimmed: the oldest of a channel go first.
func (l Log) Retains(ctx context.Context, sequence uint64) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if !l.lane.retained() {
		return false, nil
	}
	find := l.broker.atDirect
	if l.lane.replicated() {
		find = l.broker.atLeader
	}
	ev, ok, err := find(ctx, l.lane, sequence)
	if err != nil {
		return false, fmt.Errorf("ask for event %d of channel %q: %w", sequence, l.ref.Channel, err)
	}
	if ok && l.lane.replicated() {
		ok = ev.Time >= l.safe().UnixNano()
	}
	return ok, nil
}

// Span returns the oldest retained event and how many events are retained, 0
// for none. It costs as much, about a millisecond of a busy server, however many
// there are. With several replicas the answer is the leader's.
func (l Log) Span(ctx context.Context) (first Event, retained int, err error) {
	if !l.lane.retained() {
		return Event{}, 0, nil
	}
	if l.lane.replicated() {
		return l.spanOfLeader(ctx)
	}
	request := get{Sequence: 1, Batch: 1, NextFor: l.stored()}
	err = l.broker.get(ctx, l.lane, request, func(m *nats.Msg) {
		first, retained = storedEvent(m), retained+1
	}, func(end *nats.Msg) {
		retained += int(number(end.Header, headerPending))
	})
	if err != nil {
		return Event{}, 0, fmt.Errorf("count the events of channel %q: %w", l.ref.Channel, err)
	}
	return first, retained, nil
}

// State asks the leader of the channel's stream: it is younger than the call,
// and what it says of removals is younger than the rest. The zero State is that
// of a channel of which nothing is retained.
func (l Log) State(ctx context.Context) (State, error) {
	if !l.lane.retained() {
		return State{}, nil
	}
	s, err := l.broker.state(ctx, l.lane)
	if err != nil {
		return State{}, err
	}
	if l.lane.replicated() {
		s.doubt(l.safe())
	}
	return l.broker.removed(ctx, l.lane, l.ref.App, s)
}

// Sound returns nil if what was read before can be believed: a server that cannot
// open a file answers that there is no event, and a node that has just begun does not
// know whether its clock is right. The error is ErrUnavailable.
func (l Log) Sound(ctx context.Context) error {
	if !l.broker.clocks.compared(l.lane) {
		return unanswered(errNoClock)
	}
	return l.broker.health.readable(ctx)
}

// Skew is how far the clocks of this node, of the other nodes and of who stamps the
// channel's events are apart, or were while something was stored that is retained; 0
// if that is too little to matter.
func (l Log) Skew() time.Duration {
	return l.broker.clocks.skew(l.lane, time.Now())
}

// Subscribe starts the delivery of the channel's events to r. When it returns,
// every event stored afterwards by a publisher on this node is delivered or
// shows as a gap. There is at most one subscription to a channel at a time.
func (l Log) Subscribe(ctx context.Context, r Receiver) (*Subscription, error) {
	if err := l.ref.check(); err != nil {
		return nil, err
	}
	s := &Subscription{
		live: l.broker.live, lane: l.lane, ref: l.ref, receiver: r, subject: l.lane.subject(liveRoot, l.ref),
	}
	if err := s.live.add(s); err != nil {
		return nil, err
	}
	if err := s.open(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("subscribe to channel %q: %w", l.ref.Channel, err)
	}
	return s, nil
}
