package edge

import (
	"net/netip"

	"reecho/edge/pusher"
	"reecho/edge/socket"
)

// Guest is a client that came through another door than the WebSocket's: its
// door speaks for it, and writes what is sent to its connection. SignIn,
// Subscribe and Leave are called one at a time.
type Guest struct{ client *client }

// Peer is the connection of a Guest.
type Peer struct {
	Conn    socket.Conn
	ID      pusher.SocketID
	Address netip.Addr // whose turn it takes where clients take turns
	// Authorized says that the door has checked an authorisation, see
	// app.App.AuthorizedConnections.
	Authorized bool
}

// Confirm makes the frames that tell a subscriber what came of its replay: what
// it has on the channel and how many events follow. returning says that it was
// on the channel before. The frames precede these events, in order with all else
// that the connection gets. It is called with a lock held and must not block.
type Confirm func(channel string, o pusher.Outcome, returning bool) [][]byte

// Attach makes a client of a connection, one of the app's and the hub's, if
// there is room. From then on the connection gets ticks, and a close when the
// hub closes, until Leave. The refusal, for the client, has the code
// CodeOverQuota, CodeOverCapacity (see count) or, from the hub's Close on,
// CodeReconnect.
func (h *Hub) Attach(a *Tenant, p Peer) (*Guest, *pusher.Error) {
	if refusal := a.count(); refusal != nil {
		h.node.traffic.refused.add(refusal.Code)
		return nil, refusal
	}
	c := newClient(a, p.Conn, p.ID, p.Address)
	c.transport = EventStream
	c.authorized.Store(p.Authorized)
	h.add(c)
	return &Guest{client: c}, nil
}

// SignIn makes the guest one of a user's connections, which Hub.Terminate
// closes. The door has checked who it is (Tenant.CheckSignin); one that was
// terminated since is closed. The connection gets the answer to a sign-in, and
// userData in it. It waits for other nodes for a moment if the guest watches users.
func (g *Guest) SignIn(who pusher.User, userData string) {
	if wait := g.client.signIn(who, userData); wait != nil {
		wait()
	}
	if g.client.app.Terminated(who.ID, g.client.ID()) {
		g.client.closeWith(terminatedByApp())
	}
}

// Subscribe subscribes to a channel, and returns when that is done or refused,
// which the connection is told, or after Stop. It waits for the broker, and for
// the peer to read what is replayed. confirm, if there is one, makes the frames
// that confirm a subscription with replay instead of Pusher's own.
func (g *Guest) Subscribe(in pusher.Subscribe, confirm Confirm) {
	if g.client.work.stopped() {
		return
	}
	if wait := g.client.subscribeTo(in, confirm); wait != nil {
		wait()
	}
}

// Stop ends the Subscribe under way, and all that would follow. It does not
// wait, and may be called at any time.
func (g *Guest) Stop() { g.client.work.stop() }

// Leave ends what Attach began, when the connection is over; the reason is for
// the log. Nothing of the guest may be called any more.
func (g *Guest) Leave(reason error) { g.client.Closed(reason) }
