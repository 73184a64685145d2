package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"reecho/broker"
	"reecho/edge/fanout"
	"reecho/edge/limit"
	"reecho/edge/pusher"
	"reecho/replay"
)

const (
	// replayChunk is how many bytes of missed events are given to a connection
	// at once; the next chunk waits until the peer has read them.
	replayChunk = 64 << 10
	// replayPoll and replayPollMax are the pauses between two looks at that, and
	// while this node catches up with what the client has seen elsewhere. They
	// grow, for those who read slowly may be many.
	replayPoll    = 2 * time.Millisecond
	replayPollMax = 100 * time.Millisecond
	// replaySlots, for each shard, is how many chunks are given to the shards
	// at once: live events wait for no more than these.
	replaySlots = 32
)

// resume is a subscription that wants replay, on its way. It is tried under the
// channel's lock, where the ring can serve it; else what is missing is loaded
// without, and it is tried again. Joining and taking the missed events from the
// ring is one critical section, so that each event reaches the client from there
// or live, and none both ways or neither.
type resume struct {
	c      *client
	ch     *channel
	member pusher.Member
	// ask is what the client asked for, nil for a session.
	ask *pusher.Replay
	// confirm makes what tells of the outcome; nil: Pusher's frames.
	confirm Confirm
	// returning: the client was here before and is told what came of it.
	returning bool

	// claim is what the client has, if it says so or the session knows it.
	claim   replay.Claim
	claimed bool
	except  []string
	// last is how many of the newest events are wanted, 0 for none.
	last int
	// reason is why something is missing, once that is known.
	reason replay.Reason

	// from is where the events since a time begin, once loaded. What was loaded
	// of history goes down to lowest.
	from, lowest uint64
	loaded       bool
	beyond       bool // the claim is above all that is retained
	saved        bool // sessions: the mark is in the store
	denied       bool // the past is not read, for want of budget
	read         int  // events of the past that were
	started      bool // the first chunk, with the success, is on its way
}

// newResume makes the subscription of a client that has a session or asked for
// replay; nil for all others.
func (c *client) newResume(ch *channel, member pusher.Member, ask *pusher.Replay) *resume {
	if ask == nil && c.session == nil {
		return nil
	}
	r := &resume{c: c, ch: ch, member: member, ask: ask, saved: true}
	if ask == nil {
		r.saved = false
		return r
	}
	// Its own id too: an event of this connection may have been stored before
	// the subscription came.
	r.last, r.except = ask.Last, append(slices.Clip(ask.Except), c.ID().String())
	if ask.After != "" {
		r.returning = true
		r.claim.Sequence, r.reason = ch.positions.Parse(ask.After)
		r.claimed = r.reason == ""
		if ask.Seen >= 0 {
			r.claim.Confirmed = time.Now().Add(-ask.Seen)
		}
	}
	r.dismissUnretained()
	return r
}

// dismissUnretained gives up on a channel of which nothing is kept.
func (r *resume) dismissUnretained() {
	if r.ch.retained {
		return
	}
	if r.claimed || r.last > 0 || r.wantsSince() {
		r.reason = replay.NotRetained
	}
	r.claimed, r.last = false, 0
}

// fromSession takes the claim from the session, which must be loaded.
func (r *resume) fromSession() {
	m, known, except, reason := r.c.session.claim(r.ch.name)
	if !known {
		return
	}
	r.returning, r.saved, r.except, r.reason = true, true, except, reason
	r.claim.Confirmed = m.confirmed
	if reason == "" {
		r.claim.Sequence, r.reason = r.ch.positions.Parse(m.position())
		r.claimed = r.reason == ""
	}
	r.dismissUnretained()
}

// try subscribes if nothing has to be loaded or waited for. It may be called on
// a poller.
func (r *resume) try() (done bool) {
	if r.ask == nil {
		if !r.c.session.session.isLoaded() {
			return false
		}
		r.fromSession()
	}
	r.ch.mu.Lock()
	defer r.ch.mu.Unlock()
	if r.ch.tail == nil {
		return false
	}
	entries, next := r.nextLocked()
	if next == stepDone {
		r.finishLocked(entries, nil)
	}
	return next == stepDone
}

// step is what a resume has to do next.
type step uint8

const (
	stepDone   step = iota // join
	stepLoad               // the ring does not have what is wanted
	stepSave               // the session has to be saved first
	stepChunks             // there is more than goes out at once
)

// nextLocked is what to do now, with the events to send if that is to join or to
// send chunks.
func (r *resume) nextLocked() ([]replay.Entry, step) {
	ch := r.ch
	switch {
	case !ch.retained:
		return nil, stepDone
	case !ch.ring.Known():
		return nil, stepLoad
	case !r.saved:
		return nil, stepSave
	}
	entries, next := r.entriesLocked()
	if bytesOf(entries) > replayChunk && !ch.kind.Has(pusher.Presence) {
		next = stepChunks
	}
	return entries, next
}

// entriesLocked is what is to be sent from the ring.
func (r *resume) entriesLocked() ([]replay.Entry, step) {
	ring := &r.ch.ring
	switch {
	case r.claimed && r.reason != "":
		return nil, stepDone
	case r.claimed:
		if !r.beyond && !ring.Covers(r.claim.Sequence) {
			return nil, stepLoad
		}
		return r.limited(ring.After(r.claim.Sequence)), stepDone
	case r.last > 0:
		entries := ring.After(ring.Base())
		if len(entries) < r.last && !r.reaches(ring) {
			return nil, stepLoad
		}
		return r.limited(entries[max(0, len(entries)-r.last):]), stepDone
	case r.wantsSince():
		if !r.reaches(ring) {
			return nil, stepLoad
		}
		return r.limited(ring.After(max(r.from, ring.Base()))), stepDone
	}
	return nil, stepDone
}

// reaches reports whether the history that was loaded is in the ring still: it
// may have been evicted.
func (r *resume) reaches(ring *replay.Ring) bool { return r.loaded && ring.Base() <= r.lowest }

func (r *resume) wantsSince() bool { return r.ask != nil && !r.ask.Since.IsZero() && !r.claimed }

// limited keeps what is to be sent within the limits of one replay: of history
// the newest, of what was missed nothing.
func (r *resume) limited(entries []replay.Entry) []replay.Entry {
	if r.started || !r.tooMany(entries) {
		return entries
	}
	r.reason = replay.OverLimit
	if r.claimed {
		return nil
	}
	for r.tooMany(entries) {
		entries = entries[1:]
	}
	return entries
}

func (r *resume) tooMany(entries []replay.Entry) bool {
	limits := &r.c.app.Limits
	return len(entries) > limits.ReplayEvents || bytesOf(entries) > limits.ReplayBytes
}

func bytesOf(entries []replay.Entry) int {
	n := 0
	for i := range entries {
		n += len(entries[i].Frame)
	}
	return n
}

// finishLocked joins with the events given as the rest of the replay, unless the
// channel is full. written, if not nil, is closed when they have gone out.
func (r *resume) finishLocked(entries []replay.Entry, written chan<- struct{}) (joined bool) {
	ch, c := r.ch, r.c
	if refusal := ch.refuseLocked(r.member); refusal != nil {
		c.app.channels.release(ch)
		c.refuse(ch.name, refusal, http.StatusForbidden)
		return false
	}
	head := ch.ring.Pos()
	sub := &subscription{ch: ch, Seat: fanout.Seat{Name: r.member.ID, Positioned: r.ask != nil, Alerts: true, Joined: head}}
	now := time.Now()
	news := ch.enterLocked(r.member, now)
	// A client that came back has the cached event, or gets it again with the
	// rest.
	cached := len(entries) == 0 && !r.started && (!r.returning || r.reason != "")
	frames := r.openingLocked(entries)
	frames = r.appendFramesLocked(frames, entries)
	ch.ringChangedLocked()
	if cached {
		frames = append(frames, ch.afterSuccessLocked())
	}
	ch.group.Join(&c.Member, &sub.Seat, frames, written)
	ch.welcomeLocked(c, sub, news, now)
	if r.ask == nil && (r.reason != "" || !ch.retained) {
		c.session.start(ch.name, r.markLocked(head))
		c.session.sessions.saveSoon(c.session.session)
	}
	c.add(sub)
	return true
}

// markLocked is the session's mark of a client that has everything up to
// sequence.
func (r *resume) markLocked(sequence uint64) mark {
	return mark{prefix: r.ch.positions.Prefix(), sequence: sequence, confirmed: time.Now()}
}

// openingLocked is the success and what tells of the outcome, for the first
// chunk.
func (r *resume) openingLocked(entries []replay.Entry) [][]byte {
	if r.started {
		return nil
	}
	r.started = true
	frames := make([][]byte, 0, len(entries)+3)
	n := r.count(entries)
	if r.ask == nil {
		frames = append(frames, r.ch.successLocked(r.member.ID, ""))
	} else {
		outcome := pusher.Outcome{Events: n, Position: string(r.positionLocked(entries)), Reason: string(r.reason)}
		if r.confirm != nil {
			return append(frames, r.confirm(r.ch.name, outcome, r.returning)...)
		}
		frames = append(frames, r.ch.successLocked(r.member.ID, string(pusher.AppendOutcome(nil, outcome))))
	}
	if r.returning {
		frames = append(frames, r.outcomeFrame(n))
	}
	return frames
}

func (r *resume) outcomeFrame(events int) []byte {
	return textFrame(pusher.AppendResumed(nil, r.ch.name, events, string(r.reason)))
}

// positionLocked is what the client has before entries.
func (r *resume) positionLocked(entries []replay.Entry) []byte {
	sequence := r.ch.ring.Pos()
	switch {
	case r.claimed && r.reason == "":
		sequence = r.claim.Sequence
	case len(entries) > 0:
		sequence = entries[0].Sequence - 1
	}
	return r.ch.positions.Append(nil, sequence)
}

// count is how many of entries are meant for the client.
func (r *resume) count(entries []replay.Entry) int {
	n := 0
	for i := range entries {
		if r.meant(&entries[i]) {
			n++
		}
	}
	return n
}

// meant: an event that was not for a connection the client had is not for the
// one it has now.
func (r *resume) meant(e *replay.Entry) bool {
	return e.Exclude == "" || !slices.Contains(r.except, e.Exclude)
}

// appendFramesLocked appends the frames of entries that are meant for the
// client. The caller calls ringChangedLocked when it is done with entries.
func (r *resume) appendFramesLocked(frames [][]byte, entries []replay.Entry) [][]byte {
	if r.ask != nil {
		r.ch.ring.Position(entries, r.ch.positionedFrame)
	}
	for i := range entries {
		e := &entries[i]
		switch {
		case !r.meant(e):
		case r.ask != nil:
			frames = append(frames, e.Positioned)
		default:
			frames = append(frames, e.Frame)
		}
	}
	return frames
}

// run subscribes, loading what the ring lacks. It runs while the connection's
// reading is paused. What cannot be read is a gap with a reason; a channel or a
// session that cannot be had at all closes the connection, so that the client
// comes back.
func (r *resume) run() {
	ctx, end := r.c.work.begin(r.c.app.channels.hub.ctx)
	defer end()
	err := r.within(ctx, r.prepare)
	if err == nil {
		err = r.work(ctx)
	}
	if err != nil {
		r.c.cannotFollow(r.ch, err)
	}
}

// within bounds one step that waits for the broker.
func (r *resume) within(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	return do(ctx)
}

func (r *resume) prepare(ctx context.Context) error {
	if r.ask == nil {
		if err := r.c.session.sessions.load(ctx, r.c.session.session); err != nil {
			return err
		}
		r.fromSession()
	}
	return r.ch.attach(ctx)
}

func (r *resume) work(ctx context.Context) error {
	for {
		var next step
		err := r.admitted(ctx, func(written chan<- struct{}) (given bool) {
			next, given = r.giveLocked(written)
			return given
		})
		if err != nil {
			return err
		}
		switch next {
		case stepDone:
			return nil
		case stepLoad:
			err = r.loadInTurn(ctx)
		case stepSave:
			err = r.within(ctx, r.save)
		case stepChunks:
			// As slow as the client reads: its write timeout bounds it.
			err = poll(ctx, func() bool { return r.c.Conn().Queued() == 0 })
		}
		if err != nil {
			return err
		}
	}
}

// admitted waits for a slot and calls give with the channel locked. If that
// gives something to the client's shard, it waits until the shard has closed
// written.
func (r *resume) admitted(ctx context.Context, give func(written chan<- struct{}) (given bool)) error {
	slots := r.ch.hub.slots
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return fmt.Errorf("wait for others to be replayed to: %w", ctx.Err())
	}
	written := make(chan struct{})
	r.ch.mu.Lock()
	given := give(written)
	r.ch.mu.Unlock()
	if given {
		select {
		case <-written:
		case <-ctx.Done(): // the shard does it all the same
		}
	}
	return nil
}

// giveLocked gives the shard what can be sent now, and says what was next.
func (r *resume) giveLocked(written chan<- struct{}) (next step, given bool) {
	entries, next := r.nextLocked()
	switch next {
	case stepDone:
		given = r.finishLocked(entries, written)
	case stepChunks:
		r.chunkLocked(entries, written)
		given = true
	case stepLoad, stepSave:
	}
	return next, given
}

// save puts the place where a session begins to follow the channel into the
// store: the success must not be sent before, else a crash would lose what came
// after it.
func (r *resume) save(ctx context.Context) error {
	r.ch.mu.Lock()
	m := r.markLocked(r.ch.ring.Pos())
	r.ch.mu.Unlock()
	sc := r.c.session
	if sc.start(r.ch.name, m) {
		if err := sc.sessions.saveNow(ctx, sc.session); err != nil {
			return err
		}
	}
	// What comes until the client has joined belongs to it.
	r.claim, r.claimed, r.saved = replay.Claim{Sequence: m.sequence, Confirmed: m.confirmed}, true, true
	return nil
}

// chunkLocked gives the first part of entries to the shard.
func (r *resume) chunkLocked(entries []replay.Entry, written chan<- struct{}) {
	frames := r.openingLocked(entries)
	n, bytes := 0, 0
	for n < len(entries) && (n == 0 || bytes+len(entries[n].Frame) <= replayChunk) {
		bytes += len(entries[n].Frame)
		n++
	}
	frames = r.appendFramesLocked(frames, entries[:n])
	// From here on it goes on after what was sent, whatever was asked.
	r.claim.Sequence = entries[n-1].Sequence
	r.ch.ringChangedLocked()
	r.claimed, r.last, r.beyond = true, 0, false
	// A reason was told with the success; what follows now is whole.
	r.reason = ""
	r.c.Answer(frames, written)
}

// poll waits until ready.
func poll(ctx context.Context, ready func() bool) error {
	pause := replayPoll
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for !ready() {
		select {
		case <-timer.C:
			pause = min(2*pause, replayPollMax)
			timer.Reset(pause)
		case <-ctx.Done():
			return fmt.Errorf("wait for the client to read: %w", ctx.Err())
		}
	}
	return nil
}

// loadInTurn loads when it is the turn of the client's address: that is waited
// for in order, for as long as it takes. The turn comes before the lock of the
// channel, or those who have one would wait for those who wait for one. Who comes
// back does not wait for those who want the past.
func (r *resume) loadInTurn(ctx context.Context) error {
	hub, address, n := r.ch.hub, r.c.address, r.wantsPast()
	turns := &hub.replays
	if n > 0 {
		turns = &hub.pasts
	}
	err := turns.Enter(ctx, address, hub.cfg.ReplaysPerAddress, func() {
		hub.cfg.Ledger.Note(limit.Replays, slog.String("app", r.c.app.ID), slog.String("address", address.String()),
			slog.Int("value", hub.cfg.ReplaysPerAddress))
	})
	if err != nil {
		return fmt.Errorf("wait for other replays of the address: %w", err)
	}
	defer turns.Leave(address)
	if ok, err := r.takeBudget(ctx, n); !ok || err != nil {
		return err
	}
	r.read = 0
	err = r.within(ctx, r.load)
	r.c.app.reads.Return(n - r.read)
	return err
}

// load makes the next try come further: it extends the ring, or finds the
// reason why it cannot be.
func (r *resume) load(ctx context.Context) error {
	release, err := r.ch.lockExtending(ctx)
	if err != nil {
		return err
	}
	defer release()
	r.ch.mu.Lock()
	known, base, pos := r.ch.ring.Known(), r.ch.ring.Base(), r.ch.ring.Pos()
	r.ch.mu.Unlock()
	switch {
	case !known:
		return r.ch.findEnd(ctx)
	case r.wantsSince():
		return r.loadSince(ctx, base)
	case r.last > 0:
		return r.loadLast(ctx, base)
	case r.claim.Sequence > pos:
		return r.loadAhead(ctx)
	case r.claim.Sequence < base:
		return r.loadBack(ctx, base)
	}
	return nil // somebody else loaded it meanwhile
}

// gap records why the client does not get everything; errors of reading are
// such a reason too, once the connection has its success.
func (r *resume) gap(reason replay.Reason) {
	r.reason = reason
	if !r.started || reason == "" {
		return
	}
	// Chunks were sent already: what comes next does not follow on them.
	r.c.Reply(r.outcomeFrame(0))
}

// loadBack extends the ring down to the claim and proves that nothing is
// missing.
func (r *resume) loadBack(ctx context.Context, base uint64) error {
	limits := &r.c.app.Limits
	// With the event of the claim itself, which proves most.
	after := r.claim.Sequence - min(r.claim.Sequence, 1)
	events, _, err := r.ch.hub.history.Read(ctx, replay.Range{
		App: r.ch.app.ID, Channel: r.ch.name, After: after, UpTo: base,
		Events: limits.ReplayEvents + 1, Bytes: limits.ReplayBytes + limits.EventDataBytes, Asker: r.asker(),
	})
	switch {
	case isTooLarge(err):
		r.gap(replay.OverLimit)
		return nil
	case err != nil:
		r.unavailable(err)
		return nil
	}
	proof, events, err := r.prove(ctx, events)
	switch {
	case err != nil:
		r.unavailable(err)
		return nil
	case proof.reason != "":
		r.gap(proof.reason)
		return nil
	}
	r.extend(proof, base, events)
	return nil
}

// extend puts the events behind the claim into the ring. What is true of the
// claim for everybody makes the ring reach down to it. What is true for this
// client only, because it was there when nothing was missing, does not: then
// the claim is brought up to where the ring begins.
func (r *resume) extend(proof proof, base uint64, events []broker.Event) {
	after := r.claim.Sequence
	if !proof.shared {
		if after = base; len(events) > 0 {
			after = events[0].Sequence - 1
		}
		r.claim.Sequence = max(r.claim.Sequence, after)
	}
	r.prepend(after, base, events)
}

// proof is whether everything behind a claim is there, and for whom.
type proof struct {
	reason replay.Reason // why not
	shared bool          // for whoever makes the same claim
}

// prove decides whether events, from the claim's own on, are all there were up
// to the ring's. It returns those behind the claim.
func (r *resume) prove(ctx context.Context, events []broker.Event) (proof, []broker.Event, error) {
	if len(events) > 0 && events[0].Sequence == r.claim.Sequence {
		return proof{shared: true}, events[1:], nil
	}
	r.ch.mu.Lock()
	pos := r.ch.ring.Pos()
	here := len(r.ch.ring.After(max(r.claim.Sequence, r.ch.ring.Base())))
	r.ch.mu.Unlock()
	limits := r.ch.limits()
	coming, err := r.ch.coming(ctx, max(pos, r.claim.Sequence), limits.PerChannel)
	if err != nil {
		return proof{}, nil, err
	}
	retained, _, _, err := r.ch.retention(ctx)
	if err != nil {
		return proof{}, nil, err
	}
	retained.Newer = len(events) + here + coming
	now := time.Now()
	return proof{
		reason: replay.Decide(r.claim, retained, limits, now),
		shared: replay.Decide(replay.Claim{Sequence: r.claim.Sequence}, retained, limits, now) == "",
	}, events, nil
}

func (r *resume) prepend(after, upTo uint64, events []broker.Event) {
	entries := make([]replay.Entry, len(events))
	for i := range events {
		entries[i] = replay.Entry{Sequence: events[i].Sequence, Exclude: events[i].Exclude, Frame: textFrame(events[i].Frame)}
	}
	r.ch.mu.Lock()
	if r.ch.ring.Prepend(after, upTo, entries) {
		r.ch.hub.memory.Use(&r.ch.share, r.ch.ring.Bytes())
	}
	r.ch.mu.Unlock()
	// This ring is the warmest now, and the last to go.
	r.ch.hub.memory.Reclaim()
}

// loadAhead handles a claim above what this node has delivered: the event may
// not have come here yet, may be gone, or was never there.
func (r *resume) loadAhead(ctx context.Context) error {
	ch := r.ch
	last, found, err := ch.hub.broker.Last(ctx, ch.app.ID, ch.name)
	if err != nil {
		r.unavailable(err)
		return nil
	}
	if found && last.Sequence >= r.claim.Sequence {
		ch.tail.Nudge(last.Sequence)
		return poll(ctx, func() bool { return ch.position() >= r.claim.Sequence })
	}
	state, err := ch.hub.broker.State(ctx, ch.app.ID, ch.name)
	if err != nil {
		r.unavailable(err)
		return nil
	}
	if state.Last < r.claim.Sequence {
		r.gap(replay.UnknownPosition)
		return nil
	}
	proof, _, err := r.prove(ctx, nil)
	if err != nil {
		r.unavailable(err)
		return nil
	}
	r.beyond = true
	r.gap(proof.reason)
	return nil
}

// unavailable makes it a gap that the stream could not be read.
func (r *resume) unavailable(err error) {
	if r.c.work.stopped() {
		return // its end is the error
	}
	r.ch.hub.lines.Warn("cannot read missed events", slog.String("app", r.ch.app.ID),
		slog.String("channel", r.ch.name), slog.Any("error", err))
	r.gap(replay.Unavailable)
}

func isTooLarge(err error) bool { return errors.Is(err, replay.ErrRangeTooLarge) }
