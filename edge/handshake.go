package edge

import (
	"errors"
	"log/slog"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"reecho/edge/app"
	"reecho/edge/fanout"
	"reecho/edge/limit"
	"reecho/edge/pusher"
	"reecho/edge/socket"
	"reecho/replay/session"
)

// Protocol versions that are served (PROTOCOL §1.2).
const (
	oldestProtocol = 4
	newestProtocol = 7
)

// Bounds of a session id: long enough that nobody guesses it.
const (
	minSessionID = 16
	maxSessionID = 128
)

// checkSessionID: within the bounds, and safe in a path.
func checkSessionID(id string) bool {
	return len(id) >= minSessionID && len(id) <= maxSessionID && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_'
	})
}

// clientVersion is what a client library's version looks like.
var clientVersion = regexp.MustCompile(`^[0-9]+(\.[0-9]+)*([-+._][0-9A-Za-z.+_-]*)?$`)

var (
	_ socket.Acceptor        = (*Hub)(nil)
	_ socket.DeflateAcceptor = (*Hub)(nil)
)

// Serves implements socket.Acceptor: the paths of ParsePath.
func (h *Hub) Serves(path string) bool {
	_, ok := ParsePath(h.cfg.PathPrefix, path)
	return ok
}

// Deflates implements socket.DeflateAcceptor: the clients of apps with compression.
func (h *Hub) Deflates(path string) bool {
	p, _ := ParsePath(h.cfg.PathPrefix, path)
	a := h.apps.ByKey(p.Key)
	return a != nil && a.Compression
}

// Open implements socket.Acceptor. A refusal is said in a frame and in the
// close: browsers hide the status of a failed upgrade, and old clients read
// only the frame (PROTOCOL §2.1).
func (h *Hub) Open(conn socket.Conn, r *socket.Request) socket.Receiver {
	path, _ := ParsePath(h.cfg.PathPrefix, r.Path)
	a, protocol, refusal := h.admitUpgrade(path.Key, r)
	if refusal == nil && path.HasSession && !checkSessionID(path.Session) {
		refusal = pusher.Errorf(pusher.CodePath,
			"A session id is %d to %d characters of A-Z, a-z, 0-9, - and _, like crypto.randomUUID() makes them", minSessionID, maxSessionID)
	}
	if refusal == nil && r.Refusal != "" {
		refusal = pusher.Errorf(pusher.CodeOverCapacity, "%s", r.Refusal)
	}
	if refusal == nil {
		refusal = a.count()
	}
	if refusal != nil {
		_ = conn.Send([][]byte{textFrame(pusher.AppendError(nil, refusal, ""))})
		conn.Close(refusal.Code, refusal.Message)
		h.node.census.enterRefused()
		h.node.traffic.refused.add(refusal.Code)
		r := &refused{conn: conn, refusals: &h.refusals, census: &h.node.census}
		h.refusals.watch(r, time.Now())
		return r
	}
	c := newClient(a, conn, pusher.NewSocketID(), r.Client)
	c.protocol, c.pingAt, c.place = protocol, a.firstPing(c.ID(), time.Now()), placeOf(r.Origin, path.Session)
	if r.Fallback {
		c.transport = Fallback
	}
	var scratch [160]byte // stays on the stack
	_ = conn.Send([][]byte{textFrame(pusher.AppendConnectionEstablished(scratch[:0], c.ID(), int(a.ActivityTimeout.Seconds())))})
	if path.HasSession {
		c.beginSession(path.Session)
	}
	h.add(c)
	if c.acks != nil {
		c.acks.opened()
	}
	return c
}

// newClient makes a client, of the newest protocol, of a connection that was
// counted. The caller adds it to the pool.
func newClient(a *Tenant, conn socket.Conn, id pusher.SocketID, address netip.Addr) *client {
	return &client{
		Member: fanout.NewMember(conn, id), app: a, protocol: newestProtocol, address: address,
		openedAt: a.node.milliseconds(time.Now()),
	}
}

// add gives a new client its shard.
func (h *Hub) add(c *client) {
	c.app.tally.opened[c.transport].Add(1)
	c.app.tally.open[c.transport].Add(1)
	h.node.pool.Add(c)
	if h.node.census.isClosing() {
		// Admitted just before: the wave it belongs to may have been over.
		c.closeWith(shuttingDown())
	}
}

// beginSession makes the connection that of a session. Above the limits it goes
// on without one, and the client is told: it will not get again what it misses.
func (c *client) beginSession(id string) {
	a := &acks{client: c, pinged: time.Now()}
	err := c.app.node.sessions.Claim(&a.hold, session.Who{
		App: c.app.ID, ID: id, Socket: c.ID().String(), Address: limit.Address(c.address), Most: c.app.Limits.Sessions,
	}, a)
	if err == nil {
		c.acks = a
		return
	}
	whose, reason, value := "the app has", limit.Sessions, 0
	if full := (*session.FullError)(nil); errors.As(err, &full) {
		if value = full.Limit; full.OfAddress {
			whose, reason = "clients of your address have", limit.AddressSessions
		}
	}
	c.app.node.cfg.Ledger.Note(reason, slog.String("app", c.app.ID), slog.String("address", c.address.String()), slog.Int("value", value))
	_ = c.Conn().Send([][]byte{textFrame(pusher.AppendError(nil, pusher.Errorf(0,
		"This connection has no session, what it misses is not sent again: %s %d already (%s)", whose, value, reason), ""))})
}

// admitUpgrade decides on an upgrade request.
func (h *Hub) admitUpgrade(key string, r *socket.Request) (*Tenant, uint8, *pusher.Error) {
	a, refusal := h.Admit(key, r.Secure, r.Origin)
	if refusal != nil {
		return nil, 0, refusal
	}
	query, err := url.ParseQuery(r.RawQuery)
	if err != nil && !a.LenientProtocol {
		return nil, 0, pusher.Errorf(pusher.CodeUnsupportedProtocol, "The query string of the connection URL is malformed")
	}
	protocol, refusal := checkProtocol(a.App, query)
	return a, protocol, refusal
}

func checkProtocol(a *app.App, query url.Values) (uint8, *pusher.Error) {
	text := query.Get("protocol")
	version, err := strconv.Atoi(text)
	supported := err == nil && version >= oldestProtocol && version <= newestProtocol
	switch {
	case a.LenientProtocol && !supported:
		return newestProtocol, nil
	case text == "":
		return 0, pusher.Errorf(pusher.CodeNoProtocol, "No protocol version supplied. Add protocol=%d to the connection URL", newestProtocol)
	case !supported:
		return 0, pusher.Errorf(pusher.CodeUnsupportedProtocol, "Unsupported protocol version %s. Supported are %d to %d",
			pusher.Cut(text), oldestProtocol, newestProtocol)
	}
	client := query.Get("version")
	if client != "" && !a.LenientProtocol && !clientVersion.MatchString(client) {
		return 0, pusher.Errorf(pusher.CodeVersion, "Invalid version string %s", pusher.Cut(client))
	}
	return uint8(version), nil
}
