package edge

import (
	"container/list"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"reecho/broker"
	"reecho/edge/fanout"
	"reecho/edge/pusher"
	"reecho/edge/roster"
	"reecho/edge/socket"
	"reecho/replay"
)

// channel is one channel of one app while this node has, or lately had,
// subscribers of it. Its mutex orders what subscribers see: everything that is
// pushed to the shards is pushed under it, so a snapshot and the events around
// it agree.
type channel struct {
	hub  *Hub
	app  *Tenant
	name string
	kind pusher.Kind

	// success is the confirmation of every subscription, nil on presence
	// channels, where each gets its own.
	success []byte
	// positions of this channel; retained is false if nothing of it is kept.
	positions replay.Positions
	retained  bool
	// Guarded by the channels stripe of app.
	refs      int       // subscriptions, and those on their way
	idleSince time.Time // when refs became 0

	// Guarded by lingering of hub.
	idle *list.Element // nil while somebody is on the channel

	mu        sync.Mutex
	tail      *replay.Tail  // nil until attached
	attaching chan struct{} // closed when the attempt under way ended; else nil
	subs      int
	group     fanout.Group   // the subscribers as the shards see them
	members   *roster.Roster // presence channels; else nil
	// cached is the newest stored event of a cache channel; else nil.
	cached *broker.Event
	// ring holds recent events for clients that come back.
	ring  replay.Ring
	share replay.Share
	// extending is closed when the extension of the ring under way has ended;
	// nil if there is none.
	extending chan struct{}
	count     subscriptionCount
}

var _ replay.Sink = (*channel)(nil)

// subscription is a client's place on a channel. On presence channels the name of
// the seat is the member; alerts are of gaps. It joined at the sequence up to which
// the client has got what it missed, by replay, or was not to get it.
type subscription struct {
	ch *channel
	fanout.Seat
}

func newChannel(h *Hub, a *Tenant, name string) *channel {
	ch := &channel{
		hub: h, app: a, name: name, kind: pusher.KindOf(name),
		group:     h.pool.NewGroup(),
		positions: replay.NewPositions(h.broker.Epoch(a.ID, name), a.ID, name),
		retained:  !h.broker.Retention(a.ID, name).Off,
	}
	ch.share.Evict = ch.dropRing
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
	tail, err := ch.hub.follower.Open(ctx, ch.app.ID, ch.name, ch)
	ch.mu.Lock()
	defer ch.mu.Unlock()
	close(ch.attaching)
	ch.attaching = nil
	if err != nil {
		return err
	}
	ch.tail = tail
	return nil
}

// Start implements replay.Sink.
func (ch *channel) Start(last broker.Event) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.kind.Has(pusher.Cache) {
		*ch.cached = last
	}
	ch.ring.Start(last.Sequence)
}

// Deliver implements replay.Sink.
func (ch *channel) Deliver(ev broker.Event) {
	except, _, _ := pusher.ParseSocketID(ev.Exclude)
	e := fanout.Event{Frame: socket.Frame(ev.Frame), Except: except, Sequence: ev.Sequence}
	ch.mu.Lock()
	if ev.Sequence != 0 {
		ch.keepLocked(&ev, &e)
	}
	ch.group.Publish(e)
	ch.mu.Unlock()
	ch.hub.memory.Reclaim()
}

// keepLocked remembers a stored event for later subscribers and makes its
// positioned frame if somebody wants it now.
func (ch *channel) keepLocked(ev *broker.Event, e *fanout.Event) {
	if ch.kind.Has(pusher.Cache) {
		*ch.cached = *ev
	}
	kept := replay.Entry{Sequence: ev.Sequence, Exclude: ev.Exclude, Frame: e.Frame}
	if ch.group.Positioned() {
		kept.Positioned = ch.positionedFrame(&kept)
		e.Positioned = kept.Positioned
	}
	ch.ring.Append(kept)
	ch.ringChangedLocked()
}

// ringChangedLocked keeps the ring within what one replay may hold.
func (ch *channel) ringChangedLocked() {
	// Twice the limit in bytes: they are counted with what an entry costs.
	ch.ring.Trim(ch.app.Limits.ReplayEvents, 2*ch.app.Limits.ReplayBytes)
	ch.hub.memory.Use(&ch.share, ch.ring.Bytes())
}

func (ch *channel) dropRing() {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.ring.Trim(0, 0)
	ch.hub.memory.Use(&ch.share, 0)
}

// positionedFrame is the wire frame of an event with its position.
func (ch *channel) positionedFrame(e *replay.Entry) []byte {
	var scratch [64]byte
	text := socket.Payload(e.Frame)
	return textFrame(pusher.AppendPositioned(make([]byte, 0, len(text)+80), text, ch.positions.Append(scratch[:0], e.Sequence)))
}

// position is the sequence of the newest event delivered.
func (ch *channel) position() uint64 {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.ring.Pos()
}

// limits of a replay from this channel.
func (ch *channel) limits() replay.Limits {
	kept := ch.hub.broker.Retention(ch.app.ID, ch.name)
	return replay.Limits{
		PerChannel: int(kept.EventsPerChannel), MaxAge: kept.MaxAge, MaxBytes: kept.MaxBytes,
		Events: ch.app.Limits.ReplayEvents, Bytes: ch.app.Limits.ReplayBytes,
	}
}

// retention asks what the stream holds, how many events of the channel, and for
// the newest sequence it ever assigned; the number of newer events is the
// caller's to add.
func (ch *channel) retention(ctx context.Context) (r replay.Retained, count int, last uint64, err error) {
	first, count, err := ch.hub.broker.Span(ctx, ch.app.ID, ch.name)
	if err != nil {
		return r, 0, 0, err
	}
	state, err := ch.hub.broker.State(ctx, ch.app.ID, ch.name)
	if err != nil {
		return r, 0, 0, err
	}
	r = replay.RetainedOf(state)
	r.First = first.Sequence
	return r, count, state.Last, nil
}

// coming is how many events above a sequence, up to limit, the stream has that
// may not have come to this node yet.
func (ch *channel) coming(ctx context.Context, after uint64, limit int) (int, error) {
	last, found, err := ch.hub.broker.Last(ctx, ch.app.ID, ch.name)
	if err != nil || !found || last.Sequence <= after {
		return 0, err
	}
	n := 0
	for more := true; more && n < limit; {
		var events []broker.Event
		if events, more, err = ch.hub.broker.Read(ctx, ch.app.ID, ch.name, after+1, limit-n); err != nil || len(events) == 0 {
			return n, err
		}
		n, after = n+len(events), events[len(events)-1].Sequence
	}
	return n, nil
}

// lockExtending waits for its turn to extend the ring, which release ends. One
// at a time: clients that come back together mostly miss the same.
func (ch *channel) lockExtending(ctx context.Context) (release func(), err error) {
	for {
		ch.mu.Lock()
		busy := ch.extending
		if busy == nil {
			ch.extending = make(chan struct{})
			ch.mu.Unlock()
			return ch.unlockExtending, nil
		}
		ch.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the events of %q: %w", ch.name, ctx.Err())
		}
	}
}

func (ch *channel) unlockExtending() {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	close(ch.extending)
	ch.extending = nil
}

// findEnd makes the position known of a channel of which nothing is retained,
// or of which this node lost track.
func (ch *channel) findEnd(ctx context.Context) error {
	// In this order: what is stored after the state was asked for has a
	// higher sequence or shows in Last.
	state, err := ch.hub.broker.State(ctx, ch.app.ID, ch.name)
	if err != nil {
		return err
	}
	last, found, err := ch.hub.broker.Last(ctx, ch.app.ID, ch.name)
	if err != nil {
		return err
	}
	ch.mu.Lock()
	if !found {
		ch.ring.Found(max(state.Last, ch.ring.Pos()))
	} else if last.Sequence <= ch.ring.Pos() {
		ch.ring.Found(ch.ring.Pos())
	}
	known := ch.ring.Known()
	ch.mu.Unlock()
	if known {
		return nil
	}
	ch.tail.Nudge(last.Sequence)
	return poll(ctx, func() bool {
		ch.mu.Lock()
		defer ch.mu.Unlock()
		return ch.ring.Known()
	})
}

// Gap implements replay.Sink: events were trimmed before this node got them.
// Subscribers that count on replay are told.
func (ch *channel) Gap(reason replay.Reason) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	// What the ring has no longer reaches the present.
	ch.ring.Break()
	ch.ringChangedLocked()
	ch.group.Alert(textFrame(pusher.AppendResumed(nil, ch.name, 0, string(reason))))
}

// send delivers an event that is not stored (a client event) to this node's
// other subscribers.
func (ch *channel) send(frame []byte, except pusher.SocketID) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.group.Publish(fanout.Event{Frame: frame, Except: except})
}

// join subscribes c. member is set on presence channels. The error is for the
// client; nothing has changed then. The channel must be attached.
func (ch *channel) join(c *client, member pusher.Member) (*subscription, *pusher.Error) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if refusal := ch.refuseLocked(member); refusal != nil {
		return nil, refusal
	}
	sub := &subscription{ch: ch, Seat: fanout.Seat{Name: member.ID}}
	now := time.Now()
	news := ch.enterLocked(member, now)
	ch.group.Join(&c.Member, &sub.Seat, [][]byte{ch.successLocked(member.ID, ""), ch.afterSuccessLocked()}, nil)
	ch.welcomeLocked(c, sub, news, now)
	return sub, nil
}

// refuseLocked is not nil if the channel is full for a member.
func (ch *channel) refuseLocked(member pusher.Member) *pusher.Error {
	limit := ch.app.Limits.PresenceMembers
	if !ch.kind.Has(pusher.Presence) || ch.members.Len() < limit || ch.members.Has(member.ID) {
		return nil
	}
	return pusher.Errorf(0, "Channel %s is full: a presence channel holds %d members (presence_members)", ch.name, limit)
}

// enterLocked counts a subscriber, and returns what is new to the others.
func (ch *channel) enterLocked(member pusher.Member, now time.Time) (news roster.News) {
	if ch.kind.Has(pusher.Presence) {
		news = ch.members.Join(member.ID, member.Info, now)
	}
	ch.subs++
	return news
}

// welcomeLocked makes a subscriber that has just joined the group one of its
// session and tells the others.
func (ch *channel) welcomeLocked(c *client, sub *subscription, news roster.News, now time.Time) {
	if c.session != nil {
		c.Do(func() { c.session.acks.joined(sub) })
	}
	ch.tellNewsLocked(sub.Name, news, now)
	ch.countChangedLocked(now)
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

// repeatSuccess answers a second subscription like the first, for apps that
// ask for it.
func (ch *channel) repeatSuccess(c *client, self string) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	c.Reply(ch.successLocked(self, ""))
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
	return textFrame(pusher.AppendCacheMiss(nil, ch.name))
}

// leave ends a subscription.
func (ch *channel) leave(c *client, sub *subscription) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.subs--
	ch.group.Leave(&c.Member, &sub.Seat)
	if c.session != nil {
		c.Do(func() { c.session.acks.left(sub) })
	}
	now := time.Now()
	if ch.kind.Has(pusher.Presence) {
		ch.tellNewsLocked(sub.Name, ch.members.Leave(sub.Name, now), now)
	}
	ch.countChangedLocked(now)
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
	ch.dropRing()
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

func (ch *channel) memberIDs() []string {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.members == nil {
		return []string{}
	}
	ids := ch.members.IDs()
	slices.Sort(ids)
	return ids
}

// textFrame makes a wire frame of a JSON text.
func textFrame(text []byte) []byte { return socket.Frame(text) }
