package replay

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

// partBytes is how much of an answer is given to a client at once; the next part
// waits until the peer has read it.
const partBytes = 64 << 10

// Want is what of a channel's past a client wants.
type Want uint8

// The kinds of Request.
const (
	WantNothing Want = iota // events from now on
	WantMissed              // everything behind Claim, or to be told of a gap
	WantNewest              // the Newest events
	WantSince               // the events stored since Since, and the Newest if those are more
)

// Request is what a client asks for when it joins a channel.
type Request struct {
	Want   Want
	Claim  Claim
	Newest int
	Since  time.Time
	// Lost is why what the client has says nothing here, with WantNothing; it
	// becomes the outcome's reason.
	Lost Reason
	// Except are the socket ids of the client: events that were not meant for
	// them are not sent.
	Except []string
	// Positions: the client wants frames with positions.
	Positions bool
	// Asker is who takes turns with others when events are read.
	Asker netip.Addr
	// Turn, if not nil, is waited for before something is read from the log.
	// past is how many events may be read for a client that wants the past, 0 for
	// one that comes back. end is called with how many were. If denied the past
	// is not read, which is a gap, and there is nothing to end. An error ends the
	// request.
	Turn func(ctx context.Context, past int) (end func(read int), denied bool, err error)
	// Begin, if not nil, is called before a client that wants nothing of before
	// joins, with the position from which on what comes belongs to it, and
	// without a lock. An error ends the request.
	Begin func(ctx context.Context, at Position) error
}

// Outcome is what a client is told of its request.
type Outcome struct {
	// Events is how many follow.
	Events int
	// Position is what the client has before they follow. If none follow, what
	// was not meant for it is behind it.
	Position Position
	// Reason is why something is missing, "" if nothing is.
	Reason Reason
}

// Client is who makes a Request.
type Client interface {
	// Take gives the client the next part of the answer, with the channel
	// locked: it must not block and must not call the Channel. With the Last
	// part the client joins the channel's audience. It reports false if the
	// client cannot have the part, which ends the request. The part is valid
	// until Take returns.
	Take(p *Part) (taken bool)
	// Drained is closed when the peer has read what was taken, or is gone.
	Drained() <-chan struct{}
}

// Part is a part of an answer.
type Part struct {
	// First: nothing was given before. Outcome is of the whole answer then;
	// later it is zero, but for the Reason of a gap that opened meanwhile.
	First   bool
	Outcome Outcome
	// Last: nothing more is given. End is the sequence up to which the client
	// has then got what it will get; what comes later is delivered to it.
	Last bool
	End  uint64
	// Written, if not nil, is to be closed when the part was given to the
	// connection.
	Written chan<- struct{}

	catchup *Catchup
	entries []Entry
}

// Len is how many events there are, those not meant for the client included.
func (p *Part) Len() int { return len(p.entries) }

// Reached is the sequence up to which the client has got what it will get, with
// this part.
func (p *Part) Reached() uint64 {
	if n := len(p.entries); n > 0 && !p.Last {
		return p.entries[n-1].Sequence
	}
	return p.End
}

// AppendFrames appends the frames of the events that are meant for the client.
// The frames may be kept.
func (p *Part) AppendFrames(dst [][]byte) [][]byte {
	c := p.catchup
	if c.req.Positions {
		c.ch.ring.Position(p.entries, c.ch.position)
	}
	for i := range p.entries {
		e := &p.entries[i]
		switch {
		case !c.meant(e):
		case c.req.Positions:
			dst = append(dst, e.Positioned)
		default:
			dst = append(dst, e.Frame)
		}
	}
	return dst
}

// Catchup serves one Request. It is tried under the channel's lock, where the
// ring can serve it; else what is missing is loaded without (load.go), and it is
// tried again. Joining and taking the missed events from the ring is one critical
// section, so that each event reaches the client from there or live, and none
// both ways or neither. It is for one goroutine at a time.
type Catchup struct {
	ch     *Channel
	client Client
	req    Request
	// reason is why something is missing, once that is known and until it is
	// told.
	reason Reason
	told   bool // the first part is given, with the outcome
	// ahead is when the claim was first seen to be above what this node has.
	ahead time.Time
	part  Part // the newest
	line  string

	past past // WantNewest and WantSince
	// coming is the sequence of an event that is in the log and on its way here;
	// WantMissed waits for it if the claim is above all that is here.
	coming uint64
}

// NewCatchup makes the request of a client of ch.
func NewCatchup(ch *Channel, client Client, req Request) *Catchup {
	c := &Catchup{ch: ch, client: client, req: req, reason: req.Lost, line: ch.Line().text}
	if !ch.kept {
		if req.Want != WantNothing {
			c.reason = NotRetained
		}
		c.req.Want = WantNothing
	}
	return c
}

// Try serves the request if nothing has to be loaded or waited for, and reports
// whether it did. It does not block.
func (c *Catchup) Try() (done bool) {
	if !c.ch.Attached() {
		return false
	}
	c.ch.locked(func() {
		entries, next := c.nextLocked()
		if done = next == stepJoin; done {
			c.giveLocked(entries, len(entries), nil)
		}
	})
	return done
}

// Run serves the request. What cannot be read is a gap with a reason. The error
// is that the channel cannot be followed, that the log does not answer where it
// ends, that Turn or Begin failed, or the context's; the client has not joined
// then.
func (c *Catchup) Run(ctx context.Context) error {
	if err := within(ctx, c.ch.Attach); err != nil {
		return err
	}
	for {
		var next step
		err := c.ch.node.inSlot(ctx, func(written chan<- struct{}) (given bool) {
			c.ch.locked(func() { next, given = c.nextPartLocked(written) })
			return given
		})
		if err == nil && next != stepJoin {
			err = c.prepare(ctx, next)
		}
		if err != nil || next == stepJoin {
			return err
		}
	}
}

// step is what a request has to do next.
type step uint8

const (
	stepJoin  step = iota // give the rest
	stepPart              // there is more than goes out at once: give a part of it, and wait
	stepLoad              // the ring does not have what is wanted
	stepAwait             // what is stored is not here yet
	stepBegin             // somebody has to know before where the client begins
)

// nextPartLocked gives the client what it can have now, and says what was next:
// stepJoin also if the client did not take it, which ends the request.
func (c *Catchup) nextPartLocked(written chan<- struct{}) (next step, given bool) {
	entries, next := c.nextLocked()
	switch next {
	case stepJoin:
		return next, c.giveLocked(entries, len(entries), written)
	case stepPart:
		if given = c.giveLocked(entries, partOf(entries), written); !given {
			next = stepJoin
		}
		return next, given
	case stepLoad, stepAwait, stepBegin:
	}
	return next, false
}

// prepare does what a step needs, without the channel locked.
func (c *Catchup) prepare(ctx context.Context, next step) error {
	switch next {
	case stepLoad:
		return c.load(ctx)
	case stepAwait:
		return within(ctx, func(ctx context.Context) error {
			return c.ch.await(ctx, func() bool { return c.ch.sequencer.End() >= c.coming })
		})
	case stepBegin:
		return within(ctx, c.begin)
	case stepPart:
		// As slow as the client reads: its write timeout bounds it.
		select {
		case <-c.client.Drained():
		case <-ctx.Done():
			return waited(ctx, "for the client to read")
		}
	case stepJoin:
	}
	return nil
}

// within bounds one step that waits for the log.
func within(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return do(ctx)
}

// nextLocked is what to do now, with the events to send if that is to join or to
// send a part of them.
func (c *Catchup) nextLocked() ([]Entry, step) {
	c.followLocked()
	switch {
	case !c.ch.kept:
		return nil, stepJoin
	case !c.ch.ring.Known():
		return nil, stepLoad
	case c.req.Begin != nil && c.req.Want == WantNothing && c.reason == "":
		return nil, stepBegin
	}
	entries, next := c.entriesLocked()
	if next == stepJoin && bytesOf(entries) > partBytes {
		next = stepPart
	}
	return entries, next
}

// entriesLocked is what is to be sent from the ring, if that has it.
func (c *Catchup) entriesLocked() ([]Entry, step) {
	ring := &c.ch.ring
	switch c.req.Want {
	case WantMissed:
		return c.missedLocked()
	case WantNewest:
		entries := ring.All()
		if len(entries) < c.req.Newest && !c.past.reaches(ring) {
			return nil, stepLoad
		}
		return c.limited(entries[max(0, len(entries)-c.req.Newest):]), stepJoin
	case WantSince:
		if !c.past.reaches(ring) {
			return nil, stepLoad
		}
		return c.sinceLocked(), stepJoin
	case WantNothing:
	}
	return nil, stepJoin
}

func (c *Catchup) missedLocked() ([]Entry, step) {
	end, at := c.ch.sequencer.End(), c.req.Claim.Sequence
	switch {
	case c.reason != "":
		return nil, stepJoin // a gap: nothing of what was missed is sent
	case at < c.ch.unsettled:
		return nil, stepLoad
	case c.ch.ring.Covers(at, end):
		return c.limited(c.ch.ring.After(at)), stepJoin
	case c.coming > end:
		return nil, stepAwait
	}
	return nil, stepLoad
}

// sinceLocked is what came since a time, within the bounds, and before it as many
// of the newest as are wanted and as there is room for.
func (c *Catchup) sinceLocked() []Entry {
	all := c.ch.ring.All()
	since := c.limited(c.ch.ring.After(max(c.past.from, c.ch.ring.Base())))
	newest := all[max(0, len(all)-c.req.Newest):]
	for len(newest) > len(since) && c.tooMany(newest) {
		newest = newest[1:]
	}
	if len(newest) > len(since) {
		return newest
	}
	return since
}

// limited keeps what is to be sent within the bounds of one replay: of the past
// the newest, of what was missed nothing.
func (c *Catchup) limited(entries []Entry) []Entry {
	if c.told || !c.tooMany(entries) {
		return entries
	}
	c.reason = OverLimit
	if c.req.Want == WantMissed {
		return nil
	}
	for c.tooMany(entries) {
		entries = entries[1:]
	}
	return entries
}

func (c *Catchup) tooMany(entries []Entry) bool {
	return len(entries) > c.ch.bounds.Events || bytesOf(entries) > c.ch.bounds.Bytes
}

func bytesOf(entries []Entry) int {
	n := 0
	for i := range entries {
		n += len(entries[i].Frame)
	}
	return n
}

// partOf is how many of entries go out at once, one at least.
func partOf(entries []Entry) int {
	n, bytes := 1, len(entries[0].Frame)
	for n < len(entries) && bytes+len(entries[n].Frame) <= partBytes {
		bytes += len(entries[n].Frame)
		n++
	}
	return n
}

// giveLocked gives the client the first n of what is to be sent: a part, or the
// rest, with which it joins. It reports whether the client took it.
func (c *Catchup) giveLocked(entries []Entry, n int, written chan<- struct{}) (given bool) {
	p := &c.part
	*p = Part{
		First: !c.told, Outcome: Outcome{Reason: c.reason}, Last: n == len(entries), End: c.ch.sequencer.End(),
		Written: written, catchup: c, entries: entries[:n],
	}
	if p.First {
		p.Outcome.Events = c.count(entries)
		p.Outcome.Position = c.positionLocked(entries, p.Outcome.Events)
	}
	taken := c.client.Take(p)
	p.entries = nil // the ring's
	if !p.Last {
		// From here on it goes on after what was sent, whatever was asked, and
		// what follows is whole.
		c.req.Want, c.req.Claim.Sequence = WantMissed, entries[n-1].Sequence
		c.reason, c.told = "", true
	}
	// Their positions may have been made.
	c.ch.trimLocked()
	return taken
}

// positionLocked is what the client has before entries, of which so many are meant
// for it.
func (c *Catchup) positionLocked(entries []Entry, meant int) Position {
	switch {
	case c.req.Want == WantMissed && c.reason == "" && meant > 0:
		return c.ch.Line().At(c.req.Claim.Sequence)
	case c.req.Want == WantMissed && c.reason == "":
		return c.ch.Line().At(max(c.req.Claim.Sequence, c.ch.sequencer.End()))
	case meant > 0:
		return c.ch.Line().At(entries[0].Sequence - 1)
	}
	return c.ch.Line().At(c.ch.sequencer.End())
}

// count is how many of entries are meant for the client.
func (c *Catchup) count(entries []Entry) int {
	n := 0
	for i := range entries {
		if c.meant(&entries[i]) {
			n++
		}
	}
	return n
}

// meant: an event that was not for a connection the client had is not for the
// one it has now.
func (c *Catchup) meant(e *Entry) bool {
	return e.Exclude == "" || !slices.Contains(c.req.Except, e.Exclude)
}

// begin tells where the client begins.
func (c *Catchup) begin(ctx context.Context) error {
	var at uint64
	c.ch.locked(func() { at = c.ch.sequencer.End() })
	now := time.Now()
	if err := c.req.Begin(ctx, c.ch.Line().At(at)); err != nil {
		return err
	}
	// What comes until the client has joined belongs to it.
	c.req.Want, c.req.Claim = WantMissed, Claim{Sequence: at, Confirmed: now, Own: true}
	return nil
}
