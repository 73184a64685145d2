package edge

import (
	"slices"
	"sync"
	"time"

	"reecho/edge/fanout"
	"reecho/edge/pusher"
	"reecho/replay"
	"reecho/replay/session"
)

// acks finds out what a connection of a session has got, by its pongs: a ping is
// sent behind all that was written, and the pong confirms that. All but hold
// belongs to the client's shard.
type acks struct {
	hold     session.Hold
	client   *client
	subs     []*subscription // those that have their seat
	parts    []awaited       // what was sent of replays that go on
	awaiting []awaited       // what a pong will confirm; nil: no ping is out
	pinged   time.Time
	again    bool // ping as soon as the pong is here
	// leaving: the connection is closed when final is confirmed.
	leaving bool
	final   []awaited
	// asked is how many pongs are to come until the client has answered that it
	// is there: what was sent before it was asked says nothing. 0: nobody asks.
	asked int

	// The client may be asked before it has a shard.
	mu            sync.Mutex
	sharded, knew bool // it has one; it was asked before

	backlog backlog // belongs to nobody
}

var _ session.Connection = (*acks)(nil)

// opened says that the client has a shard.
func (a *acks) opened() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sharded = true; a.knew {
		a.client.Do(a.ask)
	}
}

// Ask implements session.Connection.
func (a *acks) Ask() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.knew = true; a.sharded {
		a.client.Do(a.ask)
	}
}

// TakenOver implements session.Connection: it closes a connection that the client
// has lost without our knowing.
func (a *acks) TakenOver() {
	a.client.closeWith(pusher.Errorf(pusher.CodeOverCapacity,
		"The session went on over a newer connection. A session id must be used by one page only"))
}

// ask has the client answer whether it is there.
func (a *acks) ask() {
	if a.awaiting == nil {
		a.asked = 1
		a.ping(time.Now())
		return
	}
	a.asked, a.again = 2, true
}

// answered counts the pongs of one who is asked.
func (a *acks) answered() {
	if a.asked == 0 {
		return
	}
	if a.asked--; a.asked == 0 {
		a.hold.Answered()
	}
}

// awaited is how far a subscription was when the ping was sent; sub is nil while its
// replay goes on.
type awaited struct {
	ch  *channel
	sub *subscription
	at  replay.Position
}

var pingFrame = textFrame(pusher.AppendPing(nil))

// joined takes in a new subscription, and asks at once whether what was sent
// again has arrived: it should not have to be sent a third time.
func (a *acks) joined(sub *subscription) {
	a.parts = slices.DeleteFunc(a.parts, func(w awaited) bool { return w.ch == sub.ch })
	if sub.Positioned {
		return
	}
	a.subs = append(a.subs, sub)
	a.pingSoon()
}

// sentPart takes in that a client was sent a part of a replay, and asks at once
// whether it has arrived: a connection may break before the rest has.
func (a *acks) sentPart(ch *channel, at replay.Position) {
	a.parts = slices.DeleteFunc(a.parts, func(w awaited) bool { return w.ch == ch })
	a.parts = append(a.parts, awaited{ch: ch, at: at})
	a.pingSoon()
}

// pingSoon pings now, or as soon as the pong is here.
func (a *acks) pingSoon() {
	if a.awaiting == nil && !a.leaving {
		a.ping(time.Now())
	} else {
		a.again = true
	}
}

// left forgets a subscription, also where a pong is out for it: that would be
// taken for what was sent to the next subscription to the channel.
func (a *acks) left(sub *subscription) {
	if i := slices.Index(a.subs, sub); i >= 0 {
		a.subs = slices.Delete(a.subs, i, i+1)
	}
	gone := func(w awaited) bool { return w.sub == sub }
	a.awaiting, a.final = slices.DeleteFunc(a.awaiting, gone), slices.DeleteFunc(a.final, gone)
}

// reached is how far sub is: what was written to its audience, or what it got
// when it joined. It is not known while the channel begins anew.
func (a *acks) reached(sub *subscription) (at replay.Position, known bool) {
	sequence, restarts := sub.ch.group.Reached(&a.client.Member, &sub.Seat)
	line, known := sub.ch.log.LineAfter(restarts)
	return line.At(sequence), known
}

// tick pings when something was delivered since the last pong, or when the last
// one is so long ago that a claim based on it would be in doubt.
func (a *acks) tick(now time.Time) {
	switch {
	case a.leaving && now.Sub(a.pinged) >= fanout.TickPeriod:
		a.client.closeWith(shuttingDown())
	// A tick is early or late by a little: not to wait for the next one.
	case a.leaving, a.awaiting != nil, now.Sub(a.pinged)+fanout.TickPeriod/2 < a.hold.AckInterval():
	case a.behind() || now.Sub(a.pinged) >= a.hold.Refresh():
		a.ping(now)
	}
}

func (a *acks) behind() bool {
	return slices.ContainsFunc(a.subs, func(sub *subscription) bool {
		at, known := a.reached(sub)
		return known && a.hold.Behind(sub.ch.name, at)
	})
}

func (a *acks) ping(now time.Time) {
	a.pinged = now
	if a.awaiting = slices.Clone(a.final); !a.leaving {
		a.awaiting = a.sent()
	}
	// Behind what was written, as it was pushed later.
	a.client.Send(pingFrame)
}

// sent is how far each subscription is now.
func (a *acks) sent() []awaited {
	sent := append(make([]awaited, 0, len(a.subs)+len(a.parts)), a.parts...)
	for _, sub := range a.subs {
		if at, known := a.reached(sub); known {
			sent = append(sent, awaited{ch: sub.ch, sub: sub, at: at})
		}
	}
	return sent
}

// finish asks for the pong after which the connection can be closed, and lets
// nothing more be written. False: there is nothing to ask for.
func (a *acks) finish() bool {
	if !a.behind() {
		return false
	}
	a.leaving, a.final = true, a.sent()
	if a.again = a.awaiting != nil; !a.again {
		a.ping(time.Now())
	}
	for _, sub := range a.subs {
		sub.ch.group.Vacate(&a.client.Member, &sub.Seat)
	}
	a.subs = nil
	return true
}

// ponged confirms what was sent before the ping.
func (a *acks) ponged() {
	if a.awaiting == nil {
		return
	}
	reached := make([]session.Reached, len(a.awaiting))
	for i, w := range a.awaiting {
		reached[i] = session.Reached{Channel: w.ch.name, Position: w.at, Partial: w.sub == nil}
	}
	a.hold.Confirm(reached, a.pinged)
	a.awaiting = nil
	a.answered()
	switch {
	case a.again:
		a.again = false
		a.ping(time.Now())
	case a.leaving:
		a.client.closeWith(shuttingDown())
	}
}
