package edge

import (
	"context"
	"log/slog"
	"net/http"
	"time"
	"unicode/utf8"

	"reecho/edge/fanout"
	"reecho/edge/limit"
	"reecho/edge/pusher"
)

// attachTimeout bounds the first subscription to a channel, and the reading of a
// session: what they need from the broker is local or a round trip away.
const attachTimeout = 10 * time.Second

// subscription is a client's place on a channel. On presence channels the name of
// the seat is the member; alerts are of gaps. It joined at the sequence up to which
// the client has got what it missed, by replay, or was not to get it.
type subscription struct {
	ch *channel
	fanout.Seat
}

// subscribe answers every request, with success or with an error. A channel
// that this node does not follow yet makes the client wait, and only this
// client.
func (c *client) subscribe(data []byte) (wait func()) {
	in, err := pusher.DecodeSubscribe(data)
	if err != nil {
		c.fail(pusher.Errorf(0, "Invalid subscription: %v", err))
		return nil
	}
	return c.subscribeTo(in, nil)
}

// subscribeTo is subscribe once the request is read; confirm, if not nil, makes
// what confirms a replay.
func (c *client) subscribeTo(in pusher.Subscribe, confirm Confirm) (wait func()) {
	if err := pusher.CheckChannel(in.Channel, c.app.Limits.ChannelNameLength); err != nil {
		c.refuse(in.Channel, pusher.Errorf(0, "Invalid channel name: %v", err), http.StatusBadRequest)
		return nil
	}
	if known := c.find(in.Channel); known != nil {
		c.subscribeAgain(known)
		return nil
	}
	if n := c.app.Limits.ChannelsPerConnection; n > 0 && len(c.subs) >= n {
		c.refuse(in.Channel, c.overLimit(0, limit.Subscriptions, "The limit of %d channels per connection is reached (%s)", n), http.StatusForbidden)
		return nil
	}
	member, authorized := c.authorizeOrRefuse(in)
	if !authorized {
		return nil
	}
	ch := c.app.channels.admit(in.Channel, len(c.subs))
	if ch == nil {
		c.refuse(in.Channel, c.overLimit(0, limit.ChannelMemory, "The server's limit of %d bytes for channels is near: it takes no more of them from this connection (%s)",
			c.app.node.cfg.ChannelMemory), http.StatusServiceUnavailable)
		return nil
	}
	if in.Replay != nil || c.acks != nil {
		j := &joining{c: c, ch: ch, member: member, ask: in.Replay, confirm: confirm}
		return j.start()
	}
	if ch.ready() {
		c.join(ch, member)
		return nil
	}
	return func() { c.joinWhenReady(ch, member) }
}

func (c *client) subscribeAgain(known *subscription) {
	if c.app.LenientSubscribe {
		c.Reply(known.ch.repeatSuccess(known.Name))
		return
	}
	c.fail(pusher.Errorf(0, "Existing subscription to channel %s", known.ch.name))
}

// authorizeOrRefuse is authorize for this connection, or for the one that the client goes
// on from; what is refused is answered.
func (c *client) authorizeOrRefuse(in pusher.Subscribe) (member pusher.Member, authorized bool) {
	earlier := in.Grant != nil && in.Grant.Earlier
	id, refused := c.authorizedID(in.Grant)
	if refused == "" && earlier && !c.mayGoOn() {
		refused = "Not signed in as on the connection of the grant"
	}
	if refused != "" {
		c.refuseGrant(in.Channel, refused)
		return member, false
	}
	member, refusal := c.authorize(id, in)
	switch {
	case refusal != nil && earlier:
		c.refuseGrant(in.Channel, refusal.Message)
	case refusal != nil:
		c.app.tally.failures[failedSubscription].Add(1)
		c.refuse(in.Channel, refusal, http.StatusUnauthorized)
	case earlier && pusher.KindOf(in.Channel).Has(pusher.Private):
		c.Reply(textFrame(pusher.AppendGranted(nil, in.Channel, pusher.AuthFor(c.app, c.ID(), in))))
	}
	return member, refusal == nil
}

// authorize checks that the client may subscribe, with what was signed for a socket id,
// and returns who it is on a presence channel.
func (c *client) authorize(id pusher.SocketID, in pusher.Subscribe) (pusher.Member, *pusher.Error) {
	kind := pusher.KindOf(in.Channel)
	if kind.Has(pusher.ServerToUser) {
		if id, _ := pusher.UserOfChannel(in.Channel); c.signedIn == nil || c.signedIn.user.id != id {
			return pusher.Member{}, pusher.Errorf(0, "Not signed in as the user of channel %s", in.Channel)
		}
		return pusher.Member{}, nil
	}
	if !kind.Has(pusher.Private) {
		return pusher.Member{}, nil
	}
	if refusal := pusher.CheckChannelAuth(c.app, id, in); refusal != nil {
		return pusher.Member{}, refusal
	}
	if !kind.Has(pusher.Presence) {
		c.authorized.Store(true)
		return pusher.Member{}, nil
	}
	member, refusal := c.member(in)
	if refusal == nil {
		c.authorized.Store(true)
	}
	return member, refusal
}

// member is the identity on a presence channel: from channel_data, else from
// the sign-in (PROTOCOL §2.5).
func (c *client) member(in pusher.Subscribe) (pusher.Member, *pusher.Error) {
	if !in.HasChannelData {
		if c.signedIn == nil {
			return pusher.Member{}, pusher.Errorf(0,
				"Subscription to %s needs channel_data with a user_id, or a signed-in user", in.Channel)
		}
		return pusher.Member{ID: c.signedIn.user.id, Info: c.signedIn.info}, nil
	}
	member, err := pusher.DecodeChannelData(in.ChannelData, c.app.Limits.UserIDLength, c.app.Limits.UserInfoBytes)
	if err != nil {
		return pusher.Member{}, pusher.Errorf(0, "Invalid channel_data for %s: %v", in.Channel, err)
	}
	return member, nil
}

// join is for clients as Pusher has them, which get what comes from now on.
func (c *client) join(ch *channel, member pusher.Member) {
	sub := &subscription{ch: ch, Seat: fanout.Seat{Name: member.ID}}
	refusal := ch.join(&c.Member, sub, member, nil, func() [][]byte {
		return [][]byte{ch.successLocked(member.ID, ""), ch.afterSuccessLocked()}
	})
	if refusal != nil {
		c.refused(ch, refusal)
		return
	}
	c.add(sub)
}

// refused gives up on a channel that did not take the client.
func (c *client) refused(ch *channel, refusal *pusher.Error) {
	c.app.channels.release(ch)
	c.refuse(ch.name, refusal, http.StatusForbidden)
}

// joinWhenReady runs while the connection's reading is paused. A channel
// that cannot be followed closes the connection so that the client comes back
// by itself: pusher-js never repeats a subscription on its own.
func (c *client) joinWhenReady(ch *channel, member pusher.Member) {
	doing, end := c.work.begin(c.app.node.ctx)
	defer end()
	ctx, cancel := context.WithTimeout(doing, attachTimeout)
	defer cancel()
	if err := ch.open(ctx); err != nil {
		c.cannotFollow(ch, err)
		return
	}
	c.join(ch, member)
}

// cannotFollow gives up on a channel, and on the connection unless it is gone.
func (c *client) cannotFollow(ch *channel, err error) {
	c.app.channels.release(ch)
	switch {
	case c.work.stopped():
		return
	case c.app.node.census.isClosing():
		c.closeWith(shuttingDown())
		return
	}
	c.app.node.lines.Warn("cannot follow a channel", slog.String("app", c.app.ID),
		slog.String("channel", ch.name), slog.Any("error", err))
	c.closeWith(pusher.Errorf(pusher.CodeOverCapacity, "The channel is not available at the moment, reconnect"))
}

// refuse answers a subscription with an error, and in the form soketi's users
// know if the app says so (PROTOCOL §2.3). That is told on the channel, so a name
// that no channel can have for its length alone is not repeated.
func (c *client) refuse(channel string, e *pusher.Error, status int) {
	c.fail(e)
	if c.app.SubscriptionErrors && utf8.RuneCountInString(channel) <= c.app.Limits.ChannelNameLength {
		c.Reply(textFrame(pusher.AppendSubscriptionError(nil, channel, e.Message, status)))
	}
}

func (c *client) unsubscribe(data []byte) {
	name, err := pusher.DecodeUnsubscribe(data)
	if err != nil {
		c.fail(pusher.Errorf(0, "Invalid unsubscription: %v", err))
		return
	}
	sub := c.find(name)
	if sub == nil {
		// pusher-java leaves its user channel whether it is on it or not.
		if pusher.KindOf(name).Has(pusher.ServerToUser) {
			return
		}
		c.fail(pusher.Errorf(0, "No current subscription to channel %s, or subscription in progress", pusher.Cut(name)))
		return
	}
	c.leave(sub)
	c.remove(sub)
	if c.acks != nil {
		c.acks.hold.Forget(name)
	}
}

// leave ends a subscription, but leaves it in the client's list.
func (c *client) leave(sub *subscription) {
	sub.ch.leave(&c.Member, sub)
	if c.acks != nil {
		c.Do(func() { c.acks.left(sub) })
	}
	c.app.channels.release(sub.ch)
}
