package edge

import (
	"log/slog"
	"time"

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
	c.app.node.pool.Wait()
	c.Received(len(payload))
	if c.tooLarge(len(payload)) {
		return nil
	}
	if over := c.overRate(len(payload)); over != nil {
		return c.limitRate(payload, over)
	}
	m, err := pusher.DecodeMessage(payload)
	// A pong is what the server asked for, of a session every second.
	if m.Event != commandPong {
		if over := c.overWindow(); over != nil {
			return c.limitRate(payload, over)
		}
	}
	if err != nil {
		c.fail(pusher.Errorf(0, "Invalid message: %v", err))
		return nil
	}
	return c.handle(m)
}

// handle does what a message asks for. For a client with a session it does not wait
// itself, and the messages that come meanwhile do, but not pings and pongs.
func (c *client) handle(m pusher.Message) (wait func()) {
	if c.acks == nil || m.Event == commandPing || m.Event == commandPong {
		return c.do(m)
	}
	kept, full := c.acks.backlog.keep(m)
	switch {
	case full != nil:
		m = own(m)
		return func() {
			<-full
			if again := c.handle(m); again != nil {
				again()
			}
		}
	case kept:
		return nil
	}
	if wait = c.do(m); wait != nil {
		c.acks.backlog.run(wait, c.do)
	}
	return nil
}

// do is handle when it is the message's turn.
func (c *client) do(m pusher.Message) (wait func()) {
	switch m.Event {
	case commandPing:
		c.Reply(pongFrame)
	case commandPong:
		if c.acks != nil {
			c.Do(c.acks.ponged)
		}
	case commandSubscribe:
		return c.subscribe(m.Data)
	case commandUnsubscribe:
		c.unsubscribe(m.Data)
	case commandSignin:
		return c.signin(m.Data)
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
	c.app.node.pool.Wait()
	c.Received(bytes)
	if c.tooLarge(bytes) {
		return nil
	}
	over := c.overRate(bytes)
	if over == nil {
		over = c.overWindow()
	}
	if over != nil {
		if c.app.CloseAboveRate {
			return c.closeAboveRate(over)
		}
		c.fail(over)
		return c.afterRefusal(bytes)
	}
	c.fail(pusher.Errorf(0, "Binary messages are not supported, send JSON text"))
	return nil
}

func (c *client) signin(data []byte) (wait func()) {
	if !c.app.UserAuthentication {
		c.fail(pusher.Errorf(0, "User authentication is not enabled for this app"))
		return nil
	}
	in, err := pusher.DecodeSignin(data)
	if err != nil {
		c.fail(pusher.Errorf(0, "Invalid sign-in: %v", err))
		return nil
	}
	who, authorized := c.authorizeUser(in)
	if !authorized {
		return nil
	}
	if c.signedIn != nil {
		c.signinAgain(who, in.UserData)
		return nil
	}
	return c.signIn(who, in.UserData)
}

// authorizeUser checks a sign-in for this connection, or for the one that the client goes
// on from, which must have been the user's; what is refused is answered.
func (c *client) authorizeUser(in pusher.Signin) (who pusher.User, authorized bool) {
	earlier := in.Grant != nil && in.Grant.Earlier
	id, refused := c.authorizedID(in.Grant)
	if refused != "" {
		c.refuseGrant("", refused)
		return who, false
	}
	who, refusal := c.app.CheckSignin(id, in)
	switch {
	case refusal != nil && earlier:
		c.refuseGrant("", refusal.Message)
	case refusal != nil:
		c.app.tally.failures[failedSignin].Add(1)
		c.fail(refusal)
	case earlier && who.ID != c.standing.Load().from.User:
		c.refuseGrant("", "Nobody, or another user, was signed in on the connection of the grant")
		return who, false
	case earlier:
		c.Reply(textFrame(pusher.AppendGranted(nil, "", pusher.UserAuthFor(c.app, c.ID(), in))))
	}
	return who, refusal == nil
}

// signIn is the first sign-in of a connection. It waits for other nodes if the client
// watches users whom nobody here watched.
func (c *client) signIn(who pusher.User, userData string) (wait func()) {
	c.authorized.Store(true)
	watchlist, excess := c.watchlist(who)
	var watch bool
	c.signedIn, watch = c.app.users.signIn(c, who, userData, watchlist)
	c.standAs(who.ID)
	// Behind it, so that a termination finds the connection or is found.
	if now := time.Now(); c.app.terminations.catches(who.ID, c.opened(now), now) {
		c.closeWith(terminatedByApp())
	}
	if excess {
		c.app.node.cfg.Ledger.Count(limit.Watchlist)
		c.fail(pusher.Errorf(pusher.CodeWatchlistLimit, "Watchlist limit exceeded: the first %d users are watched (watchlist_users)", len(watchlist)))
	}
	if !watch {
		return nil
	}
	return func() {
		ctx, end := c.work.begin(c.app.node.ctx)
		defer end()
		c.app.users.watch(ctx, c, watchlist)
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
	c.app.tally.whispers.Add(1)
	// An unsubscribed sender has no user id, and perhaps no other subscriber here.
	var userID string
	var ch *channel
	if sub != nil {
		userID, ch = sub.Name, sub.ch
	} else {
		ch = c.app.channels.find(m.Channel)
	}
	text := pusher.AppendEvent(make([]byte, 0, len(data)+len(data)/4+len(m.Event)+len(m.Channel)+64),
		m.Channel, m.Event, data, userID)
	if ch != nil {
		ch.send(textFrame(text), c.ID())
	}
	if hooks := c.app.hooksOf(ch, m.Channel); hooks != nil {
		hooks.Tell(pusher.WebhookEvent{Name: pusher.WebhookClientEvent, Event: m.Event, Data: data, SocketID: c.ID().String(), UserID: userID})
	}
	node := c.app.node
	if node.exchange != nil && sub != nil && sub.ch.members != nil {
		// Other nodes shall know of the sender first.
		node.exchange.Flush()
	}
	if err := node.broker.PublishEphemeral(broker.Ref{App: c.app.ID, Channel: m.Channel}, text, c.ID().String()); err != nil {
		node.log.Debug("client event did not reach other nodes", slog.Any("error", err))
	}
}

// checkClientEvent applies PROTOCOL §2.6 to an event with the data that others
// would get. The sender's user id comes from its subscription, never from the
// frame. The subscription is nil if the client has none and may send all the same.
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
		c.app.node.cfg.Ledger.Count(limit.ClientEventData)
		return nil, pusher.Errorf(0, "Client event rejected: its data is %d bytes, limit %d (client_event_data_bytes)", len(data), limits.ClientEventDataBytes)
	}
	sub := c.find(m.Channel)
	if sub == nil {
		if !c.app.UnsubscribedClientEvents {
			return nil, pusher.Errorf(0, "Client event rejected: not subscribed to channel %s", pusher.Cut(m.Channel))
		}
		if err := pusher.CheckChannel(m.Channel, limits.ChannelNameLength); err != nil {
			return nil, pusher.Errorf(0, "Client event rejected: %v", err)
		}
	}
	if n := limits.ClientEventsPerSecond; n > 0 && !c.rate.Take(1, n, n, time.Now()) {
		return nil, c.overLimit(pusher.CodeClientEventRejected, limit.ClientEvents, "Client event rejected: the limit of %d events a second is reached (%s)", n)
	}
	return sub, nil
}
