package replay_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"reecho/broker"
	"reecho/replay"
	"reecho/replay/session"
)

// client is somebody who wants one channel, and comes back. One with a session is
// a stock client, of which only the server knows how far it is; the others keep
// positions, as the plugin does.
type client struct {
	w       *world
	name    string
	session string // "": it keeps positions
	room    int
	link    *link // nil: away
	sockets []string

	// What it knows itself: its position, how many missed events are still to
	// come, and when it was last whole.
	position string
	missed   int
	seen     time.Time // zero: never
	before   time.Time // seen of the connection before, while events are missing

	// What the test knows.
	epoch   int
	have    uint64 // the newest it got, or did not want
	excused uint64 // up to here it was told of a gap
	broken  int    // connections that broke within the answer, in a row
	// sure are those of a session's socket ids that were stored: a node may have
	// been killed before. Guarded by w.mu.
	sure map[string]bool
}

func newClient(w *world, i int) *client {
	c := &client{w: w, name: fmt.Sprintf("client %d", i), room: i % len(refs), epoch: -1, sure: make(map[string]bool)}
	if i%2 == 1 {
		c.session = fmt.Sprintf("session-of-client-%d", i)
	}
	return c
}

func (c *client) fail(format string, args ...any) {
	c.w.t.Helper()
	c.w.t.Fatalf("%s: %s\n%s", c.name, fmt.Sprintf(format, args...), c.w.story(refs[c.room], c))
}

// socket is the socket id of the client's connection, or of its last one.
func (c *client) socket() string {
	if len(c.sockets) == 0 {
		return ""
	}
	return c.sockets[len(c.sockets)-1]
}

// meant: what was not for a connection that it had is not owed.
func (c *client) meant(exclude string) bool {
	return exclude == "" || !slices.Contains(c.sockets, exclude)
}

func (c *client) beSure(socket string) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.sure[socket] = true
}

// forgotten: what was known of a session is not, but for the connection that tells.
func (c *client) forgotten() {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	maps.DeleteFunc(c.sure, func(socket string, _ bool) bool { return socket != c.socket() })
}

// excludes reports whether an event that is not for a connection must not be sent.
func (c *client) excludes(exclude string) bool {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return !c.meant(exclude) && (c.session == "" || c.sure[exclude])
}

// except are the ids that it names, of a bounded number, as the plugin does.
func (c *client) except() []string { return c.sockets[max(0, len(c.sockets)-32):] }

// join connects the client unless it is.
func (c *client) join() {
	if c.link != nil {
		return
	}
	w := c.w
	c.sockets = append(c.sockets, fmt.Sprintf("%d.%d", len(c.sockets), w.rng.IntN(1e9)))
	l := &link{client: c, room: w.rooms[c.room], socket: c.socket(), ended: make(chan struct{})}
	l.ctx, l.cut = context.WithCancel(context.Background())
	c.link = l
	if c.session == "" {
		r := c.request()
		l.newest, l.since = r.Newest, r.Since
		go l.run(func(context.Context) (replay.Request, error) { return r, nil })
		return
	}
	if err := w.sessions.Claim(&l.hold, session.Who{App: app, ID: c.session, Socket: l.socket}, quiet{}); err != nil {
		c.fail("claim its session: %v", err)
	}
	w.count("sessions")
	go l.run(func(ctx context.Context) (replay.Request, error) {
		failed := w.failed.Load()
		if err := l.hold.Load(ctx); err != nil {
			return replay.Request{}, err
		}
		r, returning := l.hold.Request(l.room.ref.Channel, l.room.ch.Line())
		if returning && failed == w.failed.Load() {
			c.beSure(l.socket)
		}
		if begin := r.Begin; begin != nil {
			r.Begin = func(ctx context.Context, at replay.Position) error {
				err := begin(ctx, at)
				if err == nil {
					c.beSure(l.socket)
				}
				return err
			}
		}
		return r, nil
	})
}

// quiet is a connection that does not answer when it is asked.
type quiet struct{}

// Ask implements session.Connection.
func (quiet) Ask() {}

// TakenOver implements session.Connection.
func (quiet) TakenOver() {}

// request is what a client that keeps positions asks for.
func (c *client) request() replay.Request {
	w := c.w
	if c.position != "" {
		seen := c.seen
		if c.missed > 0 {
			seen = c.before
		}
		if w.rng.IntN(5) == 0 {
			seen = time.Time{} // it does not say
		}
		r := w.rooms[c.room].ch.After(c.position, seen)
		r.Positions, r.Except = true, c.except()
		return r
	}
	r := replay.Request{Positions: true, Except: c.except()}
	if w.rng.IntN(4) == 0 {
		r.Turn = func(_ context.Context, past int) (end func(int), denied bool, err error) {
			return func(int) {}, past > 0, nil
		}
	}
	switch w.rng.IntN(3) {
	case 0:
		r.Want, r.Newest = replay.WantNewest, 1+w.rng.IntN(50)
		w.count("newest")
	case 1:
		r.Want, r.Since = replay.WantSince, time.Now().Add(-time.Duration(w.rng.Int64N(int64(2*w.log.Retention.MaxAge))))
		if w.count("since"); w.rng.IntN(2) == 0 {
			r.Newest = 1 + w.rng.IntN(50)
			w.count("since and newest")
		}
	}
	return r
}

// checkPart checks a part of an answer against the log, of which nothing changes
// meanwhile.
func (c *client) checkPart(l *link, p *replay.Part, frames [][]byte) {
	w, ref := c.w, l.room.ref
	w.tell(ref, c, "takes %d, first %v, last %v, %v, end %d, for %v of %d", p.Len(), p.First, p.Last, p.Outcome, p.End, l.want, l.claim)
	if !p.Last {
		w.count("parts")
	}
	if !p.First {
		return
	}
	retained := w.log.Retained(ref)
	retained = slices.DeleteFunc(retained, func(e broker.Event) bool { return e.Sequence > p.End })
	if p.Last && p.Outcome.Events != len(frames) {
		w.t.Errorf("%s: told of %d events, got %d", l, p.Outcome.Events, len(frames))
	}
	switch {
	case l.want == replay.WantNewest && p.Last && p.Outcome.Reason == "" && p.Len() < min(l.newest, len(retained)):
		w.t.Errorf("%s: got %d of the newest %d, %d are retained, and was not told of a gap", l, p.Len(), l.newest, len(retained))
	case l.want == replay.WantMissed && p.Outcome.Reason != "" && p.Outcome.Reason != replay.Unavailable:
		c.checkReason(l, p, retained)
	}
}

// lose breaks the connection: what the client has not read is lost.
func (c *client) lose() {
	l := c.link
	if l == nil {
		return
	}
	c.link = nil
	l.cut()
	<-l.ended
	l.room.leave(l)
	if c.session != "" {
		l.hold.Release(time.Now())
	}
	unread, inside := l.left()
	c.w.tell(l.room.ref, c, "lost, %d unread", unread)
	if unread > 0 && c.missed > 0 || !inside {
		if c.broken++; c.broken == 2 {
			c.w.count("twice broken")
		}
	} else {
		c.broken = 0
	}
}

// readAll reads what is there, and what comes of that.
func (c *client) readAll() {
	for c.link != nil && c.read(1) {
	}
	if l := c.link; l != nil && c.session != "" && l.isInside() {
		l.ask()
		c.read(1 << 20)
	}
}

// read reads up to n frames, and reports whether there were any.
func (c *client) read(n int) (any bool) {
	l := c.link
	if l == nil {
		return false
	}
	if l.hasFailed() {
		c.lose()
		return false
	}
	for range n {
		f, ok := l.next()
		if !ok {
			return any
		}
		any = true
		c.handle(l, f)
	}
	return any
}

func (c *client) handle(l *link, f frame) {
	c.w.tell(l.room.ref, c, "reads %v", f)
	switch f.kind {
	case answerFrame:
		c.answer(l, f)
	case eventFrame:
		c.receive(l, f)
	case gapFrame:
		c.excused = max(c.excused, f.sequence)
	case pingFrame:
		l.hold.Confirm([]session.Reached{f.reached}, f.at)
	}
	if c.missed == 0 {
		c.seen = time.Now()
	}
}

// answer takes what the client is told of its request.
func (c *client) answer(l *link, f frame) {
	if f.late {
		c.w.count("gaps")
		c.excused, c.missed = f.sequence, 0
		return
	}
	o, epoch := f.outcome, c.w.log.Epoch()
	at := o.Position.Sequence
	switch {
	case o.Reason != "":
		c.w.count("gaps")
		if o.Reason == replay.SessionExpired {
			c.forgotten()
		}
		// What was gone then is what it was told of, also what this node never
		// had, and does not know to be behind the position.
		c.have, c.excused = at, max(at, f.gone)
	case f.asked == replay.WantMissed && c.epoch == epoch:
		c.w.count("whole")
		c.checkNothing(l, at, "was taken for nothing")
		// What a session has not confirmed comes again.
		c.have = at
	case f.asked == replay.WantMissed && c.epoch >= 0:
		c.fail("is told that it missed nothing, in another epoch")
	// Where nothing is kept its place is stored a moment after it has joined.
	case c.session != "" && c.epoch > 0:
		c.fail("is taken for new, and told nothing")
	default:
		c.checkSince(l, at)
		c.have, c.excused = at, at
		if epoch == 0 {
			c.excused = f.gone // of before, of which nothing is kept now
		}
	}
	c.epoch = epoch
	if c.session == "" {
		c.before, c.position, c.missed = c.seen, o.Position.String(), o.Events
	}
}

// receive checks that a client gets the next event that there is for it.
func (c *client) receive(l *link, f frame) {
	if f.sequence <= c.have {
		c.fail("%d again, after %d", f.sequence, c.have)
	}
	c.checkNothing(l, f.sequence-1, fmt.Sprintf("was not delivered before %d, and no gap told", f.sequence))
	for _, s := range c.w.all(l.room.ref) {
		if s.sequence == f.sequence && s.exclude != "" && (s.exclude == l.socket || c.excludes(s.exclude)) {
			c.fail("%d was not meant for it", s.sequence)
		}
	}
	c.have = f.sequence
	if c.session == "" {
		c.position, c.missed = f.position, max(0, c.missed-1)
	}
}

// checkNothing makes sure that nothing is owed up to a sequence.
func (c *client) checkNothing(l *link, upTo uint64, what string) {
	for _, s := range c.w.all(l.room.ref) {
		if s.sequence > max(c.have, c.excused) && s.sequence <= upTo && c.meant(s.exclude) {
			c.fail("%d %s (had %d, told up to %d)", s.sequence, what, c.have, c.excused)
		}
	}
}

// checkSince makes sure that nothing that was asked for lies before what comes.
func (c *client) checkSince(l *link, at uint64) {
	if l.since.IsZero() {
		return
	}
	for _, s := range c.w.all(l.room.ref) {
		if !s.at.Before(l.since) && s.sequence <= at && c.meant(s.exclude) {
			c.fail("%d is younger than what was asked for, and is not sent: it begins after %d", s.sequence, at)
		}
	}
}

// checkReason makes sure that a gap is not told of where the event of the claim is
// still there, and nothing behind it is too much.
func (c *client) checkReason(l *link, p *replay.Part, retained []broker.Event) {
	if p.Outcome.Reason == replay.SessionExpired || l.claim == 0 || len(retained) == 0 || retained[0].Sequence != l.claim {
		return
	}
	if c.w.fits(retained[1:]) {
		c.w.t.Errorf("%s: %s though the event itself, %d, is there and %d are newer", l, p.Outcome.Reason, l.claim, len(retained)-1)
	}
}

// fits reports whether events are within the bounds of one replay.
func (w *world) fits(events []broker.Event) bool {
	size := 0
	for i := range events {
		size += len(events[i].Frame)
	}
	return len(events) <= w.bounds.Events && size <= w.bounds.Bytes
}

// flap is a connection that breaks again and again, on a channel where nothing
// happens but what the client itself said.
func (c *client) flap() {
	if c.link == nil || !c.link.isInside() {
		return
	}
	c.w.count("flapping")
	c.w.publishFor(c.socket(), refs[c.room], true)
	for range 8 + c.w.rng.IntN(8) {
		c.w.pass(time.Second)
		c.lose()
		c.join()
	}
}

// visit is a stay on another node, which has all there is.
func (c *client) visit() {
	all := c.w.all(refs[c.room])
	if c.link != nil || c.session != "" || c.position == "" || c.epoch != c.w.log.Epoch() || c.w.log.Retention.Off || len(all) == 0 {
		return
	}
	last := all[len(all)-1].sequence
	if last <= c.have {
		return
	}
	c.w.count("ahead")
	c.have, c.missed, c.seen = last, 0, time.Now()
	c.position = c.w.rooms[c.room].ch.Line().At(last).String()
	if c.w.rng.IntN(3) == 0 {
		c.w.cutShare(1000) // what it had there is gone
	}
}

// checkWhole makes sure that a client that is there has everything, or was told.
func (c *client) checkWhole() {
	if c.link == nil || !c.link.isInside() {
		c.fail("is not there in the end")
	}
	c.checkNothing(c.link, 1<<62, "never came")
}
