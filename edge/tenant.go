package edge

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync/atomic"
	"time"

	"reecho/broker"
	"reecho/broker/cluster"
	"reecho/broker/presence/exchange"
	"reecho/edge/app"
	"reecho/edge/fanout"
	"reecho/edge/limit"
	"reecho/edge/pusher"
	"reecho/edge/socket"
	"reecho/replay"
	"reecho/replay/receipt"
	"reecho/replay/session"
)

// Tenant is an app with its state on this node. Every door gets the one of its
// client from Hub.Admit. It is safe for concurrent use.
type Tenant struct {
	*app.App
	node        *services
	connections atomic.Int64
	elsewhere   atomic.Int64 // connections on other nodes, as they last said
	channels    *channels
	users       *users
	// compress makes a frame for clients with compression; nil if the app has none.
	compress func(frame []byte) []byte
	// reads is what its clients may read of the past.
	reads        limit.Budget
	terminations terminations
	leads        leads
	tally        tally
}

// services is what the apps of a node share.
type services struct {
	cfg      Config
	broker   *broker.Broker
	nodes    *cluster.Nodes
	exchange *exchange.Exchange // nil: there are no other nodes
	replay   *replay.Node
	sessions *session.Store
	receipts *receipt.Desk
	pool     *fanout.Pool[*client]
	log      *slog.Logger
	lines    *slog.Logger // of what may happen to many clients at once

	// ctx is the life of what is done for clients.
	ctx     context.Context //nolint:containedctx // ended by Hub.Close
	started time.Time
	census  census
	crowd   crowd
	stored  atomic.Bool // the sessions are, and nothing is to be any more
	// neighbours knows of users on other nodes.
	neighbours *neighbours
	later      later
	// leadTeller and grants are of clients that go on from earlier connections.
	leadTeller *leadTeller
	terminated *broker.Store
	grants     grantTimes
	// memory and lingering bound the channels.
	memory    channelMemory
	lingering lingering
	// replays are the turns of those who come back and read from the log, pasts
	// of those who want the past.
	replays, pasts limit.Turns
	errors         limit.Rates // answers to messages above their rate
	traffic        traffic
}

func newTenant(node *services, a *app.App) *Tenant {
	t := &Tenant{App: a, node: node}
	t.channels = &channels{app: t, seed: maphash.MakeSeed()}
	t.users = newUsers(t)
	if a.Compression {
		t.compress = socket.Compression{MinBytes: a.CompressionMinBytes}.Frame
	}
	return t
}

// Admit decides on what is the same for every way to connect: whether the app
// takes clients over such a connection, from a page of such an origin, "" for
// none. The refusal, for the client, has the code CodeUnknownApp, CodeDisabled,
// CodeTLSOnly or CodeUnauthorized.
func (h *Hub) Admit(key string, tls bool, origin string) (*Tenant, *pusher.Error) {
	found := h.apps.ByKey(key)
	if found == nil {
		return nil, pusher.Errorf(pusher.CodeUnknownApp, "App key %s does not exist on this server. Check the key and the host", pusher.Cut(key))
	}
	a := h.tenants[found]
	switch {
	case !a.Enabled:
		return nil, pusher.Errorf(pusher.CodeDisabled, "The app is disabled")
	case a.TLSOnly && !tls:
		return nil, pusher.Errorf(pusher.CodeTLSOnly, "The app only accepts TLS connections, use wss or https")
	case !a.AllowsOrigin(origin):
		return nil, pusher.Errorf(pusher.CodeUnauthorized, "Origin not allowed")
	}
	return a, nil
}

func shuttingDown() *pusher.Error {
	return pusher.Errorf(pusher.CodeReconnect, "The server is shutting down, reconnect")
}

// CheckSignin verifies a sign-in with a socket id and returns who it is of. The
// refusal is for the client. It does not ask whether the app allows sign-ins.
func (t *Tenant) CheckSignin(id pusher.SocketID, in pusher.Signin) (pusher.User, *pusher.Error) {
	if refusal := pusher.CheckUserAuth(t, id, in); refusal != nil {
		return pusher.User{}, refusal
	}
	who, err := pusher.DecodeUserData(in.UserData, t.Limits.UserIDLength, t.Limits.UserInfoBytes)
	if err != nil {
		return pusher.User{}, pusher.Errorf(0, "Invalid user_data: %v", err)
	}
	return who, nil
}

// IssueID makes a socket id that outlives its connections, signed with a secret
// of the app, and says when it ends. What is authorised for it can be ended
// sooner, see Terminated.
func (t *Tenant) IssueID(secret string) (id pusher.SocketID, expires time.Time) {
	expires = t.terminations.issue(time.Now()).Add(t.StreamTime())
	return pusher.NewStreamID(secret, t.ID, expires), expires
}

// Terminated reports whether Hub.Terminate ended what was authorised for an id
// of IssueID, or for the user who signed in with it; userID is "" if nobody did.
func (t *Tenant) Terminated(userID string, id pusher.SocketID) bool {
	return t.terminations.refuses(userID, id, t.issued(id))
}

// issued is when an id of IssueID was issued.
func (t *Tenant) issued(id pusher.SocketID) time.Time {
	return id.StreamExpiry().Add(-t.StreamTime())
}

// authorizationTime is how long what was authorised may outlive its connection.
func (t *Tenant) authorizationTime() time.Duration { return max(t.StreamTime(), t.node.grants.keep()) }

// remaining is how long ev is still remembered by a cache channel, and whether
// it is at all. The zero event is not.
func (t *Tenant) remaining(ev broker.Event, now time.Time) (time.Duration, bool) {
	if ev.Sequence == 0 {
		return 0, false
	}
	ttl := t.Limits.CacheTTL - now.Sub(time.Unix(0, ev.Time))
	return ttl, ttl > 0
}
