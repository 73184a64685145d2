package edge

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"reecho/edge/fanout"
	"reecho/edge/limit"
	"reecho/edge/pusher"
	"reecho/edge/socket"
)

// indexedSubscriptions is the number of subscriptions from which a client
// looks them up in a map.
const indexedSubscriptions = 16

// client is one connection. Idle connections are what a server has most of, so
// the struct is kept small.
type client struct {
	fanout.Member
	app *Tenant

	// Owned by the shard.
	pingAt    uint32 // seconds of the hub's clock: when the next ping is due
	openedAt  uint32 // ms of the hub's clock, of which the upper bits are cut; never changes
	place     uint64 // see placeOf; never changes
	pinged    bool
	protocol  uint8     // never changes
	transport Transport // never changes

	// authorized is set once and read by the shard.
	authorized atomic.Bool
	// standing is nil while the client has not asked for grants. It is set by the
	// goroutine that handles the connection's messages.
	standing atomic.Pointer[standing]

	// Owned by the goroutine that handles the connection's messages.
	subs     []*subscription
	byName   map[string]*subscription // nil below indexedSubscriptions
	signedIn *signedIn                // nil until sign-in
	rate     limit.Bucket             // of client events
	messages limit.Bucket             // of messages
	bytes    limit.Bucket             // of their bytes
	window   *limit.Window            // of messages; nil until the first of an app that has such a limit

	// acks is nil for clients without a session; it never changes.
	acks *acks

	// work is what is done for the client; address is whose turn it takes, and
	// never changes.
	work    work
	address netip.Addr
}

var (
	_ fanout.Owner           = (*client)(nil)
	_ socket.Receiver        = (*client)(nil)
	_ socket.BinaryReceiver  = (*client)(nil)
	_ socket.ControlReceiver = (*client)(nil)
	_ socket.LimitedReceiver = (*client)(nil)
)

// Closed implements socket.Receiver: everything the client was part of forgets
// it, when nothing is done for it any more.
func (c *client) Closed(err error) {
	if c.acks == nil {
		c.forget(err)
		return
	}
	c.work.stop()
	c.acks.backlog.end(func() { c.forget(err) })
}

// forget makes everything the client was part of forget it.
func (c *client) forget(err error) {
	for _, sub := range c.subs {
		c.leave(sub)
	}
	c.subs, c.byName = nil, nil
	if c.signedIn != nil {
		c.app.users.signOut(c, c.signedIn)
	}
	c.leaveLeads()
	c.app.connections.Add(-1)
	c.app.tally.open[c.transport].Add(-1)
	node := c.app.node
	node.traffic.end(err)
	node.pool.Remove(c)
	if c.acks != nil {
		c.acks.hold.Release(time.Now())
	}
	if node.log.Enabled(context.Background(), slog.LevelDebug) {
		node.log.Debug("connection closed", slog.String("app", c.app.ID),
			slog.String("socket_id", c.ID().String()), slog.Any("reason", err))
	}
	node.census.leave()
}

// fail tells the client what was wrong with a message; the connection stays.
func (c *client) fail(e *pusher.Error) {
	if e.Limit != "" {
		c.app.node.cfg.Ledger.Count(limit.Reason(e.Limit))
	}
	c.Reply(textFrame(pusher.AppendError(nil, e, "")))
}

// closeWith closes the connection with a code of PROTOCOL §2.1. Protocol
// versions below 6 are told in a frame first.
func (c *client) closeWith(e *pusher.Error) {
	if c.protocol < 6 {
		_ = c.Conn().Send([][]byte{textFrame(pusher.AppendError(nil, e, ""))})
	}
	c.Conn().Close(e.Code, e.Message)
	c.work.stop()
}

// Tick implements fanout.Owner: it looks at the client's clocks.
func (c *client) Tick(now time.Time) {
	idle := c.Conn().Tick(now)
	switch {
	case idle >= c.app.ActivityTimeout+c.app.node.cfg.PongTimeout:
		c.app.node.cfg.Ledger.Count(limit.PongTimeout)
		c.closeWith(pusher.Errorf(pusher.CodePongTimeout, "Pong reply not received"))
	case idle < c.app.ActivityTimeout:
		c.pinged = false
	case !c.pinged:
		c.pinged = true
		c.Conn().Ping()
	}
	c.breakSilence(now)
	c.renewGrant(now)
	if c.acks != nil {
		c.acks.tick(now)
	}
	if c.app.AuthorizedConnections && !c.authorized.Load() && now.Sub(c.opened(now)) >= c.app.AuthorizationTimeout {
		c.app.node.cfg.Ledger.Count(limit.AuthTimeout)
		c.closeWith(pusher.Errorf(pusher.CodeUnauthorized, "Connection not authorized within timeout"))
	}
}

// opened is when the connection was opened, or something later after 49 days.
func (c *client) opened(now time.Time) time.Time {
	return now.Add(-time.Duration(c.app.node.milliseconds(now)-c.openedAt) * time.Millisecond)
}

// breakSilence pings a client that may have heard nothing for the interval. It
// asks no clock when something is sent: a ping among events costs little, and
// the fan-out nothing.
func (c *client) breakSilence(now time.Time) {
	node := c.app.node
	at := seconds(now.Sub(node.started))
	interval := c.app.pingInterval()
	if interval == 0 || at < c.pingAt {
		return
	}
	c.pingAt = at + max(1, seconds(interval))
	// What waits for the peer to read is no silence.
	if c.Conn().Queued() == 0 {
		c.Conn().Ping()
	}
}

// firstPing is when, on the hub's clock, a client that is new gets its first
// ping: at random in the last two fifths of the interval, so that clients which
// came together are not pinged together for ever.
func (t *Tenant) firstPing(id pusher.SocketID, now time.Time) uint32 {
	fifth := t.pingInterval() / 5
	return seconds(now.Sub(t.node.started) + 3*fifth + time.Duration(2*float64(fifth)*float64(id.A)/(1<<32)))
}

// pingInterval is the app's, or the server's.
func (t *Tenant) pingInterval() time.Duration { return cmp.Or(t.PingInterval, t.node.cfg.PingInterval) }

// milliseconds is the hub's clock, of which the upper bits are cut.
func (n *services) milliseconds(now time.Time) uint32 {
	return uint32(now.Sub(n.started) / time.Millisecond)
}

func seconds(d time.Duration) uint32 {
	return uint32(d / time.Second)
}

// find returns the client's subscription to the channel called name, or nil.
func (c *client) find(name string) *subscription {
	if c.byName != nil {
		return c.byName[name]
	}
	for _, sub := range c.subs {
		if sub.ch.name == name {
			return sub
		}
	}
	return nil
}

func (c *client) add(sub *subscription) {
	c.subs = append(c.subs, sub)
	switch {
	case c.byName != nil:
		c.byName[sub.ch.name] = sub
	case len(c.subs) == indexedSubscriptions:
		c.byName = make(map[string]*subscription, 2*indexedSubscriptions)
		for _, s := range c.subs {
			c.byName[s.ch.name] = s
		}
	}
}

func (c *client) remove(sub *subscription) {
	delete(c.byName, sub.ch.name)
	end := len(c.subs) - 1
	for i, s := range c.subs {
		if s == sub {
			c.subs[i], c.subs[end] = c.subs[end], nil
			c.subs = c.subs[:end]
			return
		}
	}
}
