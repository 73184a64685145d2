package edge

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"reecho/broker"
	"reecho/broker/flight"
	"reecho/broker/presence"
	"reecho/broker/presence/exchange"
	"reecho/edge/pusher"
)

// countShare is the least time between two numbers of subscribers that other nodes are
// told of a channel.
const countShare = time.Second

// shared is what a channel has in common with other nodes: the members of a presence
// channel, the number of subscribers of others where that is told. Each node tells what
// it has itself, and all add up (package exchange).
type shared struct {
	// meeting is the first look at what the others have.
	meeting flight.Once

	// Guarded by the channel's mu.
	presence.Parts
	told time.Time // when others were told the number of subscribers
	due  bool      // they will be
}

// share returns what a channel of a kind shares, nil for nothing.
func (t *Tenant) share(kind pusher.Kind) *shared {
	node := t.node
	if node.exchange == nil || !kind.Has(pusher.Presence) && !t.counts(kind) {
		return nil
	}
	return &shared{Parts: *presence.NewParts(node.version() + 1)}
}

// version is one above all that any channel had before now: their changes were fewer
// than the nanoseconds that they took. It is above what it was for a channel that was
// closed since, and below that of one that is made later.
func (n *services) version() uint64 { return uint64(time.Since(n.started)) }

// ready reports whether subscribers can join at once.
func (ch *channel) ready() bool {
	return ch.log.Attached() && (ch.members == nil || ch.shared == nil || ch.shared.meeting.Done())
}

// open makes the channel ready: it follows the log and, if it is a presence channel,
// knows who is on it on other nodes, as far as they have answered within a second.
func (ch *channel) open(ctx context.Context) error {
	if err := ch.log.Attach(ctx); err != nil || ch.shared == nil {
		return err
	}
	return ch.shared.meeting.Do(ctx, func(ctx context.Context) error {
		if ch.members != nil {
			return ch.app.node.exchange.Meet(ctx, ch.ref())
		}
		ch.app.node.exchange.Begin(ch.ref())
		return nil
	})
}

// shareJoinLocked tells other nodes of a member that has joined, if that is news.
func (ch *channel) shareJoinLocked(member pusher.Member) {
	if who := ch.members.Present(); ch.shared != nil && who.Sockets(member.ID) == 1 {
		ch.app.node.exchange.Tell(ch.ref(), ch.shared.Joined(who, member.ID, member.Info))
	}
}

// shareLeaveLocked is shareJoinLocked of one that has left.
func (ch *channel) shareLeaveLocked(id string) {
	if who := ch.members.Present(); ch.shared != nil && who.Sockets(id) == 0 {
		ch.app.node.exchange.Tell(ch.ref(), ch.shared.Left(who, id))
	}
}

// shareCountLocked tells other nodes how many subscribers there are here, now or in a
// while.
func (ch *channel) shareCountLocked(now time.Time) {
	s := ch.shared
	if s == nil || s.due {
		return
	}
	if wait := countShare - now.Sub(s.told); wait > 0 {
		s.due = true
		ch.app.node.later.add(now.Add(wait), ch.shareDueCount)
		return
	}
	s.told = now
	ch.app.node.exchange.Tell(ch.ref(), s.Counted(ch.subs))
}

// shareDueCount tells the number that shareCountLocked put off.
func (ch *channel) shareDueCount(now time.Time) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.shared.due, ch.shared.told = false, now
	ch.app.node.exchange.Tell(ch.ref(), ch.shared.Counted(ch.subs))
}

// Told implements replay.Hearer.
func (ch *channel) Told(life string, text []byte) {
	if ch.shared == nil {
		return
	}
	var d presence.Delta
	if err := json.Unmarshal(text, &d); err != nil {
		ch.app.node.lines.Warn("[unexpected] another node told what cannot be read",
			slog.String("app", ch.app.ID), slog.String("channel", ch.name), slog.Any("error", err))
		return
	}
	if ch.take(life, d) {
		ch.app.node.exchange.CompareWith(ch.ref(), life)
	}
}

// take takes what another node says of its part; hole: something before it is missing.
func (ch *channel) take(life string, d presence.Delta) (hole bool) {
	ch.change(func(s *shared) (changes []presence.Change) {
		// What a node that is gone said before must not outlive it.
		if ch.app.node.exchange.Alive(life) {
			changes, hole = s.Take(life, d)
		}
		return changes
	})
	return hole
}

// change changes what is known of other nodes, and tells subscribers.
func (ch *channel) change(do func(*shared) []presence.Change) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	now, subs := time.Now(), ch.shared.Subs()
	for _, c := range do(ch.shared) {
		if ch.members == nil {
			continue
		}
		if c.Gone {
			ch.tellNewsLocked(c.ID, ch.members.Go(c.ID, now), now)
		} else {
			ch.tellNewsLocked(c.ID, ch.members.Come(c.ID, c.Info, now), now)
		}
	}
	switch {
	case ch.members != nil && ch.subs == 0:
		ch.members.Unheard()
	case ch.members == nil && ch.subs > 0 && ch.shared.Subs() != subs:
		ch.countChangedLocked(now)
	case ch.members == nil && ch.shared.Subs() == 0 && subs > 0:
		ch.hookEmptyLocked(now)
	}
}

// rooms is the channels of a hub that share something, as an Exchange sees them.
type rooms struct{ hub *Hub }

var _ exchange.Rooms = rooms{}

// find returns a channel that shares something, or nil.
func (r rooms) find(ref broker.Ref) *channel {
	a := r.hub.apps.ByID(ref.App)
	if a == nil {
		return nil
	}
	if ch := r.hub.tenants[a].channels.find(ref.Channel); ch != nil && ch.shared != nil {
		return ch
	}
	return nil
}

// Have implements exchange.Rooms.
func (r rooms) Have(ref broker.Ref, life string) (version uint64, followed bool) {
	ch := r.find(ref)
	if ch == nil {
		return 0, false
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.shared.Have(life), true
}

// Own implements exchange.Rooms.
func (r rooms) Own(ref broker.Ref, have uint64) *presence.Delta {
	// Before the look: a channel that is made after it has a version above this one.
	d := presence.Nothing(r.hub.node.version())
	ch := r.find(ref)
	if ch == nil {
		if have == 0 {
			return nil
		}
		return &d
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.shared.Version() == have {
		return nil
	}
	d = ch.wholeLocked()
	return &d
}

// wholeLocked is this node's part of the channel.
func (ch *channel) wholeLocked() presence.Delta {
	if ch.members != nil {
		return ch.shared.Whole(ch.members.Present(), 0)
	}
	return ch.shared.Whole(nil, ch.subs)
}

// Take implements exchange.Rooms.
func (r rooms) Take(ref broker.Ref, life string, d presence.Delta) (hole bool) {
	if ch := r.find(ref); ch != nil {
		return ch.take(life, d)
	}
	return false
}

// Drop implements exchange.Rooms.
func (r rooms) Drop(life string) {
	r.each(func(ch *channel) {
		ch.change(func(s *shared) []presence.Change { return s.Drop(life) })
	})
}

// Each implements exchange.Rooms.
func (r rooms) Each(visit func(broker.Ref)) {
	r.each(func(ch *channel) { visit(ch.ref()) })
}

func (r rooms) each(visit func(*channel)) {
	for _, t := range r.hub.tenants {
		t.channels.each(func(ch *channel) {
			if ch.shared != nil {
				visit(ch)
			}
		})
	}
}
