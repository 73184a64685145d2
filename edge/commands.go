package edge

import (
	"context"
	"log/slog"
	"net/http"
	"time"
	"unicode/utf8"

	"reecho/broker"
	"reecho/edge/limit"
	"reecho/edge/pusher"
)

// Names of the commands a client may send (PROTOCOL §2).
const (
	commandPing        = "pusher:ping"
	commandPong        = "pusher:pong"
	commandSubscribe   = "pusher:subscribe"
	commandUnsubscribe = "pusher:unsubscribe"
	commandSignin      = "pusher:signin"
)

var pongFrame = textFrame(pusher.AppendPong(nil))

// Message implements socket.Receiver.
func (c *client) Message(payload []byte) (wait func()) {
	c.app.channels.hub.pool.Wait()
	if over := c.overRate(len(payload)); over != nil {
		return c.limitRate(payload, over)
	}
	m, err := pusher.DecodeMessage(payload)
	if err != nil {
		c.fail(pusher.Errorf(0, "Invalid message: %v", err))
		return nil
	}
	return c.handle(m)
}

// handle does what a message asks for.
func (c *client) handle(m pusher.Message) (wait func()) {
	switch m.Event {
	case commandPing:
		c.Reply(pongFrame)
	case commandPong:
		if c.session != nil {
			c.Do(c.session.acks.ponged)
		}
	case commandSubscribe:
		return c.subscribe(m.Data)
	case commandUnsubscribe:
		c.unsubscribe(m.Data)
	case commandSignin:
		c.signin(m.Data)
	default:
		if pusher.IsClientEvent(m.Event) {
			c.clientEvent(m)
			return nil
		}
		c.fail(pusher.Errorf(0, "Unsupported event received on socket: %s", pusher.Cut(m.Event)))
	}
	return nil
}

// Binary implements socket.BinaryReceiver: the protocol has no binary
// messages (PROTOCOL §1.4).
func (c *client) Binary(bytes int) (wait func()) {
	c.app.channels.hub.pool.Wait()
	if over := c.overRate(bytes); over != nil {
		c.fail(over)
		return c.afterRefusal()
	}
	c.fail(pusher.Errorf(0, "Binary messages are not supported, send JSON text"))
	return nil
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
	member, refusal := c.authorize(in)
	if refusal != nil {
		c.refuse(in.Channel, refusal, http.StatusUnauthorized)
		return nil
	}
	ch := c.app.channels.admit(in.Channel, len(c.subs))
	if ch == nil {
		c.refuse(in.Channel, c.overLimit(0, limit.ChannelMemory, "The server's limit of %d bytes for channels is near: it takes no more of them from this connection (%s)",
			c.app.channels.hub.cfg.ChannelMemory), http.StatusServiceUnavailable)
		return nil
	}
	if r := c.newResume(ch, member, in.Replay); r != nil {
		r.confirm = confirm
		if r.try() {
			return nil
		}
		return r.run
	}
	if ch.attached() {
		c.join(ch, member)
		return nil
	}
	return func() { c.joinWhenAttached(ch, member) }
}

func (c *client) subscribeAgain(known *subscription) {
	if c.app.LenientSubscribe {
		known.ch.repeatSuccess(c, known.Name)
		return
	}
	c.fail(pusher.Errorf(0, "Existing subscription to channel %s", known.ch.name))
}

// authorize checks that the client may subscribe and returns who it is on a
// presence channel.
func (c *client) authorize(in pusher.Subscribe) (pusher.Member, *pusher.Error) {
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
	if refusal := pusher.CheckChannelAuth(c.app, c.ID(), in); refusal != nil {
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

func (c *client) join(ch *channel, member pusher.Member) {
	sub, refusal := ch.join(c, member)
	if refusal != nil {
		c.app.channels.release(ch)
		c.refuse(ch.name, refusal, http.StatusForbidden)
		return
	}
	c.add(sub)
}

// joinWhenAttached runs while the connection's reading is paused. A channel
// that cannot be followed closes the connection so that the client comes back
// by itself: pusher-js never repeats a subscription on its own.
func (c *client) joinWhenAttached(ch *channel, member pusher.Member) {
	doing, end := c.work.begin(c.app.channels.hub.ctx)
	defer end()
	ctx, cancel := context.WithTimeout(doing, attachTimeout)
	defer cancel()
	if err := ch.attach(ctx); err != nil {
		c.cannotFollow(ch, err)
		return
	}
	c.join(ch, member)
}

// cannotFollow gives up on a channel, and on the connection unless it is gone.
func (c *client) cannotFollow(ch *channel, err error) {
	c.app.channels.release(ch)
	if c.work.stopped() {
		return
	}
	ch.hub.lines.Warn("cannot follow a channel", slog.String("app", c.app.ID),
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
	sub.ch.leave(c, sub)
	c.remove(sub)
	c.app.channels.release(sub.ch)
	if c.session != nil {
		c.session.forget(name)
	}
}

func (c *client) signin(data []byte) {
	if !c.app.UserAuthentication {
		c.fail(pusher.Errorf(0, "User authentication is not enabled for this app"))
		return
	}
	in, err := pusher.DecodeSignin(data)
	if err != nil {
		c.fail(pusher.Errorf(0, "Invalid sign-in: %v", err))
		return
	}
	who, refusal := c.app.CheckSignin(c.ID(), in)
	if refusal != nil {
		c.fail(refusal)
		return
	}
	if c.signedIn != nil {
		c.signinAgain(who, in.UserData)
		return
	}
	c.signIn(who, in.UserData)
}

// signIn is the first sign-in of a connection.
func (c *client) signIn(who pusher.User, userData string) {
	c.authorized.Store(true)
	watchlist, excess := c.watchlist(who)
	c.signedIn = c.app.users.signIn(c, who, userData, watchlist)
	if excess {
		c.fail(pusher.Errorf(pusher.CodeWatchlistLimit, "Watchlist limit exceeded: the first %d users are watched (watchlist_users)", len(watchlist)))
	}
}

func (c *client) signinAgain(who pusher.User, userData string) {
	if who.ID != c.signedIn.user.id {
		c.fail(pusher.Errorf(0, "Already signed in as user %s", c.signedIn.user.id))
		return
	}
	c.Reply(textFrame(pusher.AppendSigninSuccess(nil, userData)))
}

// watchlist is whom the client will watch, and whether users above the limit were
// left out.
func (c *client) watchlist(who pusher.User) (ids []string, excess bool) {
	limit := c.app.Limits.WatchlistUsers
	switch {
	case !c.app.Watchlist:
		return nil, false
	case len(who.Watchlist) > limit:
		return who.Watchlist[:limit], true
	}
	return who.Watchlist, false
}

// clientEvent passes a client event on to the channel's other subscribers.
func (c *client) clientEvent(m pusher.Message) {
	data := pusher.ClientEventData(m.Data)
	sub, refusal := c.checkClientEvent(m, data)
	if refusal != nil {
		c.fail(refusal)
		return
	}
	text := pusher.AppendEvent(make([]byte, 0, len(data)+len(data)/4+len(m.Event)+len(m.Channel)+64),
		m.Channel, m.Event, data, sub.Name)
	sub.ch.send(textFrame(text), c.ID())
	hub := c.app.channels.hub
	if err := hub.broker.PublishEphemeral(broker.Ref{App: c.app.ID, Channel: m.Channel}, text, c.ID().String()); err != nil {
		hub.log.Debug("client event did not reach other nodes", slog.Any("error", err))
	}
}

// checkClientEvent applies PROTOCOL §2.6 to an event with the data that others
// would get. The sender's user id comes from its subscription, never from the
// frame.
func (c *client) checkClientEvent(m pusher.Message, data string) (*subscription, *pusher.Error) {
	limits := &c.app.Limits
	kind := pusher.KindOf(m.Channel)
	switch {
	case !c.app.ClientEvents:
		return nil, pusher.Errorf(pusher.CodeClientEventRejected, "Client events are not enabled for this app")
	case !kind.Has(pusher.Private):
		return nil, pusher.Errorf(0, "Client event rejected: only private and presence channels take client events")
	}
	if err := pusher.CheckEvent(m.Event, limits.EventNameLength); err != nil {
		return nil, pusher.Errorf(0, "Client event rejected: %v", err)
	}
	if len(data) > limits.ClientEventDataBytes {
		return nil, pusher.Errorf(0, "Client event rejected: its data is %d bytes, limit %d (client_event_data_bytes)", len(data), limits.ClientEventDataBytes)
	}
	sub := c.find(m.Channel)
	if sub == nil {
		return nil, pusher.Errorf(0, "Client event rejected: not subscribed to channel %s", pusher.Cut(m.Channel))
	}
	if n := limits.ClientEventsPerSecond; n > 0 && !c.rate.Take(1, n, n, time.Now()) {
		return nil, c.overLimit(pusher.CodeClientEventRejected, limit.ClientEvents, "Client event rejected: the limit of %d events a second is reached (%s)", n)
	}
	return sub, nil
}
