package edge

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"reecho/broker"
	"reecho/broker/presence"
	"reecho/edge/pusher"
	"reecho/edge/socket"
	"reecho/replay"
)

// Subscription counts go out at once up to manySubscribers, above it at most
// once in countPeriod (PROTOCOL §2.9).
const (
	manySubscribers = 100
	countPeriod     = 5 * time.Second
)

// channel is one channel of one app while this node has, or lately had,
// subscribers of it. Its mutex orders what subscribers see: everything that is
// pushed to the shards is pushed under it, so a snapshot and the events around
// it agree.
type channel struct {
	hub  *Hub
	app  *tenant
	name string
	kind pusher.Kind

	// success is the confirmation of every subscription, nil on presence
	// channels, where each gets its own.
	success []byte
	// lists[i] belongs to shard i.
	lists [][]entry

	// Guarded by the channels stripe of app.
	refs      int       // subscriptions, and those on their way
	idleSince time.Time // when refs became 0

	mu        sync.Mutex
	tail      *replay.Tail  // nil until attached
	attaching chan struct{} // closed when the attempt under way ended; else nil
	subs      int
	perShard  []int32 // subscribers by shard
	members   presence.Members
	// cached is the newest stored event of a cache channel.
	cached broker.Event
	// countSent and countDue belong to the subscription count.
	countSent time.Time
	countDue  bool
}

var _ replay.Sink = (*channel)(nil)

// subscription is a client's place on a channel.
type subscription struct {
	ch     *channel
	index  int32  // in ch.lists[shard]; owned by the shard
	userID string // presence channels: the member; else empty
}

func newChannel(h *Hub, a *tenant, name string) *channel {
	ch := &channel{
		hub: h, app: a, name: name, kind: pusher.KindOf(name),
		lists: make([][]entry, len(h.shards)), perShard: make([]int32, len(h.shards)),
	}
	if !ch.kind.Has(pusher.Presence) {
		ch.success = textFrame(pusher.AppendSubscriptionSucceeded(nil, name, "{}"))
	}
	return ch
}

// attached reports whether join may be called without waiting.
func (ch *channel) attached() bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.tail != nil
}

// attach follows the channel's events. Concurrent calls share one attempt.
func (ch *channel) attach(ctx context.Context) error {
	for {
		ch.mu.Lock()
		if ch.tail != nil {
			ch.mu.Unlock()
			return nil
		}
		if ch.attaching == nil {
			ch.attaching = make(chan struct{})
			ch.mu.Unlock()
			return ch.open(ctx)
		}
		attempt := ch.attaching
		ch.mu.Unlock()
		select {
		case <-attempt:
		case <-ctx.Done():
			return fmt.Errorf("wait for channel %q: %w", ch.name, ctx.Err())
		}
	}
}

func (ch *channel) open(ctx context.Context) error {
	tail, last, err := ch.hub.follower.Open(ctx, ch.app.ID, ch.name, ch)
	ch.mu.Lock()
	defer ch.mu.Unlock()
	close(ch.attaching)
	ch.attaching = nil
	if err != nil {
		return err
	}
	ch.tail = tail
	if ch.kind.Has(pusher.Cache) && last.Sequence > ch.cached.Sequence {
		ch.cached = last
	}
	return nil
}

// Deliver implements replay.Sink.
func (ch *channel) Deliver(ev broker.Event) {
	except, _, _ := pusher.ParseSocketID(ev.Exclude)
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.kind.Has(pusher.Cache) && ev.Sequence != 0 {
		ch.cached = ev
	}
	if ch.subs > 0 {
		ch.pushLocked(socket.Frame(ev.Frame), except)
	}
}

// pushLocked gives a wire frame to every shard that has subscribers.
func (ch *channel) pushLocked(frame []byte, except pusher.SocketID) {
	o := op{kind: opEvent, ch: ch, frame: frame, except: except}
	for i, n := range ch.perShard {
		if n > 0 {
			ch.hub.shards[i].inbox.push(&o)
		}
	}
}

// send delivers an event that is not stored (a client event) to this node's
// other subscribers.
func (ch *channel) send(frame []byte, except pusher.SocketID) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.pushLocked(frame, except)
}

// join subscribes c. member is set on presence channels. The error is for the
// client; nothing has changed then. The channel must be attached.
func (ch *channel) join(c *client, member pusher.Member) (*subscription, *pusher.Error) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	sub := &subscription{ch: ch}
	first := false
	if ch.kind.Has(pusher.Presence) {
		limit := ch.app.Limits.PresenceMembers
		if ch.members.Len() >= limit && !ch.members.Has(member.ID) {
			return nil, pusher.Errorf(0, "Channel %s is full: a presence channel holds %d members", ch.name, limit)
		}
		sub.userID = member.ID
		first = ch.members.Join(member.ID, member.Info)
	}
	ch.subs++
	ch.perShard[c.shard.index]++
	c.shard.inbox.push(&op{
		kind: opJoin, ch: ch, client: c, sub: sub,
		frame: ch.successLocked(), cached: ch.afterSuccessLocked(),
	})
	if first {
		ch.pushLocked(textFrame(pusher.AppendMemberAdded(nil, ch.name, member.ID, member.Info)), c.id)
	}
	ch.countChangedLocked(time.Now())
	return sub, nil
}

// successLocked is the subscription_succeeded frame for a subscriber that
// joins now.
func (ch *channel) successLocked() []byte {
	if ch.success != nil {
		return ch.success
	}
	snapshot := ch.members.AppendSnapshot(make([]byte, 0, ch.members.SnapshotSize()))
	// Every quote of the snapshot is escaped inside the frame's data string.
	frame := make([]byte, 0, len(snapshot)*5/4+len(ch.name)+128)
	return textFrame(pusher.AppendSubscriptionSucceeded(frame, ch.name, string(snapshot)))
}

// repeatSuccess answers a second subscription like the first, for apps that
// ask for it.
func (ch *channel) repeatSuccess(c *client) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	c.reply(ch.successLocked())
}

// afterSuccessLocked is the frame that follows success on a cache channel:
// the cached event or cache_miss. Nil on other channels.
func (ch *channel) afterSuccessLocked() []byte {
	if !ch.kind.Has(pusher.Cache) {
		return nil
	}
	if _, fresh := ch.app.remaining(ch.cached, time.Now()); fresh {
		return socket.Frame(ch.cached.Frame)
	}
	return textFrame(pusher.AppendCacheMiss(nil, ch.name))
}

// leave ends a subscription.
func (ch *channel) leave(c *client, sub *subscription) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.subs--
	ch.perShard[c.shard.index]--
	c.shard.inbox.push(&op{kind: opLeave, ch: ch, client: c, sub: sub})
	if ch.kind.Has(pusher.Presence) && ch.members.Leave(sub.userID) {
		ch.pushLocked(textFrame(pusher.AppendMemberRemoved(nil, ch.name, sub.userID)), pusher.SocketID{})
	}
	ch.countChangedLocked(time.Now())
}

// countChangedLocked tells subscribers how many they are, now or, on a large
// channel that was told a moment ago, when the period is over.
func (ch *channel) countChangedLocked(now time.Time) {
	if !ch.app.SubscriptionCounts || ch.kind.Has(pusher.Presence) || ch.kind.Has(pusher.ServerToUser) {
		return
	}
	if ch.subs > manySubscribers && now.Sub(ch.countSent) < countPeriod {
		if !ch.countDue {
			ch.countDue = true
			ch.hub.janitor.countDue(ch, ch.countSent.Add(countPeriod))
		}
		return
	}
	ch.sendCountLocked(now)
}

func (ch *channel) sendCountLocked(now time.Time) {
	ch.countSent, ch.countDue = now, false
	ch.pushLocked(textFrame(pusher.AppendSubscriptionCount(nil, ch.name, ch.subs)), pusher.SocketID{})
}

// sendDueCount sends the count that countChangedLocked put off.
func (ch *channel) sendDueCount(now time.Time) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.countDue {
		ch.sendCountLocked(now)
	}
}

// close stops following. The caller made sure that nobody joins any more.
func (ch *channel) close() {
	ch.mu.Lock()
	tail := ch.tail
	ch.mu.Unlock()
	// Not under the lock: the tail may be delivering to this channel.
	if tail != nil {
		tail.Close()
	}
}

func (ch *channel) info() ChannelInfo {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ChannelInfo{Subscriptions: ch.subs, Users: ch.members.Len()}
}

func (ch *channel) memberIDs() []string {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ids := ch.members.IDs()
	slices.Sort(ids)
	return ids
}

// textFrame makes a wire frame of a JSON text.
func textFrame(text []byte) []byte { return socket.Frame(text) }
