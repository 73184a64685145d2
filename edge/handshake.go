package edge

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"reecho/edge/app"
	"reecho/edge/pusher"
	"reecho/edge/socket"
)

// Protocol versions that are served (PROTOCOL §1.2).
const (
	oldestProtocol = 4
	newestProtocol = 7
)

// clientVersion is what a client library's version looks like.
var clientVersion = regexp.MustCompile(`^[0-9]+(\.[0-9]+)*([-+._][0-9A-Za-z.+_-]*)?$`)

var _ socket.Acceptor = (*Hub)(nil)

// Serves implements socket.Acceptor: [prefix]/app/{key}, or
// [prefix]/session/{id}/app/{key}, a trailing slash allowed.
func (h *Hub) Serves(path string) bool {
	_, _, ok := h.keyOf(path)
	return ok
}

// keyOf returns the app key of a path, and the session id if it names one.
func (h *Hub) keyOf(path string) (key, session string, ok bool) {
	path, ok = strings.CutPrefix(path, h.cfg.PathPrefix)
	if !ok {
		return "", "", false
	}
	if rest, named := strings.CutPrefix(path, "/session/"); named {
		if session, path, ok = strings.Cut(rest, "/"); !ok {
			return "", "", false
		}
		// An empty id is wrong, and not the same as none.
		session, path = session+"/", "/"+path
	}
	key, ok = strings.CutPrefix(path, "/app/")
	key = strings.TrimSuffix(key, "/")
	return key, session, ok && key != "" && !strings.Contains(key, "/")
}

// refused is a connection that was refused: it waits for the peer's answer to
// the close frame, which the janitor's ticks bound.
type refused struct {
	conn socket.Conn
	hub  *Hub
}

var _ socket.Receiver = (*refused)(nil)

// Message implements socket.Receiver.
func (*refused) Message([]byte) func() { return nil }

// Closed implements socket.Receiver.
func (r *refused) Closed(error) {
	r.hub.janitor.forget(r)
	r.hub.census.leave()
}

// Open implements socket.Acceptor. A refusal is said in a frame and in the
// close: browsers hide the status of a failed upgrade, and old clients read
// only the frame (PROTOCOL §2.1).
func (h *Hub) Open(conn socket.Conn, r *socket.Request) socket.Receiver {
	key, session, _ := h.keyOf(r.Path)
	a, protocol, refusal := h.admit(key, r)
	session, named := strings.CutSuffix(session, "/")
	if refusal == nil && named && !checkSessionID(session) {
		refusal = pusher.Errorf(pusher.CodePath,
			"A session id is %d to %d characters of A-Z, a-z, 0-9, - and _, like crypto.randomUUID() makes them", minSessionID, maxSessionID)
	}
	if refusal == nil {
		refusal = h.count(a)
	}
	if refusal != nil {
		_ = conn.Send([][]byte{textFrame(pusher.AppendError(nil, refusal, ""))})
		conn.Close(refusal.Code, refusal.Message)
		h.census.enterRefused()
		r := &refused{conn: conn, hub: h}
		h.janitor.watch(r)
		return r
	}
	c := &client{
		conn: conn, app: a, id: pusher.NewSocketID(), protocol: protocol, openedAt: time.Now().Unix(),
		shard: h.shards[h.nextShard.Add(1)%uint32(len(h.shards))], //nolint:gosec // few shards
	}
	var scratch [160]byte // stays on the stack
	_ = conn.Send([][]byte{textFrame(pusher.AppendConnectionEstablished(scratch[:0], c.id, int(a.ActivityTimeout.Seconds())))})
	if named {
		c.session = h.sessions.attach(c, a.ID, session)
	}
	c.shard.inbox.push(&op{kind: opAdd, client: c})
	return c
}

// count makes the connection one of the app's and the hub's, if there is room.
func (h *Hub) count(a *tenant) *pusher.Error {
	limit := int64(a.Limits.MaxConnections)
	if a.connections.Add(1) > limit && limit > 0 {
		a.connections.Add(-1)
		return pusher.Errorf(pusher.CodeOverQuota, "The connection limit of the app, %d, is reached", limit)
	}
	if !h.census.enter() {
		a.connections.Add(-1)
		return shuttingDown()
	}
	return nil
}

func shuttingDown() *pusher.Error {
	return pusher.Errorf(pusher.CodeReconnect, "The server is shutting down, reconnect")
}

// admit decides on an upgrade request in the order in which Pusher's codes
// become more specific.
func (h *Hub) admit(key string, r *socket.Request) (*tenant, uint8, *pusher.Error) {
	found := h.apps.ByKey(key)
	if found == nil {
		return nil, 0, pusher.Errorf(pusher.CodeUnknownApp, "App key %s does not exist on this server. Check the key and the host", cut(key))
	}
	a := h.tenants[found]
	if !a.Enabled {
		return nil, 0, pusher.Errorf(pusher.CodeDisabled, "The app is disabled")
	}
	if a.TLSOnly && !r.TLS {
		return nil, 0, pusher.Errorf(pusher.CodeTLSOnly, "The app only accepts TLS connections, use wss")
	}
	query, err := url.ParseQuery(r.RawQuery)
	if err != nil && !a.LenientProtocol {
		return nil, 0, pusher.Errorf(pusher.CodeUnsupportedProtocol, "The query string of the connection URL is malformed")
	}
	protocol, refusal := checkProtocol(a.App, query)
	if refusal != nil {
		return nil, 0, refusal
	}
	if !originAllowed(a.AllowedOrigins, r.Origin) {
		return nil, 0, pusher.Errorf(pusher.CodeUnauthorized, "Origin not allowed")
	}
	return a, protocol, nil
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
			cut(text), oldestProtocol, newestProtocol)
	}
	client := query.Get("version")
	if client != "" && !a.LenientProtocol && !clientVersion.MatchString(client) {
		return 0, pusher.Errorf(pusher.CodeVersion, "Invalid version string %s", cut(client))
	}
	return uint8(version), nil //nolint:gosec // between oldestProtocol and newestProtocol
}

// originAllowed compares the host of a browser's Origin with patterns. Clients
// that are no browsers send no Origin; those that could lie about it are not
// held back by the check either, so they pass.
func originAllowed(patterns []string, origin string) bool {
	if len(patterns) == 0 || origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil {
		return false
	}
	host := strings.ToLower(u.Hostname())
	for _, p := range patterns {
		p = strings.ToLower(p)
		if suffix, wild := strings.CutPrefix(p, "*."); wild {
			if strings.HasSuffix(host, "."+suffix) {
				return true
			}
			continue
		}
		if p == "*" || p == host || p == strings.ToLower(origin) {
			return true
		}
	}
	return false
}

// cut shortens text that came from a client to what an answer repeats of it.
func cut(text string) string { return pusher.Cut(text) }
