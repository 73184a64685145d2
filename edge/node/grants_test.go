package node_test

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"reecho/edge/app"
	"reecho/edge/config"
	"reecho/edge/pusher"
)

const grantEvent = "reecho:grant"

func grantingApp(edit ...func(*app.App)) *app.App {
	return demoApp(append([]func(*app.App){func(a *app.App) { a.ResumeGrants = true }}, edit...)...)
}

// told is the data of reecho:grant.
type told struct {
	Token   string `json:"token"`
	Key     string `json:"key"`
	Auth    string `json:"auth"`
	Refused string `json:"refused"`
}

func (f frame) told(t testing.TB) (data told) {
	t.Helper()
	if err := json.Unmarshal([]byte(f.text(t)), &data); err != nil {
		t.Fatalf("%s: %v", f.raw, err)
	}
	return data
}

// wantGrant returns the next frame, which must give a grant.
func (c *client) wantGrant() told {
	c.t.Helper()
	f := c.want(grantEvent)
	data := f.told(c.t)
	if f.Channel != nil || data.Token == "" || data.Key == "" {
		c.t.Fatalf("got %s, want a grant", f.raw)
	}
	return data
}

// ask subscribes to a channel, "" signs in, with an auth and a claim.
func (c *client) ask(channel, channelData, auth string, claim map[string]any) {
	c.t.Helper()
	data := map[string]any{"auth": auth, "grant": claim}
	event := "pusher:subscribe"
	switch {
	case channel == "":
		event, data["user_data"] = "pusher:signin", channelData
	case channelData != "":
		data["channel_data"] = channelData
		fallthrough
	default:
		data["channel"] = channel
	}
	c.send(event, "", data)
}

// claimOf is what a client on a connection shows of a grant.
func (c *client) claimOf(grant told, earlier bool) map[string]any {
	id, _, err := pusher.ParseSocketID(c.socketID)
	if err != nil {
		c.t.Fatal(err)
	}
	return map[string]any{"token": grant.Token, "proof": pusher.Proof(grant.Key, id), "earlier": earlier}
}

// wantGranted is that the channel, "" the sign-in, was had with the auth of before, and
// returns what it is now.
func (c *client) wantGranted(channel string) string {
	c.t.Helper()
	f := c.want(grantEvent)
	data := f.told(c.t)
	if data.Auth == "" || channel == "" && f.Channel != nil || channel != "" && (f.Channel == nil || *f.Channel != channel) {
		c.t.Fatalf("got %s, want the auth of %q", f.raw, channel)
	}
	if channel == "" {
		c.want("pusher:signin_success")
	} else {
		c.wantOn(channel, "pusher_internal:subscription_succeeded")
	}
	return data.Auth
}

// wantRefused is that the grant was refused, of a channel or, "", of the sign-in, and
// nothing else was said.
func (c *client) wantRefused(channel, part string) {
	c.t.Helper()
	f := c.want(grantEvent)
	if data := f.told(c.t); data.Refused == "" || !strings.Contains(data.Refused, part) || channel != "" && *f.Channel != channel {
		c.t.Fatalf("got %s, want a refusal with %q", f.raw, part)
	}
	c.wantNothing()
}

// begin subscribes to private-chat with what the application signed, and takes grants.
func (c *client) begin() (grant told, auth string) {
	c.t.Helper()
	auth = c.auth("private-chat", "")
	c.ask("private-chat", "", auth, map[string]any{})
	grant = c.wantGrant()
	c.wantOn("private-chat", "pusher_internal:subscription_succeeded")
	return grant, auth
}

// A client that comes back has its channels and its user with what was signed for the
// connection before, again and again; what it could show is of no use to others.
func TestGrant(t *testing.T) {
	t.Parallel()
	const member, user = `{"user_id":"alice","user_info":{"name":"Alice"}}`, `{"id":"alice"}`
	s := startServer(t, grantingApp())
	c := s.connect(t)
	auths := map[string]string{"": key + ":" + pusher.Sign(secret, c.socketID+"::user::"+user)}
	c.ask("", user, auths[""], map[string]any{})
	c.wantGrant()
	c.want("pusher:signin_success")
	grant := c.wantGrant() // with the user
	data := map[string]string{"private-chat": "", "presence-room": member, "private-encrypted-a": "", "private-cache-b": ""}
	for channel, text := range data {
		auths[channel] = c.auth(channel, text)
		c.ask(channel, text, auths[channel], map[string]any{})
		c.wantOn(channel, "pusher_internal:subscription_succeeded")
		if pusher.KindOf(channel).Has(pusher.Cache) {
			c.want("pusher:cache_miss")
		}
	}
	data[""] = user
	for range 3 {
		_ = c.conn.Close()
		c = s.connect(t)
		claim := c.claimOf(grant, true)
		c.ask("", user, auths[""], claim)
		grant = c.wantGrant()
		auths[""] = c.wantGranted("")
		for channel, text := range data {
			if channel == "" {
				continue
			}
			c.ask(channel, text, auths[channel], claim)
			auths[channel] = c.wantGranted(channel)
			if pusher.KindOf(channel).Has(pusher.Cache) {
				c.want("pusher:cache_miss")
			}
			if want := c.auth(channel, text); auths[channel] != want {
				t.Fatalf("the auth of %s is %s, want %s", channel, auths[channel], want)
			}
			// What was seen of it on the way opens nothing on another connection.
			thief := s.connect(t)
			thief.ask(channel, text, auths[channel], claim)
			thief.wantGrant() // one of its own
			thief.wantRefused(channel, "proof")
		}
		// What is new is authorised as ever.
		c.ask("private-new", "", c.auth("private-new", ""), c.claimOf(grant, false))
		c.wantOn("private-new", "pusher_internal:subscription_succeeded")
		c.ask("private-other", "", auths["private-chat"], claim)
		c.wantRefused("private-other", "Invalid signature")
	}
	c.wantNothing()
}

// A client that asks for nothing of it gets Pusher's frames.
func TestGrantIsAskedFor(t *testing.T) {
	t.Parallel()
	s := startServer(t, grantingApp())
	c := s.connect(t)
	c.subscribe("private-chat")
	c.signIn(`{"id":"alice"}`)
	c.wantNothing()
	off := startServer(t, demoApp()).connect(t)
	off.ask("private-chat", "", off.auth("private-chat", ""), map[string]any{})
	off.wantOn("private-chat", "pusher_internal:subscription_succeeded")
	off.ask("private-a", "", "", map[string]any{"token": "1", "proof": "1", "earlier": true})
	off.wantRefused("private-a", "resume_grants")
	c.ask("private-b", "", "", map[string]any{"token": "1"})
	c.wantError(0, "grant takes a token and its proof")
}

// Whatever is not as it was given opens nothing, and says nothing but that.
func TestGrantAltered(t *testing.T) {
	t.Parallel()
	s := startServer(t, grantingApp(), &app.App{
		ID: "78", Credentials: []app.Credential{{Key: "other-key", Secret: secret}}, Enabled: true, ResumeGrants: true,
		ActivityTimeout: app.DefaultActivityTimeout, Limits: app.DefaultLimits(),
	})
	const origin, plain = "https://example.com", "/app/" + key + goodQuery
	sessionPath := func(id string) string { return "/session/1d2f7a50-6c6e-4f7e-9df0-" + id + plain }
	at := func(path, origin string) *client {
		c, _ := s.dialWith(t, path, ws.Dialer{Header: ws.HandshakeHeaderHTTP(http.Header{"Origin": {origin}})})
		c.session = true
		c.established()
		return c
	}
	other, otherAuth := at(plain, origin).begin()
	for name, tt := range map[string]struct {
		before, path, origin string
		edit                 func(grant told) told
		claim                func(claim map[string]any)
		auth                 func(auth string) string
		part                 string // of the refusal; "": it is none
	}{
		"nothing":       {},
		"token, a bit":  {edit: func(g told) told { g.Token = flip(g.Token, 3); return g }, part: "proof"},
		"token, a user": {edit: func(g told) told { g.Token += "YWxpY2U"; return g }, part: "proof"},
		"token, end":    {edit: func(g told) told { g.Token = g.Token[:len(g.Token)-1]; return g }, part: "malformed"},
		"key, a bit":    {edit: func(g told) told { g.Key = flip(g.Key, 5); return g }, part: "proof"},
		"of another":    {edit: func(g told) told { g.Key = other.Key; return g }, part: "proof"},
		"proof, a bit":  {claim: func(c map[string]any) { c["proof"] = flip(c["proof"].(string), 9) }, part: "proof"},
		"proof, none":   {claim: func(c map[string]any) { c["proof"] = "x" }, part: "proof"},
		"auth, a bit":   {auth: func(auth string) string { return flip(auth, len(auth)-1) }, part: "Invalid signature"},
		"auth, none":    {auth: func(string) string { return "x" }, part: "key:signature"},
		"auth, another": {auth: func(string) string { return otherAuth }, part: "Invalid signature"},
		"another site":  {origin: "https://example.org", part: "proof"},
		"no site":       {origin: "null", part: "proof"},
		"a session":     {path: sessionPath("000000000001"), part: "proof"},
		"no session":    {before: sessionPath("000000000002"), part: "proof"},
		"other session": {before: sessionPath("000000000003"), path: sessionPath("000000000004"), part: "proof"},
		"another app":   {path: "/app/other-key" + goodQuery, part: "proof"},
	} {
		t.Run(name, func(t *testing.T) {
			grant, auth := at(cmp.Or(tt.before, plain), origin).begin()
			if tt.edit != nil {
				grant = tt.edit(grant)
			}
			if tt.auth != nil {
				auth = tt.auth(auth)
			}
			c := at(cmp.Or(tt.path, plain), cmp.Or(tt.origin, origin))
			claim := c.claimOf(grant, true)
			if tt.claim != nil {
				tt.claim(claim)
			}
			c.ask("private-chat", "", auth, claim)
			c.wantGrant() // a new beginning, or that of the client which came back
			if tt.part == "" {
				c.wantGranted("private-chat")
			} else {
				c.wantRefused("private-chat", tt.part)
			}
		})
	}
}

// flip changes one character.
func flip(text string, at int) string {
	with := byte('1')
	if text[at] == with {
		with = '2'
	}
	return text[:at] + string(with) + text[at+1:]
}

// Of the connections of a client only the newest can be gone on from, once: whoever comes
// second is refused, and a connection that stands ends.
func TestGrantIsOfOne(t *testing.T) {
	t.Parallel()
	s := startServer(t, grantingApp())
	first := s.connect(t)
	grant, auth := first.begin()
	second := s.connect(t)
	second.ask("private-chat", "", auth, second.claimOf(grant, true))
	next := second.wantGrant()
	nextAuth := second.wantGranted("private-chat")
	if reason := first.wantClose(4100); !strings.Contains(reason, "newer connection") {
		t.Errorf("closed with %q", reason)
	}
	late := s.connect(t)
	late.ask("private-chat", "", auth, late.claimOf(grant, true))
	late.wantGrant()
	late.wantRefused("private-chat", "another connection")
	second.wantNothing()
	_ = second.conn.Close()
	late = s.connect(t)
	late.ask("private-chat", "", auth, late.claimOf(grant, true))
	late.wantGrant()
	late.wantRefused("private-chat", "another connection")
	third := s.connect(t)
	third.ask("private-chat", "", nextAuth, third.claimOf(next, true))
	third.wantGrant()
	third.wantGranted("private-chat")
	// Its own grant is no use to the connection that has it, nor a second one.
	third.ask("private-b", "", auth, third.claimOf(next, false))
	third.wantError(0, "Invalid signature")
	third.ask("private-b", "", auth, third.claimOf(grant, true))
	third.wantRefused("private-b", "another one")
}

// A user that is terminated cannot come back by a grant, whenever it left: neither with
// that of the user, nor with one from before the sign-in, nor without the user.
func TestGrantEndsWithTermination(t *testing.T) {
	t.Parallel()
	const user = `{"id":"alice"}`
	s := startServer(t, grantingApp())
	c := s.connect(t)
	before, auth := c.begin()
	userAuth := key + ":" + pusher.Sign(secret, c.socketID+"::user::"+user)
	c.ask("", user, userAuth, map[string]any{})
	c.want("pusher:signin_success")
	grant := c.wantGrant()
	_ = c.conn.Close()
	try := func(given told, channel, data, auth, part string) {
		t.Helper()
		back := s.connect(t)
		back.ask(channel, data, auth, back.claimOf(given, true))
		back.wantGrant()
		back.wantRefused(channel, part)
	}
	poll(t, "the connection to be over", func() bool { return s.connections() == 0 })
	try(before, "private-chat", "", auth, "another connection")
	back := s.connect(t)
	back.ask("private-chat", "", auth, back.claimOf(grant, true))
	grant = back.wantGrant()
	back.wantRefused("private-chat", "Not signed in")
	back.ask("", `{"id":"bob"}`, key+":"+pusher.Sign(secret, c.socketID+`::user::{"id":"bob"}`), back.claimOf(grant, true))
	back.wantRefused("", "another one")
	s.wantCall("POST", base+"/users/alice/terminate_connections", nil, "{}", 200, "{}")
	try(grant, "", user, userAuth, "ended by the application")
	try(grant, "private-chat", "", auth, "ended by the application")
}

// Nor can it after a restart of all servers.
func TestGrantEndsWithTerminationBeforeRestart(t *testing.T) {
	t.Parallel()
	const user = `{"id":"alice"}`
	dir := t.TempDir()
	edit := func(c *config.Config) { c.Store.Dir = dir }
	s := startServerWith(t, edit, grantingApp())
	grants := make(map[string]told)
	auths := make(map[string]string)
	for _, id := range []string{"alice", "bob"} {
		c := s.connect(t)
		text := strings.ReplaceAll(user, "alice", id)
		auths[id] = key + ":" + pusher.Sign(secret, c.socketID+"::user::"+text)
		c.ask("", text, auths[id], map[string]any{})
		c.wantGrant()
		c.want("pusher:signin_success")
		grants[id] = c.wantGrant()
	}
	s.wantCall("POST", base+"/users/alice/terminate_connections", nil, "{}", 200, "{}")
	if err := s.close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = startServerWith(t, edit, grantingApp())
	alice, bob := s.connect(t), s.connect(t)
	alice.ask("", user, auths["alice"], alice.claimOf(grants["alice"], true))
	alice.wantGrant()
	alice.wantRefused("", "ended by the application")
	bob.ask("", `{"id":"bob"}`, auths["bob"], bob.claimOf(grants["bob"], true))
	bob.wantGrant()
	bob.wantGranted("")
}

// A grant ends with its key, and with its time.
func TestGrantEndsWithKeyAndTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start := func(away time.Duration, pairs ...app.Credential) *server {
		return startServerWith(t, func(c *config.Config) { c.Store.Dir, c.Edge.Sessions.Time = dir, away },
			grantingApp(func(a *app.App) { a.Credentials = pairs }))
	}
	stop := func(s *server) {
		t.Helper()
		if err := s.close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	old, next := app.Credential{Key: key, Secret: secret}, app.Credential{Key: "demo-key-02", Secret: "demo-secret-02"}
	s := start(0, old)
	grant, auth := s.connect(t).begin()
	stop(s)
	// A restart ends nothing, nor does a second key.
	s = start(0, old, next)
	c := s.connect(t)
	c.ask("private-chat", "", auth, c.claimOf(grant, true))
	grant = c.wantGrant()
	auth = c.wantGranted("private-chat")
	stop(s)
	// The grant is of the newest key, what was signed with the old one is not.
	s = start(0, next)
	c = s.dial(t, "/app/demo-key-02"+goodQuery)
	c.established()
	c.ask("private-chat", "", auth, c.claimOf(grant, true))
	grant = c.wantGrant()
	c.wantRefused("private-chat", "not a key of this app")
	auth = "demo-key-02:" + pusher.Sign("demo-secret-02", c.socketID+":private-chat")
	stop(s)
	s = start(0, old)
	c = s.connect(t)
	c.ask("private-chat", "", auth, c.claimOf(grant, true))
	c.wantGrant()
	c.wantRefused("private-chat", "proof")
	stop(s)
	s = start(time.Nanosecond, old)
	grant, auth = s.connect(t).begin()
	try := func(grant told) string {
		c := s.connect(t)
		defer func() { _ = c.conn.Close() }()
		c.ask("private-chat", "", auth, c.claimOf(grant, true))
		c.wantGrant()
		return c.want(grantEvent).told(t).Refused
	}
	poll(t, "the grant to expire", func() bool { return strings.Contains(try(told{Token: grant.Token, Key: "x"}), "expired") })
	if reason := try(grant); !strings.Contains(reason, "expired") {
		t.Errorf("refused with %q", reason)
	}
}

// While its connection stands a client is given the next grant before one is over.
func TestGrantIsRenewed(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.Edge.Sessions.Time = time.Second }, grantingApp())
	c := s.connect(t)
	_, auth := c.begin()
	var grant told
	for range 3 {
		grant = c.wantGrant()
	}
	_ = c.conn.Close()
	c = s.connect(t)
	c.ask("private-chat", "", auth, c.claimOf(grant, true))
	c.wantGrant()
	c.wantGranted("private-chat")
}

// It is the same on all nodes of a cluster: a client goes on over any of them, from any of
// them, once, and who is terminated on one does so on none.
func TestMeshGrant(t *testing.T) {
	t.Parallel()
	const user = `{"id":"alice"}`
	servers := startMesh(t, 3, asItIs, grantingApp())
	first := servers[0].connect(t)
	grant, auth := first.begin()
	second := servers[1].connect(t)
	second.ask("private-chat", "", auth, second.claimOf(grant, true))
	second.wantGrant()
	second.wantGranted("private-chat")
	first.wantClose(4100)
	for _, s := range servers {
		poll(t, "the node to know that the grant was used", func() bool {
			late := s.connect(t)
			defer func() { _ = late.conn.Close() }()
			late.ask("private-chat", "", auth, late.claimOf(grant, true))
			return late.refusal() != ""
		})
	}

	alice := servers[0].connect(t)
	before, auth := alice.begin()
	userAuth := key + ":" + pusher.Sign(secret, alice.socketID+"::user::"+user)
	alice.ask("", user, userAuth, map[string]any{})
	alice.want("pusher:signin_success")
	grant = alice.wantGrant()
	_ = alice.conn.Close()
	poll(t, "the other nodes to know that she has signed in", func() bool {
		late := servers[2].connect(t)
		defer func() { _ = late.conn.Close() }()
		late.ask("private-chat", "", "x", late.claimOf(before, true))
		return strings.Contains(late.refusal(), "another connection")
	})
	servers[1].wantCall("POST", base+"/users/alice/terminate_connections", nil, "{}", 200, "{}")
	for _, s := range servers {
		late := s.connect(t)
		late.ask("", user, userAuth, late.claimOf(grant, true))
		late.wantGrant()
		late.wantRefused("", "ended by the application")
	}

	// Two take the same turn on two nodes at once: one of them is left.
	grant, auth = servers[0].connect(t).begin()
	both := []*client{servers[1].connect(t), servers[2].connect(t)}
	for _, c := range both {
		c.ask("private-chat", "", auth, c.claimOf(grant, true))
	}
	// The other is closed, or refused if its node has heard of the first.
	over := make(map[*client]bool)
	poll(t, "one of two to be left", func() bool {
		for _, c := range both {
			over[c] = over[c] || c.lostGrant()
		}
		return over[both[0]] != over[both[1]]
	})
	for _, c := range both {
		if !over[c] {
			c.wantNoLoss()
		}
	}
}

// refusal is why the grant is refused; "" if it was taken, or the connection closed.
func (c *client) refusal() string {
	c.t.Helper()
	for {
		select {
		case f, open := <-c.frames:
			if !open {
				return ""
			}
			if f.Event != grantEvent {
				continue
			}
			if data := f.told(c.t); data.Token == "" {
				return data.Refused
			}
		case <-time.After(patience):
			c.t.Fatal("no answer in time")
		}
	}
}

// lostGrant reports whether the connection was closed, or its grant refused, by now.
func (c *client) lostGrant() bool {
	for {
		select {
		case f, open := <-c.frames:
			if !open || f.Event == grantEvent && f.told(c.t).Refused != "" {
				return true
			}
		default:
			return false
		}
	}
}

// wantNoLoss is that the connection stands and has its channel.
func (c *client) wantNoLoss() {
	c.t.Helper()
	c.sendText(`{"event":"pusher:ping","data":{}}`)
	for f := c.next(); f.Event != "pusher:pong"; f = c.next() {
		if f.Event == grantEvent && f.told(c.t).Refused != "" {
			c.t.Fatalf("got %s", f.raw)
		}
	}
}
