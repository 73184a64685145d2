package edge

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"reecho/edge/fanout"
	"reecho/edge/pusher"
	"reecho/replay/session"
)

const (
	// maxRenewal bounds how long a client has one grant. Each is for the time after the
	// loss of its connection, which nobody can prove afterwards.
	maxRenewal = 30 * time.Second
	// clockSkew is how far the clocks of nodes may be apart.
	clockSkew = time.Minute
)

// grantTimes is how long grants are good.
type grantTimes struct {
	renewal time.Duration // after which a client gets the next
	life    time.Duration // after which one is worth nothing
}

// newGrantTimes is those of clients that may be away for a time: a grant lives a renewal
// longer.
func newGrantTimes(away time.Duration) grantTimes {
	away = cmp.Or(away, session.DefaultTime)
	renewal := min(max(away/4, fanout.TickPeriod), maxRenewal)
	return grantTimes{renewal: renewal, life: away + renewal + fanout.TickPeriod}
}

// keep is how long what ends grants has to be remembered.
func (g grantTimes) keep() time.Duration { return g.life + clockSkew }

// placeOf is what a client keeps when it comes back: the origin of its page, and its
// session. A grant holds there alone.
func placeOf(origin, session string) uint64 {
	if origin == "" && session == "" {
		return 0
	}
	sum := sha256.Sum256([]byte(origin + "\n" + session))
	return binary.BigEndian.Uint64(sum[:])
}

// standing is where a connection stands among those of its client, which takes grants.
// It is replaced and, but for renewAt, not changed.
type standing struct {
	root pusher.SocketID
	turn uint32
	user string // who is signed in, or was when the client went on; "" nobody
	// token is the one that the client came with, "" none. from is what it was for, if
	// it was taken; else refusal says why not.
	token   string
	from    pusher.Grant
	refusal string

	renewAt uint32 // owned by the shard: seconds of the hub's clock
}

// authorizedID is the socket id that the auth beside a claim was made for: the
// connection's, or the one that the client went on from. refusal is why it cannot go on
// from that.
func (c *client) authorizedID(claim *pusher.Claim) (id pusher.SocketID, refusal string) {
	if claim == nil {
		return c.ID(), ""
	}
	s := c.stand(claim)
	switch {
	case !claim.Earlier:
		return c.ID(), ""
	case s == nil:
		return id, "The app has every connection authorised (resume_grants)"
	case s.token != claim.Token:
		return id, "The connection goes on from another one, or from none"
	}
	return s.from.ID, s.refusal
}

// stand is the standing of a client that takes grants: with its first claim it goes on
// from an earlier connection, or begins, and is given a grant. nil: the app has none.
func (c *client) stand(claim *pusher.Claim) *standing {
	if s := c.standing.Load(); s != nil || !c.app.ResumeGrants {
		return s
	}
	s := &standing{token: claim.Token}
	if s.token != "" {
		s.from, s.refusal = c.goOn(claim)
	}
	if s.token != "" && s.refusal == "" {
		s.root, s.turn, s.user = s.from.Root, s.from.Turn+1, s.from.User
	} else {
		s.root = c.ID()
		_, _ = c.app.leads.take(s.root, 0, c, c.app.node.grants.keep()) // it is new
		if c.signedIn != nil {
			s.user = c.signedIn.user.id
		}
	}
	c.give(s)
	return s
}

// goOn takes over what an earlier connection of the client was granted, which ends with
// that.
func (c *client) goOn(claim *pusher.Claim) (from pusher.Grant, refusal string) {
	times := c.app.node.grants
	from, err := pusher.ParseGrant(claim.Token)
	if err != nil {
		return from, "The token of the grant is malformed"
	}
	now := time.Now()
	switch age := now.Sub(from.Time); {
	case age > times.life:
		return from, "The grant has expired (session_time)"
	case age < -clockSkew:
		return from, "The grant is of a time to come"
	case !c.proved(claim):
		return from, "The proof of the grant is not that of its token here"
	case from.User != "" && c.app.terminations.endsGrant(from.User, from.Time):
		return from, "The grant was ended by the application"
	}
	former, taken := c.app.leads.take(from.Root, from.Turn+1, c, times.keep())
	if !taken {
		return from, "The client went on over another connection"
	}
	if former != nil {
		former.closeWith(wentOn())
	}
	c.tellLead(from.Root, from.Turn+1)
	return from, ""
}

// proved reports whether a claim shows that its client has the key of the token. A token
// is made with the newest secret, which older ones may have followed on this node.
func (c *client) proved(claim *pusher.Claim) bool {
	for _, pair := range slices.Backward(c.app.Credentials) {
		if pusher.CheckProof(pusher.GrantKey(pair.Secret, c.app.ID, c.place, claim.Token), claim.Proof, c.ID()) {
			return true
		}
	}
	return false
}

func (c *client) tellLead(root pusher.SocketID, turn uint32) {
	c.app.node.leadTeller.tell(leadTold{App: c.app.ID, Root: root, ID: c.ID(), Turn: turn})
}

// give gives the client the grant of its standing. Those of clients that came together
// are not renewed together.
func (c *client) give(s *standing) {
	node, now := c.app.node, time.Now()
	part := time.Duration(float64(node.grants.renewal) * (1 + float64(c.ID().A)/(1<<32)) / 2)
	s.renewAt = seconds(now.Sub(node.started) + part)
	c.standing.Store(s)
	c.Reply(c.grantFrame(s, now))
}

// renewGrant gives the client the next grant when that is due.
func (c *client) renewGrant(now time.Time) {
	s := c.standing.Load()
	node := c.app.node
	if at := seconds(now.Sub(node.started)); s != nil && at >= s.renewAt {
		s.renewAt = at + max(1, seconds(node.grants.renewal))
		c.Send(c.grantFrame(s, now))
	}
}

func (c *client) grantFrame(s *standing, now time.Time) []byte {
	g := pusher.Grant{ID: c.ID(), Root: s.root, Turn: s.turn, Time: now, User: s.user}
	token := g.Token()
	newest := c.app.Credentials[len(c.app.Credentials)-1]
	return textFrame(pusher.AppendGrant(nil, token, pusher.GrantKey(newest.Secret, c.app.ID, c.place, token)))
}

// standAs is that the client has signed in. A grant from before would outlive what ends
// those of the user, so it ends, on all nodes: the client takes the next turn itself.
func (c *client) standAs(userID string) {
	s := c.standing.Load()
	if s == nil || s.user == userID {
		return
	}
	next := &standing{root: s.root, turn: s.turn + 1, user: userID, token: s.token, from: s.from, refusal: s.refusal}
	if _, taken := c.app.leads.take(next.root, next.turn, c, c.app.node.grants.keep()); !taken {
		return // the client went on, and this connection is being closed
	}
	c.tellLead(next.root, next.turn)
	c.give(next)
}

// mayGoOn reports whether the client may have what an earlier connection had, on which
// somebody was signed in: it has to be, too, so that it ends when that user is
// terminated.
func (c *client) mayGoOn() bool {
	user := c.standing.Load().from.User
	return user == "" || c.signedIn != nil && c.signedIn.user.id == user
}

// refuseGrant tells the client that it has to be authorised as ever; channel "" is the
// sign-in.
func (c *client) refuseGrant(channel, reason string) {
	c.app.tally.failures[failedGrant].Add(1)
	c.Reply(textFrame(pusher.AppendGrantRefused(nil, channel, reason)))
}

// leaveLeads is that the connection is over.
func (c *client) leaveLeads() {
	if s := c.standing.Load(); s != nil {
		c.app.leads.release(s.root, c, c.app.node.grants.keep())
	}
}
