package edge

import (
	"container/list"
	"slices"
	"sync"
	"time"

	"reecho/broker"
	"reecho/edge/fanout"
	"reecho/edge/limit"
	"reecho/edge/pusher"
	"reecho/edge/roster"
	"reecho/edge/socket"
	"reecho/replay"
)

// channel is one channel of one app while this node has, or lately had,
// subscribers of it. Its mutex orders what subscribers see: everything that is
// published to the group is published under it, so a snapshot and the events
// around it agree. What is delivered and what is sent again is in log, whose own
// lock is taken before this one and never after.
type channel struct {
	app  *Tenant
	name string
	kind pusher.Kind
	// success is the confirmation of every subscription, nil on presence
	// channels, where each gets its own.
	success []byte
	log     *replay.Channel
	// shared is what other nodes are told of the channel, and know of it; nil if
	// nothing is.
	shared *shared
	// hooks are nil if nobody wants to hear of the channel.
	hooks ChannelHooks

	// Guarded by the channels stripe of app.
	refs      int       // subscriptions, and those on their way
	idleSince time.Time // when refs became 0

	// Guarded by lingering.
	idle *list.Element // nil while somebody is on the channel

	mu      sync.Mutex
	subs    int
	group   fanout.Group   // the subscribers as the shards see them
	members *roster.Roster // presence channels; else nil
	// cached is the newest stored event of a cache channel; else nil.
	cached *broker.Event
	count  subscriptionCount
}

var (
	_ replay.Audience = (*channel)(nil)
	_ replay.Hearer   = (*channel)(nil)
	_ replay.Renewer  = (*channel)(nil)
)

func newChannel(a *Tenant, name string) *channel {
	ch := &channel{app: a, name: name, kind: pusher.KindOf(name), group: a.node.pool.NewGroup()}
	ch.group.Compress(a.compress)
	ch.shared = a.share(ch.kind)
	if hooks := a.node.cfg.Hooks; hooks != nil && !ch.kind.Has(pusher.ServerToUser) {
		ch.hooks = hooks.Channel(a.App, name)
	}
	ch.log = a.node.replay.Channel(ch.ref(), replay.Bounds{
		Events: a.Limits.ReplayEvents, Bytes: a.Limits.ReplayBytes, EventBytes: a.Limits.EventDataBytes,
	}, ch)
	if ch.kind.Has(pusher.Cache) {
		ch.cached = &broker.Event{}
	}
	if ch.kind.Has(pusher.Presence) {
		ch.members = roster.New(a.Limits.MemberTransitions)
	} else {
		ch.success = textFrame(pusher.AppendSubscriptionSucceeded(nil, name, "{}"))
	}
	return ch
}

func (ch *channel) ref() broker.Ref { return broker.Ref{App: ch.app.ID, Channel: ch.name} }

// Start implements replay.Audience.
func (ch *channel) Start(last broker.Event) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.cached != nil {
		*ch.cached = last
	}
}

// Renewed implements replay.Renewer: what subscribers have is not a place in the log any
// more, but that they are behind the newest event.
func (ch *channel) Renewed(last broker.Event) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.cached != nil {
		*ch.cached = last
	}
	ch.group.Restart(last.Sequence)
}

// Deliver implements replay.Audience. The positioned frame is made if somebody
// wants it now.
func (ch *channel) Deliver(ev broker.Event, frame []byte) (positioned []byte) {
	except, _, _ := pusher.ParseSocketID(ev.Exclude)
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ev.Sequence != 0 {
		if ch.cached != nil {
			*ch.cached = ev
		}
		if ch.group.Positioned() {
			positioned = positionedFrame(frame, ch.log.Line().At(ev.Sequence))
		}
	}
	ch.group.Publish(fanout.Event{Frame: frame, Positioned: positioned, Sequence: ev.Sequence, Except: except})
	return positioned
}

// Gap implements replay.Audience. Subscribers that count on replay are told.
func (ch *channel) Gap(reason replay.Reason) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.group.Alert(textFrame(pusher.AppendResumed(nil, ch.name, 0, string(reason))))
}

// send delivers an event that is not stored (a client event) to this node's
// other subscribers.
func (ch *channel) send(frame []byte, except pusher.SocketID) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.group.Publish(fanout.Event{Frame: frame, Except: except})
}

// join makes a client, member of a presence channel, one of the channel's. frames
// makes what it gets first, with the channel locked and the member counted; written,
// if not nil, is closed when they have gone out. The refusal is for the client;
// nothing has changed then. The channel must be ready (see open). A client whose seat
// is partial is counted and in the list, and gets nothing that is published.
func (ch *channel) join(m *fanout.Member, sub *subscription, member pusher.Member, written chan<- struct{}, frames func() [][]byte) *pusher.Error {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if refusal := ch.refuseLocked(member); refusal != nil {
		return refusal
	}
	now := time.Now()
	news := ch.enterLocked(member, now)
	ch.group.Join(m, &sub.Seat, frames(), written)
	ch.tellNewsLocked(sub.Name, news, now)
	ch.subsChangedLocked(now)
	return nil
}

// complete gives a client whose seat was partial all that others get, from now on
// and behind frames, which are made and written as those of join.
func (ch *channel) complete(m *fanout.Member, sub *subscription, written chan<- struct{}, frames func() [][]byte) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.group.Complete(m, &sub.Seat, frames(), written)
}

// refuseLocked is not nil if the channel is full for a member. The members on other
// nodes count: those that join there within the time that the news takes may make it
// more than the limit.
func (ch *channel) refuseLocked(member pusher.Member) *pusher.Error {
	most := ch.app.Limits.PresenceMembers
	if !ch.kind.Has(pusher.Presence) || ch.members.Len() < most || ch.members.Has(member.ID) {
		return nil
	}
	ch.app.node.cfg.Ledger.Count(limit.PresenceMembers)
	return pusher.Errorf(0, "Channel %s is full: a presence channel holds %d members (presence_members)", ch.name, most)
}

// enterLocked counts a subscriber, and returns what is new to the others.
func (ch *channel) enterLocked(member pusher.Member, now time.Time) (news roster.News) {
	if ch.kind.Has(pusher.Presence) {
		news = ch.members.Join(member.ID, member.Info, now)
		ch.noteFlapping(news)
		ch.shareJoinLocked(member)
	}
	ch.subs++
	ch.app.tally.entered(ch, member.ID)
	ch.hookEnteredLocked(member.ID)
	return news
}

// successLocked is the subscription_succeeded frame for a subscriber that
// joins now, as member self of a presence channel. outcome is what it is told of
// its replay, JSON, or "".
func (ch *channel) successLocked(self, outcome string) []byte {
	if ch.success != nil && outcome == "" {
		return ch.success
	}
	data := []byte("{}")
	if ch.kind.Has(pusher.Presence) {
		data = ch.members.Snapshot(self, len(outcome)+16)
	}
	if outcome != "" {
		data = data[:len(data)-1]
		if len(data) > 1 {
			data = append(data, ',')
		}
		data = append(append(append(data, `"replay":`...), outcome...), '}')
	}
	// Every quote of the data is escaped inside the frame's data string.
	frame := make([]byte, 0, len(data)*5/4+len(ch.name)+128)
	return textFrame(pusher.AppendSubscriptionSucceeded(frame, ch.name, string(data)))
}

// repeatSuccess is what answers a second subscription like the first, for apps
// that ask for it.
func (ch *channel) repeatSuccess(self string) []byte {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.successLocked(self, "")
}

// afterSuccessLocked is the frame that follows success on a cache channel:
// the cached event or cache_miss. Nil on other channels.
func (ch *channel) afterSuccessLocked() []byte {
	if !ch.kind.Has(pusher.Cache) {
		return nil
	}
	if _, fresh := ch.app.remaining(*ch.cached, time.Now()); fresh {
		return socket.Frame(ch.cached.Frame)
	}
	if ch.hooks != nil {
		ch.hooks.Tell(pusher.WebhookEvent{Name: pusher.WebhookCacheMiss})
	}
	return textFrame(pusher.AppendCacheMiss(nil, ch.name))
}

// leave ends a subscription.
func (ch *channel) leave(m *fanout.Member, sub *subscription) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.subs--
	ch.group.Leave(m, &sub.Seat)
	now := time.Now()
	if ch.members != nil {
		news := ch.members.Leave(sub.Name, now)
		ch.noteFlapping(news)
		ch.tellNewsLocked(sub.Name, news, now)
		ch.shareLeaveLocked(sub.Name)
	}
	ch.app.tally.left(ch, sub.Name)
	ch.hookLeftLocked(sub.Name)
	ch.subsChangedLocked(now)
}

func (ch *channel) info() ChannelInfo {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	info := ChannelInfo{Subscriptions: ch.subs}
	if ch.members != nil {
		info.Users = ch.members.Len()
	}
	return info
}

// memberIDs returns the ids of the members, of no channel too.
func (ch *channel) memberIDs() []string {
	if ch == nil || ch.members == nil {
		return []string{}
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return sorted(ch.members.IDs())
}

func sorted(ids []string) []string {
	slices.Sort(ids)
	return ids
}

// textFrame makes a wire frame of a JSON text.
func textFrame(text []byte) []byte { return socket.Frame(text) }

// positionedFrame is the wire frame of an event with its position.
func positionedFrame(frame []byte, p replay.Position) []byte {
	var scratch [64]byte
	text := socket.Payload(frame)
	return textFrame(pusher.AppendPositioned(make([]byte, 0, len(text)+80), text, p.AppendTo(scratch[:0])))
}
