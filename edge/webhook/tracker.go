package webhook

import (
	"sync"
	"time"
)

// place is a channel of an app.
type place struct{ app, channel string }

// tracker turns who comes to the channels of this node, and goes, into what is to be
// done about it: that the node has a channel or a member, from now on or, after the
// grace, no more. Beside that it hands on events. What is about one channel is done in
// order and by one worker at a time.
//
// It keeps how things are and not what has happened, so it is as large as the channels
// and members are many, however long nothing can be stored. Only events are a queue,
// which is bounded. It is safe for concurrent use, and does not know the time.
type tracker struct {
	grace time.Duration
	limit int // bytes of events

	mu     sync.Mutex
	woken  sync.Cond // ready or closed changed
	lanes  map[place]*lane
	ready  []*lane // with something to do that nobody does
	leaves []leave // in order of their time
	bytes  int     // of events that wait
	closed bool
}

// lane is what is to be done for one channel.
type lane struct {
	place   place
	todo    []op
	waiting bool // in ready
	busy    bool // somebody does what there was to do
	// channel and members say where who is. There are none of those who are neither
	// here nor held.
	channel holding
	members map[string]*holding
}

// holding is whether a channel or a member is here, and whether others know it.
type holding struct {
	present bool
	held    bool      // it is recorded that this node has it
	planned bool      // there is a step to change that
	leaveAt time.Time // when that ends, if it is not present
}

// leave is that a grace ends.
type leave struct {
	at   time.Time
	lane *lane
	what subject
}

// subject is the channel itself or one of its members.
type subject struct {
	member bool
	user   string
}

// op is something to be done: an event to hand on, or a look at a subject.
type op struct {
	subject
	event *told
	at    time.Time // of the look: when the subject came, or its grace ended
}

// step is an op that is to be done now. Of a subject it says whether the node has it.
type step struct {
	op
	present bool
}

func newTracker(grace time.Duration, limit int) *tracker {
	t := &tracker{grace: grace, limit: limit, lanes: make(map[place]*lane)}
	t.woken.L = &t.mu
	return t
}

// laneLocked returns that of a place, which it makes if need be.
func (t *tracker) laneLocked(p place) *lane {
	l := t.lanes[p]
	if l == nil {
		l = &lane{place: p}
		t.lanes[p] = l
	}
	return l
}

// of returns the holding of a subject, nil if there is none.
func (l *lane) of(s subject) *holding {
	if !s.member {
		return &l.channel
	}
	return l.members[s.user]
}

// set says whether a subject is here.
func (t *tracker) set(p place, s subject, present bool, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !present && t.lanes[p] == nil {
		return
	}
	l := t.laneLocked(p)
	h := l.of(s)
	if h == nil {
		if !present {
			return
		}
		h = &holding{}
		if l.members == nil {
			l.members = make(map[string]*holding)
		}
		l.members[s.user] = h
	}
	if h.present == present {
		return
	}
	h.present = present
	if present {
		t.addLocked(l, op{subject: s, at: now})
		return
	}
	h.leaveAt = now.Add(t.grace)
	t.leaves = append(t.leaves, leave{at: h.leaveAt, lane: l, what: s})
}

// tell hands on an event. It is false if too many wait.
func (t *tracker) tell(p place, e *told) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bytes+e.size() > t.limit {
		return false
	}
	l := t.laneLocked(p)
	if n := len(l.todo); n > 0 && e.replaces(l.todo[n-1].event) {
		t.bytes -= l.todo[n-1].event.size()
		l.todo = l.todo[:n-1]
	}
	t.bytes += e.size()
	t.addLocked(l, op{event: e})
	return true
}

func (t *tracker) addLocked(l *lane, o op) {
	l.todo = append(l.todo, o)
	if !l.busy && !l.waiting {
		l.waiting = true
		t.ready = append(t.ready, l)
		t.woken.Signal()
	}
}

// expire has what is to be done whose grace has ended.
func (t *tracker) expire(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for ; n < len(t.leaves) && !t.leaves[n].at.After(now); n++ {
		l := t.leaves[n]
		// One that came back and went again has a later end.
		if h := l.lane.of(l.what); h != nil && !h.present && !h.leaveAt.After(now) && t.lanes[l.lane.place] == l.lane {
			t.addLocked(l.lane, op{subject: l.what, at: now})
		}
		t.leaves[n] = leave{}
	}
	if t.leaves = t.leaves[n:]; len(t.leaves) == 0 {
		t.leaves = nil
	}
}

// next waits for a channel with something to do and returns that; done is to be called
// afterwards. The steps are none if there is nothing after all. ok is false after close.
func (t *tracker) next() (l *lane, steps []step, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.ready) == 0 && !t.closed {
		t.woken.Wait()
	}
	if t.closed {
		return nil, nil, false
	}
	l = t.ready[0]
	t.ready[0] = nil
	t.ready = t.ready[1:]
	l.waiting, l.busy = false, true
	for _, o := range l.todo {
		if o.event != nil {
			t.bytes -= o.event.size()
			steps = append(steps, step{op: o})
			continue
		}
		// Several that came and went meanwhile are one look.
		switch h := l.of(o.subject); {
		case h == nil:
		case h.planned:
		case h.present != h.held:
			h.planned = true
			steps = append(steps, step{op: o, present: h.present})
		case o.member && !h.present && !h.held:
			delete(l.members, o.user)
		}
	}
	l.todo = nil
	return l, steps, true
}

// done says what came of a step.
func (t *tracker) done(l *lane, s step, done bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.event != nil {
		return
	}
	h := l.of(s.subject)
	if h.planned = false; !done {
		return
	}
	h.held = s.present
	if s.member && !h.held && !h.present {
		delete(l.members, s.user)
	}
}

// release ends what next began.
func (t *tracker) release(l *lane) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.busy = false
	if len(l.todo) > 0 {
		l.waiting = true
		t.ready = append(t.ready, l)
		t.woken.Signal()
		return
	}
	t.forgetLocked(l)
}

// forgetLocked forgets a lane of which there is nothing to know.
func (t *tracker) forgetLocked(l *lane) {
	if !l.channel.present && !l.channel.held && len(l.members) == 0 {
		delete(t.lanes, l.place)
	}
}

// lost has what the node has recorded again as far as it is not in recorded.
func (t *tracker) lost(recorded func(place, subject) bool, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	again := func(l *lane, h *holding, s subject) {
		if h.held && h.present && !l.busy && !recorded(l.place, s) {
			h.held = false
			t.addLocked(l, op{subject: s, at: now})
		}
	}
	for _, l := range t.lanes {
		again(l, &l.channel, subject{})
		for user, h := range l.members {
			again(l, h, subject{member: true, user: user})
		}
	}
}

// pending is how many channels have something to do.
func (t *tracker) pending() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, l := range t.lanes {
		if l.busy || l.waiting {
			n++
		}
	}
	return n
}

// close ends next.
func (t *tracker) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.woken.Broadcast()
}
