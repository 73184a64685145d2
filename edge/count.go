package edge

import (
	"time"

	"reecho/edge/fanout"
	"reecho/edge/limit"
	"reecho/edge/pusher"
)

// Subscription counts go out with each change up to manySubscribers, above it at
// most once in countPeriod (PROTOCOL §2.9). Below it they are gathered too once
// there were countBurst changes in quick succession: who subscribes and
// unsubscribes in a loop must not flood all others.
const (
	manySubscribers = 100
	countPeriod     = 5 * time.Second
	countBurst      = 2 * manySubscribers // a channel that fills up, and empties, shows each
	countRate       = 1                   // a second, after the burst
)

// subscriptionCount is when the subscribers of a channel are told how many they
// are.
type subscriptionCount struct {
	bucket limit.Bucket
	sent   int64 // Unix nanoseconds
	due    bool  // it will be sent, whatever it is then
	untold int64 // Unix nanoseconds: when it was left to another node to tell webhooks of it
}

// changed says whether to tell the count now. If not, and wait is not 0, it is
// to be sent after wait.
func (c *subscriptionCount) changed(subs int, now time.Time) (tell bool, wait time.Duration) {
	switch {
	case subs > manySubscribers:
		// A clock that was set back must not put it off for longer.
		wait = min(countPeriod, countPeriod-time.Duration(now.UnixNano()-c.sent))
	case !c.bucket.Take(1, countRate, countBurst, now):
		wait = time.Second / countRate
	}
	switch {
	case wait <= 0:
		return true, 0
	case c.due:
		return false, 0
	}
	c.due = true
	return false, wait
}

// counts reports whether the subscribers of channels of a kind are told how many they
// are.
func (t *Tenant) counts(kind pusher.Kind) bool {
	return t.SubscriptionCounts && !kind.Has(pusher.Presence) && !kind.Has(pusher.ServerToUser)
}

// subsChangedLocked tells subscribers how many they are, and other nodes how many of
// them are here, now or in a while.
func (ch *channel) subsChangedLocked(now time.Time) {
	if ch.app.counts(ch.kind) {
		ch.countChangedLocked(now)
		ch.shareCountLocked(now)
	}
}

// subscribersLocked is how many there are, on all nodes.
func (ch *channel) subscribersLocked() int {
	if ch.shared == nil {
		return ch.subs
	}
	return ch.subs + ch.shared.Subs()
}

// countChangedLocked tells subscribers how many they are, now or in a while.
func (ch *channel) countChangedLocked(now time.Time) {
	tell, wait := ch.count.changed(ch.subscribersLocked(), now)
	switch {
	case tell:
		ch.sendCountLocked(now)
	case wait > 0:
		ch.app.node.later.add(now.Add(wait), ch.sendDueCount)
	}
}

func (ch *channel) sendCountLocked(now time.Time) {
	ch.count.sent, ch.count.due = now.UnixNano(), false
	ch.group.Publish(fanout.Event{Frame: textFrame(pusher.AppendSubscriptionCount(nil, ch.name, ch.subscribersLocked()))})
	ch.hookCountLocked()
}

// sendDueCount sends the count that countChangedLocked put off.
func (ch *channel) sendDueCount(now time.Time) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.count.due {
		// Else what comes next would be told on top of it.
		ch.count.bucket.Take(1, countRate, countBurst, now)
		ch.sendCountLocked(now)
	}
}
