package replay_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"reecho/broker"
	"reecho/replay"
	"reecho/replay/session"
)

var silent = slog.New(slog.DiscardHandler)

// withPosition puts a position in front of a text.
func withPosition(text []byte, p replay.Position) []byte {
	return append(append(p.AppendTo(nil), '|'), text...)
}

// room is the connections on a channel of this node.
type room struct {
	w   *world
	ref broker.Ref
	ch  *replay.Channel

	mu    sync.Mutex
	links []*link // that have joined
	done  uint64  // the newest delivered
}

var _ replay.Audience = (*room)(nil)

func newRoom(w *world, ref broker.Ref) *room {
	r := &room{w: w, ref: ref}
	r.ch = w.node.Channel(ref, w.bounds, r)
	return r
}

// Start implements replay.Audience.
func (r *room) Start(broker.Event) {}

// Deliver implements replay.Audience.
func (r *room) Deliver(ev broker.Event, text []byte) (positioned []byte) {
	if ev.Sequence == 0 {
		return nil // nobody is owed it
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	positioned = withPosition(text, r.ch.Line().At(ev.Sequence))
	opens := r.done == 0 && ev.Previous == 0
	r.done = max(r.done, ev.Sequence)
	r.w.tell(r.ref, nil, "delivered: %d", ev.Sequence)
	for _, l := range r.links {
		if opens {
			// Whether one was lost before it is asked at the next sweep.
			l.put(frame{kind: gapFrame, sequence: ev.Sequence - 1})
		}
		if l.excludes(ev.Exclude) {
			continue
		}
		l.put(frameOf(text, positioned, l.client.session == ""))
	}
	return positioned
}

// Gap implements replay.Audience.
func (r *room) Gap(reason replay.Reason) {
	r.w.tell(r.ref, nil, "gap: %s", reason)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.links {
		l.put(frame{kind: gapFrame, sequence: r.w.gone(r.ref)})
	}
}

func (r *room) leave(l *link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.links, l); i >= 0 {
		r.links = slices.Delete(r.links, i, i+1)
	}
}

// all is what was ever stored of a channel in this epoch.
func (w *world) all(ref broker.Ref) []stored {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stored[ref]
}

// count counts what happened.
func (w *world) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tally[what]++
}

// line is something that happened on a channel, to a client or to all.
type line struct {
	ref  broker.Ref
	c    *client
	text string
}

// tell remembers what happened, for the story of a failure.
func (w *world) tell(ref broker.Ref, c *client, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, line{ref, c, fmt.Sprintf(time.Now().Format("15:04:05.000 ")+format, args...)})
}

// story is the end of what happened on a channel to a client.
func (w *world) story(ref broker.Ref, c *client) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var story []string
	for _, l := range w.lines {
		if l.ref == ref && (l.c == nil || l.c == c) {
			story = append(story, l.text)
		}
	}
	return strings.Join(story[max(0, len(story)-60):], "\n")
}

// gone is the newest event that is not retained any more.
func (w *world) gone(ref broker.Ref) (sequence uint64) {
	retained := w.log.Retained(ref)
	for _, s := range w.all(ref) {
		if !slices.ContainsFunc(retained, func(e broker.Event) bool { return e.Sequence == s.sequence }) {
			sequence = s.sequence
		}
	}
	return sequence
}

type frameKind uint8

const (
	eventFrame frameKind = iota
	answerFrame
	gapFrame
	pingFrame
)

// frame is what a connection carries.
type frame struct {
	kind     frameKind
	sequence uint64 // eventFrame; gapFrame: up to here nothing is owed
	position string // eventFrame, where the client wants it
	outcome  replay.Outcome
	asked    replay.Want // answerFrame
	late     bool        // answerFrame: a gap that opened after the first part
	gone     uint64      // answerFrame: the newest event that was not retained any more
	reached  session.Reached
	at       time.Time
}

func frameOf(plain, positioned []byte, wants bool) frame {
	f := frame{kind: eventFrame}
	if wants {
		position, _, _ := bytes.Cut(positioned, []byte{'|'})
		f.position = string(position)
	}
	number, _, _ := bytes.Cut(plain, []byte{' '})
	f.sequence, _ = strconv.ParseUint(string(number), 10, 64)
	return f
}

// link is a connection of a client to a channel.
type link struct {
	client *client
	room   *room
	socket string
	hold   session.Hold
	ctx    context.Context //nolint:containedctx // the connection's life
	cut    context.CancelFunc
	ended  chan struct{} // closed when its request is over
	want   replay.Want
	claim  uint64 // with WantMissed
	newest int
	since  time.Time

	mu      sync.Mutex
	except  []string // its ids, now and before, once they are known
	queue   []frame
	drained chan struct{} // closed when queue becomes empty
	joined  uint64
	inside  bool
	failed  bool
}

var _ replay.Client = (*link)(nil)

// excludes reports whether what is not for a connection is not for this one either,
// as edge has it.
func (l *link) excludes(exclude string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return exclude != "" && (exclude == l.socket || slices.Contains(l.except, exclude))
}

func (l *link) put(f frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.at = time.Now()
	l.queue = append(l.queue, f)
}

// Take implements replay.Client.
func (l *link) Take(p *replay.Part) (taken bool) {
	frames := p.AppendFrames(nil)
	l.client.checkPart(l, p, frames)
	if p.First || p.Outcome.Reason != "" {
		l.put(frame{kind: answerFrame, outcome: p.Outcome, asked: l.want, late: !p.First, sequence: p.End, gone: l.room.w.gone(l.room.ref)})
	}
	for _, text := range frames {
		plain, positioned := text, []byte(nil)
		if l.client.session == "" {
			_, plain, _ = bytes.Cut(text, []byte{'|'})
			positioned = text
		}
		f := frameOf(plain, positioned, l.client.session == "")
		l.put(f)
	}
	if p.Last {
		l.mu.Lock()
		l.joined, l.inside = p.End, true
		l.mu.Unlock()
		if l.client.session != "" {
			l.hold.Joined(l.room.ref.Channel, l.room.ch.Line().At(p.End), p.Outcome.Reason, l.room.ch.Retained())
		}
		l.room.mu.Lock()
		l.room.links = append(l.room.links, l)
		l.room.mu.Unlock()
	}
	if p.Written != nil {
		close(p.Written)
	}
	return true
}

// Drained implements replay.Client.
func (l *link) Drained() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.drained == nil {
		l.drained = make(chan struct{})
	}
	d := l.drained
	l.checkDrainedLocked()
	return d
}

func (l *link) checkDrainedLocked() {
	if len(l.queue) == 0 && l.drained != nil {
		close(l.drained)
		l.drained = nil
	}
}

// next takes a frame off the queue.
func (l *link) next() (f frame, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return frame{}, false
	}
	f, l.queue = l.queue[0], l.queue[1:]
	l.checkDrainedLocked()
	return f, true
}

// run asks for what a client wants, as its connection does.
func (l *link) run(request func(context.Context) (replay.Request, error)) {
	defer close(l.ended)
	r, err := request(l.ctx)
	if err == nil {
		l.want, l.claim = r.Want, r.Claim.Sequence
		l.mu.Lock()
		l.except = r.Except
		l.mu.Unlock()
		if c := replay.NewCatchup(l.room.ch, l, r); !c.Try() {
			err = c.Run(l.ctx)
		}
	}
	if err != nil {
		l.mu.Lock()
		l.failed = true // the server closes the connection
		l.mu.Unlock()
	}
}

// ask puts a ping behind what was sent, which a session's client answers.
func (l *link) ask() {
	l.room.mu.Lock()
	reached := max(l.room.done, l.joined)
	l.room.mu.Unlock()
	l.put(frame{kind: pingFrame, reached: session.Reached{Channel: l.room.ref.Channel, Position: l.room.ch.Line().At(reached)}})
}

func (l *link) String() string { return fmt.Sprintf("%s on %s", l.client.name, l.room.ref.Channel) }

// left is what a client that lost its connection has not read, and whether it had
// joined.
func (l *link) left() (unread int, inside bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue), l.inside
}

func (l *link) isInside() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inside && !l.failed
}

func (l *link) hasFailed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}
