package broker

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// State is what a stream retains.
type State struct {
	// First is the oldest retained sequence, of any channel; Last+1 if there
	// is none.
	First uint64
	// FirstTime is when that was stored, zero if there is none.
	FirstTime time.Time
	// Last is the newest sequence ever assigned.
	Last uint64
	// Known: all that was stored until then is in the answer. The zero Time: that is
	// not known.
	Known time.Time
	// Bytes is what the retained events take.
	Bytes int64

	// Removed: events of the channel's app up to this sequence were removed
	// while older ones of other apps stayed, because the app had more than its
	// share; 0 is none. RemovedTime: none of them is younger.
	Removed     uint64
	RemovedTime time.Time
	// Shrunk is when events of any app were last removed so.
	Shrunk time.Time
}

// stateFlight shares requests for the state of one stream. A caller never gets
// the answer to a request that was sent before its call, so who comes while one
// is under way waits for the next. It is safe for concurrent use.
type stateFlight struct {
	mu      sync.Mutex
	running bool // somebody sends requests, as long as there are any
	next    *stateCall
}

// stateCall is one request, of all that came before it is sent.
type stateCall struct {
	done  chan struct{} // closed when state and err are final
	state State
	err   error
}

// join returns the request that is sent next. If first, nobody is there to send
// it: the caller has to see to that.
func (f *stateFlight) join() (c *stateCall, first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next == nil {
		f.next = &stateCall{done: make(chan struct{})}
	}
	first = !f.running
	f.running = true
	return f.next, first
}

// begin returns the request to send now, which nobody joins any more. Nil: there
// is none, and who sends them ends.
func (f *stateFlight) begin() *stateCall {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.next
	f.next, f.running = nil, c != nil
	return c
}

// state asks the leader of a stream, together with who asks for the same.
func (b *Broker) state(ctx context.Context, l *lane) (State, error) {
	c, first := l.state.join()
	if first {
		b.tasks.Go(func() { b.askStates(l) }) //nolint:contextcheck // shared by callers, so none of theirs
	}
	select {
	case <-c.done:
		return c.state, c.err
	case <-ctx.Done():
		return State{}, fmt.Errorf("ask stream %s for its state: %w", l.stream, ctx.Err())
	}
}

// askStates makes requests while somebody waits for one.
func (b *Broker) askStates(l *lane) {
	for c := l.state.begin(); c != nil; c = l.state.begin() {
		c.state, c.err = b.askState(l)
		close(c.done)
	}
}

func (b *Broker) askState(l *lane) (State, error) {
	ctx, cancel := context.WithTimeout(b.run, readTimeout)
	defer cancel()
	asked := time.Now()
	info, err := b.streamInfo(ctx, l)
	if err != nil {
		return State{}, err
	}
	s := State{First: info.First, Last: info.Last, Bytes: info.Bytes, Known: b.pulse.known(l, info.Last, asked)}
	if info.Messages == 0 {
		s.First = s.Last + 1
	} else {
		s.FirstTime = info.FirstTime
	}
	return s, nil
}

// removed completes a state with what was removed of an app out of turn.
func (b *Broker) removed(ctx context.Context, l *lane, app string, s State) (State, error) {
	if !l.purged.Load() {
		return s, nil
	}
	own, err := b.readMark(ctx, l, app)
	if err != nil {
		return State{}, fmt.Errorf("ask stream %s what was removed: %w", l.stream, err)
	}
	all, err := b.readMark(ctx, l, "")
	if err != nil {
		return State{}, fmt.Errorf("ask stream %s what was removed: %w", l.stream, err)
	}
	s.Removed, s.RemovedTime, s.Shrunk = own.Sequence, own.Time, all.stored
	return s, nil
}
