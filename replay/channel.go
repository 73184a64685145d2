package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"reecho/broker"
	"reecho/broker/flight"
)

// attemptTimeout bounds one step that waits for the log: what it needs is local
// or a round trip away.
const attemptTimeout = 10 * time.Second

// attachPause is between two questions for the end of a channel.
const attachPause = 50 * time.Millisecond

// Audience takes the events of one channel. Its methods are called by one
// goroutine at a time with the channel locked: they must not block and must not
// call the Channel.
type Audience interface {
	// Start is called once, before any stored event is delivered. last is the
	// newest event stored before, with a zero Sequence if none is retained.
	Start(last broker.Event)
	// Deliver is called in stream order; ephemeral events (sequence 0) pass as
	// they come. frame is ev as Config.Frame made it, and may be kept.
	// positioned is the same with its position if that was made, else nil.
	Deliver(ev broker.Event, frame []byte) (positioned []byte)
	// Gap says that events between the last delivered one and the next were
	// trimmed before this node could read them, or may have been.
	Gap(reason Reason)
}

// Renewer is an Audience that is told when its channel begins anew, behind the newest
// event of another epoch of the stream: sequences from before mean nothing. It is
// called as the methods of Audience are, before Gap says so.
type Renewer interface {
	Renewed(last broker.Event)
}

// Hearer is an Audience that takes what other nodes tell of the channel (see
// broker.Hearer), as it comes.
type Hearer interface {
	Told(life string, text []byte)
}

// Channel is one channel on this node: it follows the channel's log, gives its
// Audience every event stored since, each once and in stream order, and keeps
// the newest for clients that come back. One lock orders all of that: what a
// client takes (see Catchup) and what is delivered to it next leave nothing out
// between them. It is safe for concurrent use.
type Channel struct {
	// Static.
	node     *Node
	ref      broker.Ref
	log      Log
	line     Line // see Line
	bounds   Bounds
	kept     bool // events of it are kept at all
	audience Audience

	opening   flight.Once // one attempt to follow the log at a time
	extending flight.Lock // one extension of the ring at a time
	share     Share       // guarded by node.memory
	// renewed is the line since the stream got another epoch, nil before.
	renewed atomic.Pointer[renewal]

	mu sync.Mutex
	// end ends the delivery of live events; nil until the log is followed.
	end       func()
	sequencer sequencer
	ring      Ring
	// whole is when nothing was missing, and gap, in nanoseconds since 1970, when
	// something was; 0: never.
	whole time.Time
	gap   int64
	// unsettled, if not 0, is the sequence of the first event, which came without
	// a predecessor; whether one was lost and trimmed before is asked a moment
	// later for many channels together (Config.Recheck), for asking at once would
	// cost more than delivering. A client that comes back from before it is not
	// told that it has all until then.
	unsettled uint64
	filling   bool // one fill at a time
	closed    bool
	// moved is closed when the end of the channel moves; nil while nobody waits
	// for it.
	moved chan struct{}
}

var (
	_ broker.Receiver = (*Channel)(nil)
	_ broker.Hearer   = (*Channel)(nil)
)

// Channel returns a channel that does not follow its log yet, see Attach. Bounds
// are those of one replay from it; what is kept is trimmed to them.
func (n *Node) Channel(ref broker.Ref, bounds Bounds, audience Audience) *Channel {
	log := n.logs.Log(ref)
	ch := &Channel{
		node: n, ref: ref, log: log, line: LineOf(log),
		bounds: bounds, kept: !log.Retention().Off, audience: audience,
	}
	ch.share.Evict = ch.dropRing
	return ch
}

// renewal is the line of a channel since it began anew, for the nth time.
type renewal struct {
	line Line
	n    int
}

// Line is that of the channel's positions. It changes when the stream gets another
// epoch, with a Gap.
func (ch *Channel) Line() Line {
	if r := ch.renewed.Load(); r != nil {
		return r.line
	}
	return ch.line
}

// LineAfter is Line if the channel began anew so many times (see Renewer), and no more.
func (ch *Channel) LineAfter(n int) (line Line, current bool) {
	r := ch.renewed.Load()
	if r == nil {
		return ch.line, n == 0
	}
	return r.line, n == r.n
}

// Retained reports whether events of the channel are kept at all.
func (ch *Channel) Retained() bool { return ch.kept }

// After is the request of a client that has a position, as it is on the wire, and
// was known to be whole at a time, zero if it is not known.
func (ch *Channel) After(position string, confirmed time.Time) Request {
	sequence, reason := ch.Line().Parse(position)
	if reason != "" {
		return Request{Lost: reason}
	}
	return Request{Want: WantMissed, Claim: Claim{Sequence: sequence, Confirmed: confirmed}}
}

// Attached reports whether Attach has succeeded.
func (ch *Channel) Attached() bool { return ch.opening.Done() }

// Attach follows the log from now on: every event stored after it returned is
// delivered, and events stored while it runs may be. Concurrent calls share one
// attempt; who waits for one that failed tries itself.
func (ch *Channel) Attach(ctx context.Context) error {
	if err := ch.opening.Do(ctx, ch.open); err != nil {
		return fmt.Errorf("follow channel %q: %w", ch.ref.Channel, err)
	}
	return nil
}

func (ch *Channel) open(ctx context.Context) error {
	// What came in an attempt that failed is not followed by what comes now.
	ch.locked(func() { ch.sequencer = sequencer{} })
	end, err := ch.log.Follow(ctx, ch)
	if err != nil {
		return err
	}
	// Live events come from here on, before the position is asked for, so that
	// nothing falls between the two.
	last, known, err := ch.last(ctx)
	if err != nil {
		end()
		return fmt.Errorf("find the end: %w", err)
	}
	if !ch.node.remember(ch) || !ch.start(last, known, end) {
		end()
		return broker.ErrClosed
	}
	return nil
}

// last is the newest event, with a zero Sequence if none is retained, and when it is
// known to have been so. It asks again while the log does not answer: a stream that elects its
// leader answers in a moment, and whoever is turned away meanwhile only comes back.
func (ch *Channel) last(ctx context.Context) (last broker.Event, known time.Time, err error) {
	for {
		var ok bool
		known = ch.log.Known(time.Now())
		if last, ok, err = ch.log.Last(ctx); !ok {
			last = broker.Event{}
		}
		if !errors.Is(err, broker.ErrUnavailable) || ch.node.logs.Failure() != nil || ctx.Err() != nil {
			return last, known, err
		}
		wait(ctx, attachPause)
	}
}

// Close ends the delivery. Nothing is delivered after it returned. The caller
// made sure that nobody takes anything any more.
func (ch *Channel) Close() {
	ch.node.forget(ch)
	ch.mu.Lock()
	end := ch.end
	ch.closed = true
	ch.mu.Unlock()
	if end != nil {
		end()
	}
	ch.dropRing()
}

// keepLocked adds a stored event to the ring.
func (ch *Channel) keepLocked(e Entry) {
	ch.ring.Append(e)
	ch.trimLocked()
}

// trimLocked keeps the ring within what one replay may hold.
func (ch *Channel) trimLocked() {
	// Twice the limit in bytes: they are counted with what an entry costs.
	ch.ring.Trim(ch.bounds.Events, 2*ch.bounds.Bytes)
	ch.node.memory.Use(&ch.share, ch.ring.Bytes())
}

func (ch *Channel) dropRing() {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.ring.Trim(0, 0)
	ch.node.memory.Use(&ch.share, 0)
}

// position is the frame of an entry with its position.
func (ch *Channel) position(e *Entry) []byte {
	return ch.node.cfg.Position(e.Frame, ch.Line().At(e.Sequence))
}

// locked calls do with the channel locked.
func (ch *Channel) locked(do func()) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	do()
}

// movedLocked wakes those who wait for the end of the channel to move.
func (ch *Channel) movedLocked() {
	if ch.moved != nil {
		close(ch.moved)
		ch.moved = nil
	}
}

// await waits until ready, which is called with the channel locked.
func (ch *Channel) await(ctx context.Context, ready func() bool) error {
	for {
		ch.mu.Lock()
		if ready() {
			ch.mu.Unlock()
			return nil
		}
		if ch.moved == nil {
			ch.moved = make(chan struct{})
		}
		moved := ch.moved
		ch.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return waited(ctx, fmt.Sprintf("until this node has the newest events of channel %q", ch.ref.Channel))
		}
	}
}

// errOldEnd: who answered may have been cut off, and not know it.
var errOldEnd = fmt.Errorf("%w: it is not known whether the leader that answers is still the leader", broker.ErrUnavailable)

// findEnd makes the end known of a channel of which nothing is retained, or of
// which this node lost track.
func (ch *Channel) findEnd(ctx context.Context) error {
	known := ch.log.Known(time.Now())
	// In this order: what is stored after the state was asked for has a
	// higher sequence or shows in Last.
	state, err := ch.log.State(ctx)
	if err != nil {
		return err
	}
	last, found, err := ch.log.Last(ctx)
	if err != nil {
		return err
	}
	old := false
	ch.locked(func() { old = known.UnixNano() < ch.gap })
	if old {
		return errOldEnd
	}
	if ch.foundEnd(state.Last, last.Sequence, found) {
		return nil
	}
	ch.Nudge(last.Sequence)
	return ch.await(ctx, ch.ring.Known)
}

// foundEnd takes what the log says of the channel's end, and reports whether the
// ring is known now.
func (ch *Channel) foundEnd(newest, last uint64, retained bool) (known bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if !ch.ring.Known() {
		if !retained {
			ch.sequencer.Found(newest)
		}
		if end := ch.sequencer.End(); !retained || last <= end {
			ch.ring.Found(end)
		}
	}
	return ch.ring.Known()
}

// foundAhead raises the end to a sequence above it, up to which nothing is
// retained any more. What the ring has does not reach there.
func (ch *Channel) foundAhead(sequence uint64) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if sequence <= ch.sequencer.End() {
		return
	}
	ch.sequencer.Found(sequence)
	ch.ring.Start(sequence)
	ch.trimLocked()
	ch.movedLocked()
}

// prepend puts events, which were read after a sequence and up to another for who is
// on a line, into the ring.
func (ch *Channel) prepend(line string, after, upTo uint64, events []broker.Event) {
	entries := make([]Entry, len(events))
	for i := range events {
		entries[i] = Entry{Sequence: events[i].Sequence, Exclude: events[i].Exclude, Frame: ch.node.cfg.Frame(events[i].Frame)}
	}
	ch.locked(func() {
		if ch.Line().text == line && ch.ring.Prepend(after, upTo, entries) {
			ch.node.memory.Use(&ch.share, ch.ring.Bytes())
		}
	})
	// This ring is the warmest now, and the last to go.
	ch.node.memory.Reclaim()
}
