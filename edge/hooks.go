package edge

import (
	"time"

	"reecho/edge/app"
	"reecho/edge/pusher"
)

// Hooks is told what happens on channels of this node, for webhooks (package webhook).
type Hooks interface {
	// Channel returns what is told of a channel, nil if nobody wants to hear of it.
	Channel(a *app.App, name string) ChannelHooks
}

// ChannelHooks is told what happens on one channel of this node. Its methods must neither
// wait nor call back, for the channel may be locked: it always is for Occupied and Member.
type ChannelHooks interface {
	// Occupied says that the channel has its first subscriber here, or its last one has
	// gone.
	Occupied(occupied bool)
	// Member says that the first connection of a user came, or the last one has gone.
	Member(userID string, present bool)
	// Tell tells of any other event. Its Channel need not be set.
	Tell(e pusher.WebhookEvent)
}

// hooksOf is what is told of a channel of a name, nil if nobody wants to hear of it. ch is
// the channel, nil if nobody on this node is on it.
func (t *Tenant) hooksOf(ch *channel, name string) ChannelHooks {
	switch hooks := t.node.cfg.Hooks; {
	case ch != nil:
		return ch.hooks
	case hooks == nil:
		return nil
	default:
		return hooks.Channel(t.App, name)
	}
}

// hookEnteredLocked tells of a subscriber that was counted.
func (ch *channel) hookEnteredLocked(memberID string) {
	if ch.hooks == nil {
		return
	}
	if ch.subs == 1 {
		ch.hooks.Occupied(true)
	}
	if ch.members != nil && ch.members.Present().Sockets(memberID) == 1 {
		ch.hooks.Member(memberID, true)
	}
}

// hookLeftLocked tells of a subscriber that is counted no more: of the channel last, as
// the first was that of it.
func (ch *channel) hookLeftLocked(memberID string) {
	if ch.hooks == nil {
		return
	}
	if ch.members != nil && ch.members.Present().Sockets(memberID) == 0 {
		ch.hooks.Member(memberID, false)
	}
	if ch.subs == 0 {
		ch.hooks.Occupied(false)
	}
}

// hookCountLocked tells how many subscribers there are, if no other node does: of those
// that have some the one with the lowest life, else the one that had the last.
func (ch *channel) hookCountLocked() {
	if ch.hooks == nil {
		return
	}
	if ch.shared != nil {
		other := ch.shared.Lowest()
		if other != "" && (ch.subs == 0 || other < ch.app.node.nodes.Self().Life) {
			ch.count.untold = time.Now().UnixNano()
			return
		}
	}
	ch.hooks.Tell(pusher.WebhookEvent{Name: pusher.WebhookSubscriptionCount, Count: ch.subscribersLocked()})
}

// emptyTogether is how long it may take until nodes know of each other that the last
// subscribers have left.
const emptyTogether = 2 * time.Second

// hookEmptyLocked tells that there is no subscriber any more if the last ones left on
// several nodes at once: each believed then that another had some yet. It may be told
// by more than one of them.
func (ch *channel) hookEmptyLocked(now time.Time) {
	if ch.hooks != nil && now.UnixNano()-ch.count.untold < int64(emptyTogether) {
		ch.count.untold = 0
		ch.hooks.Tell(pusher.WebhookEvent{Name: pusher.WebhookSubscriptionCount})
	}
}
