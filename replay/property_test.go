package replay

import (
	"math/rand/v2"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest/seed"
)

// world is a stream, a node that follows one channel of it, and clients that
// come and go: everything of replay but its locks and its transport. Time is a
// number that the test moves.
type world struct {
	t      *testing.T
	rng    *rand.Rand
	limits Limits
	now    time.Time

	epoch  int
	next   uint64       // the next sequence
	stream []worldEvent // retained
	bytes  int64        // of them
	stored []uint64     // all there ever were of the channel in this epoch

	log     Log
	ring    Ring
	whole   time.Time
	swept   time.Time
	clients []*worldClient

	replays, gaps, doubts int
}

type worldEvent struct {
	sequence uint64
	ours     bool
	at       time.Time
	size     int64
}

type worldClient struct {
	connected bool
	epoch     int
	have      uint64 // the newest it got, or did not want
	excused   uint64 // up to here it was told of a gap
	confirmed time.Time
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 7))
	w := &world{
		t: t, rng: rng, now: time.Unix(1e9, 0),
		limits: Limits{PerChannel: 3 + rng.IntN(30), MaxAge: time.Duration(1+rng.IntN(30)) * time.Minute, MaxBytes: int64(500 + rng.IntN(5000)), Events: 2 + rng.IntN(40), Bytes: 1 << 30},
	}
	w.begin()
	for range 4 {
		w.clients = append(w.clients, &worldClient{})
	}
	return w
}

// begin starts an empty stream, and a node that knows nothing.
func (w *world) begin() {
	w.epoch++
	w.next, w.stream, w.bytes, w.stored = 1, nil, 0, nil
	w.restartNode()
}

func (w *world) restartNode() {
	for _, c := range w.clients {
		c.connected = false
	}
	w.log = Log{}
	last := uint64(0)
	for _, e := range w.stream {
		if e.ours {
			last = e.sequence
		}
	}
	w.log.Attach(last)
	w.ring.Start(last)
	w.whole, w.swept = w.now, w.now
}

// store adds an event and returns the one before it on the channel that is
// retained.
func (w *world) store(ours bool) (previous uint64) {
	for _, e := range w.stream {
		if e.ours && ours {
			previous = e.sequence
		}
	}
	e := worldEvent{sequence: w.next, ours: ours, at: w.now, size: int64(20 + w.rng.IntN(200))}
	w.next++
	w.stream = append(w.stream, e)
	w.bytes += e.size
	if ours {
		w.stored = append(w.stored, e.sequence)
	}
	w.trim()
	return previous
}

func (w *world) trim() {
	count := 0
	for i := len(w.stream) - 1; i >= 0; i-- {
		if !w.stream[i].ours {
			continue
		}
		if count++; count > w.limits.PerChannel {
			w.remove(i)
		}
	}
	for len(w.stream) > 0 && (w.bytes > w.limits.MaxBytes || w.now.Sub(w.stream[0].at) > w.limits.MaxAge) {
		w.remove(0)
	}
}

func (w *world) remove(i int) {
	w.bytes -= w.stream[i].size
	w.stream = append(w.stream[:i:i], w.stream[i+1:]...)
}

// publish stores an event and gives it to the node, unless it is lost on the
// way.
func (w *world) publish(ours bool) {
	previous := w.store(ours)
	if !ours || w.rng.IntN(10) == 0 {
		return
	}
	ev := broker.Event{Sequence: w.next - 1, Previous: previous}
	if w.log.Opens(&ev) {
		// The tail asks at its next sweep; here the answer comes at once.
		if Decide(Claim{Confirmed: w.whole.Add(confirmSlack)}, w.retained(0), w.unlimited(), w.now) != "" {
			w.gapToAll(0)
		}
	}
	if w.log.Live(&ev) {
		w.deliver(ev.Sequence)
		w.drain()
	} else if w.log.Missing() && w.rng.IntN(3) > 0 {
		w.fill()
	}
}

func (w *world) drain() {
	for ev, ok := w.log.Next(); ok; ev, ok = w.log.Next() {
		w.deliver(ev.Sequence)
	}
}

// fill is what Tail does.
func (w *world) fill() {
	pos := w.log.Position()
	newer := w.between(pos, ^uint64(0))
	count := len(newer)
	if count > 0 && w.log.Begins(newer[0]) {
		count = 0
	}
	if reason := Decide(Claim{Sequence: pos, Confirmed: w.whole.Add(confirmSlack)}, w.retained(count), w.unlimited(), w.now); reason != "" {
		w.gapToAll(pos)
	}
	for _, s := range newer {
		if w.log.Stored(&broker.Event{Sequence: s}) {
			w.deliver(s)
		}
	}
	w.drain()
	if w.log.Missing() {
		w.gapToAll(w.log.Position())
	}
	for ev, ok := w.log.Abandon(); w.log.Missing() || ok; ev, ok = w.log.Abandon() {
		if ok {
			w.deliver(ev.Sequence)
		}
	}
}

// gapToAll is the channel's Gap.
func (w *world) gapToAll(pos uint64) {
	for _, c := range w.clients {
		if c.connected {
			c.have = max(c.have, pos)
			w.gapTo(c)
		}
	}
	w.ring.Break()
}

func (w *world) unlimited() Limits {
	l := w.limits
	l.Events = 1 << 30
	return l
}

// gapTo tells a connected client of a gap.
func (w *world) gapTo(c *worldClient) {
	w.gaps++
	w.excuse(c)
}

// excuse says that what was stored so far and is gone is not owed.
func (w *world) excuse(c *worldClient) {
	for _, s := range w.stored {
		if !w.isRetained(s) {
			c.excused = max(c.excused, s)
		}
	}
}

func (w *world) isRetained(s uint64) bool {
	for _, e := range w.stream {
		if e.sequence == s {
			return true
		}
	}
	return false
}

// between is the retained events of the channel above after and up to upTo.
func (w *world) between(after, upTo uint64) (sequences []uint64) {
	for _, e := range w.stream {
		if e.ours && e.sequence > after && e.sequence <= upTo {
			sequences = append(sequences, e.sequence)
		}
	}
	return sequences
}

func (w *world) retained(newer int) Retained {
	r := Retained{Newer: newer, StreamFirst: w.next, StreamBytes: w.bytes}
	for i := len(w.stream) - 1; i >= 0; i-- {
		r.StreamFirst, r.StreamFirstTime = w.stream[i].sequence, w.stream[i].at
		if w.stream[i].ours {
			r.First = w.stream[i].sequence
		}
	}
	return r
}

// deliver is the channel's Deliver.
func (w *world) deliver(sequence uint64) {
	w.ring.Append(Entry{Sequence: sequence})
	w.ring.Trim(w.limits.Events, 1<<30)
	for _, c := range w.clients {
		if c.connected {
			w.receive(c, sequence)
		}
	}
}

// receive checks that a client gets the next event that there is.
func (w *world) receive(c *worldClient, sequence uint64) {
	if sequence <= c.have {
		w.t.Fatalf("%d again, after %d", sequence, c.have)
	}
	for _, s := range w.stored {
		if s > max(c.have, c.excused) && s < sequence {
			w.t.Fatalf("%d was not delivered before %d, and no gap told (had %d)", s, sequence, c.have)
		}
	}
	c.have = sequence
}

// sweep compares the node with the stream.
func (w *world) sweep() {
	w.swept = w.now
	last := uint64(0)
	for _, s := range w.between(0, ^uint64(0)) {
		last = s
	}
	pos := w.log.Position()
	if last < pos || pos == 0 && last == 0 {
		if reason := Decide(Claim{Sequence: pos, Confirmed: w.whole.Add(confirmSlack)}, w.retained(0), w.unlimited(), w.now); reason != "" {
			w.gapToAll(pos)
		}
	}
	w.log.Nudge(last)
	if w.log.Missing() {
		w.fill()
	}
	w.whole = w.now
}

// pass lets time pass; clients that are there say so, the node sweeps in time.
func (w *world) pass(d time.Duration) {
	for d > 0 {
		step := min(d, DefaultSweep/2)
		d -= step
		w.now = w.now.Add(step)
		w.trim()
		if w.now.Sub(w.swept) >= DefaultSweep/2 {
			w.sweep()
		}
		for _, c := range w.clients {
			if c.connected {
				c.confirmed = w.now
			}
		}
	}
}

// join connects a client: with what it has, if it has anything.
func (w *world) join(c *worldClient) {
	if !w.ring.Known() {
		w.findEnd()
	}
	if c.epoch != w.epoch {
		w.gaps++
		w.enter(c)
		return
	}
	had := c.have
	if !w.ring.Covers(c.have) && !w.extend(c) {
		w.enter(c)
		return
	}
	entries := w.ring.After(c.have)
	for _, s := range w.stored {
		if s > max(had, c.excused) && s <= c.have {
			w.t.Fatalf("%d was taken for nothing, after %d", s, had)
		}
	}
	if len(entries) > w.limits.Events {
		w.gaps++
		w.enter(c)
		return
	}
	w.replays++
	c.connected = true
	for _, e := range entries {
		w.receive(c, e.Sequence)
	}
	// Everything the node has: what is stored and not yet here comes live.
	for _, s := range w.stored {
		if s > max(c.have, c.excused) && s <= w.ring.Pos() {
			w.t.Fatalf("%d is missing in the replay up to %d", s, w.ring.Pos())
		}
	}
	c.confirmed = w.now
}

// findEnd is the channel's findEnd.
func (w *world) findEnd() {
	retained := w.between(0, ^uint64(0))
	switch {
	case len(retained) == 0:
		w.ring.Found(max(w.next-1, w.ring.Pos()))
	case retained[len(retained)-1] <= w.ring.Pos():
		w.ring.Found(w.ring.Pos())
	default:
		w.log.Nudge(retained[len(retained)-1])
		w.fill()
	}
}

// extend is resume.loadBack.
func (w *world) extend(c *worldClient) bool {
	if c.have > w.ring.Pos() {
		return false
	}
	base := w.ring.Base()
	events := w.between(c.have, base)
	// What the node has, and what has not come to it yet.
	newer := len(events) + len(w.ring.After(base)) + len(w.between(w.ring.Pos(), ^uint64(0)))
	reason := Decide(Claim{Sequence: c.have, Confirmed: c.confirmed}, w.retained(newer), w.limits, w.now)
	if reason != "" {
		w.gaps++
		if r := w.retained(newer); r.First != 0 && r.First == c.have && newer <= w.limits.Events {
			w.t.Fatalf("%s though the event itself, %d, is there and %d are newer", reason, c.have, newer)
		}
		return false
	}
	w.doubts++
	entries := make([]Entry, len(events))
	for i, s := range events {
		entries[i] = Entry{Sequence: s}
	}
	// Only what is true of the claim for everybody may be said of the ring.
	after := c.have
	if Decide(Claim{Sequence: c.have}, w.retained(newer), w.limits, w.now) != "" {
		if after = base; len(events) > 0 {
			after = events[0] - 1
		}
		c.have = max(c.have, after)
	}
	if !w.ring.Prepend(after, base, entries) {
		w.t.Fatal("nobody else is here, and the ring has moved")
	}
	return true
}

// enter joins at the end: of what the node has, which never had what was trimmed
// behind that before.
func (w *world) enter(c *worldClient) {
	*c = worldClient{connected: true, epoch: w.epoch, have: w.ring.Pos(), confirmed: w.now}
	w.excuse(c)
}

func (w *world) step() {
	c := w.clients[w.rng.IntN(len(w.clients))]
	switch n := w.rng.IntN(100); {
	case n < 30:
		w.publish(true)
	case n < 55:
		w.publish(false)
	case n < 65:
		c.connected = false
	case n < 85:
		if !c.connected {
			w.join(c)
		}
	case n < 90:
		w.pass(time.Duration(w.rng.Int64N(int64(time.Minute))))
	case n < 92:
		w.pass(time.Duration(w.rng.Int64N(int64(2 * w.limits.MaxAge))))
	case n < 97:
		w.ring.Trim(w.rng.IntN(5), 1<<30) // as memory runs short
	case n < 98:
		w.sweep()
	case n < 99 && w.rng.IntN(4) == 0:
		w.restartNode()
	case n < 100 && w.rng.IntN(40) == 0:
		w.begin()
	}
}

// Whatever is published, trimmed, lost on the way, evicted, restarted or
// recreated: each client gets every event of the channel once and in order, or
// is told of a gap.
func TestNoUnflaggedGap(t *testing.T) {
	t.Parallel()
	var replays, gaps, doubts int
	first := seed.First(t)
	for i := range uint64(1000) {
		t.Run(seed.Repeat(first+i), func(t *testing.T) {
			w := newWorld(t, first+i)
			for range 600 {
				w.step()
			}
			replays, gaps, doubts = replays+w.replays, gaps+w.gaps, doubts+w.doubts
		})
	}
	if replays < 1000 || gaps < 1000 || doubts < 1000 {
		t.Errorf("the worlds are too peaceful: %d replays, %d gaps, %d from the stream", replays, gaps, doubts)
	}
}
