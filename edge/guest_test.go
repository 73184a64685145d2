package edge

import (
	"slices"
	"sync"
	"testing"
	"time"

	"reecho/edge/app"
	"reecho/edge/pusher"
	"reecho/edge/socket"
)

// recordConn is a connection that remembers what it was sent.
type recordConn struct {
	silentConn
	mu    sync.Mutex
	texts []string
}

func (c *recordConn) Send(frames [][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range frames {
		for text := range socket.Messages(f) {
			c.texts = append(c.texts, string(text))
		}
	}
	return nil
}

func (c *recordConn) Answer(frames [][]byte) error { return c.Send(frames) }

func (c *recordConn) Close(code int, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silentConn.Close(code, reason)
}

// closedWith is the code of the close, 0 while it is open.
func (c *recordConn) closedWith() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.code
}

func (c *recordConn) sent() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.texts)
}

func mustAttach(t *testing.T, h *Hub, a *app.App, id pusher.SocketID) (*Guest, *recordConn) {
	t.Helper()
	conn := &recordConn{silentConn: silentConn{heard: time.Now().Add(time.Hour)}}
	guest, refusal := h.Attach(h.tenants[a], Peer{Conn: conn, ID: id})
	if refusal != nil {
		t.Fatal(refusal)
	}
	t.Cleanup(func() { guest.Leave(nil) })
	return guest, conn
}

// The frames that confirm a subscription with replay are the door's own, told
// what Pusher's would say, and precede the events.
func TestGuestConfirms(t *testing.T) {
	t.Parallel()
	h, a, _ := mustServe(t, Config{})
	if err := h.Publish(t.Context(), a, []pusher.Publish{{Name: "score", Data: "1", Channels: []string{"match.1"}}}); err != nil {
		t.Fatal(err)
	}
	guest, conn := mustAttach(t, h, a, pusher.NewSocketID())
	var told pusher.Outcome
	guest.Subscribe(pusher.Subscribe{Channel: "match.1", Replay: &pusher.Replay{Last: 5, Seen: -1}}, func(channel string, o pusher.Outcome, returning bool) [][]byte {
		if told = o; channel != "match.1" || returning {
			t.Errorf("%s, returning %v", channel, returning)
		}
		return [][]byte{textFrame([]byte("mine"))}
	})
	guest.Subscribe(pusher.Subscribe{Channel: "match.2"}, nil)
	mustPoll(t, "three frames", func() bool { return len(conn.sent()) == 3 })
	got := conn.sent()
	if got[0] != "mine" || !slices.Contains(got, string(pusher.AppendSubscriptionSucceeded(nil, "match.2", "{}"))) {
		t.Errorf("got %q", got)
	}
	if told.Events != 1 || told.Position == "" || told.Reason != "" {
		t.Errorf("told %+v", told)
	}
	guest.Stop()
	guest.Subscribe(pusher.Subscribe{Channel: "match.3"}, nil)
	if n := h.Channel(t.Context(), a, "match.3").Subscriptions; n != 0 {
		t.Errorf("%d subscriptions after Stop", n)
	}
}

// A guest that signs in is one of its user's connections; one whose user was
// terminated between the check and the sign-in is closed.
func TestGuestIsTerminated(t *testing.T) {
	t.Parallel()
	h, a, _ := mustServe(t, Config{})
	tenant := h.tenants[a]
	before, expires := tenant.IssueID("secret")
	if left := time.Until(expires); left <= 0 || left > app.DefaultStreamAuthorizationTime || !pusher.CheckStreamID("secret", a.ID, before) {
		t.Errorf("an id for %v", left)
	}
	early, earlyConn := mustAttach(t, h, a, before)
	early.SignIn(pusher.User{ID: "alice"}, `{"id":"alice"}`)
	if tenant.Terminated("alice", before) {
		t.Error("terminated before anybody was")
	}
	h.Terminate(t.Context(), a, "alice")
	late, lateConn := mustAttach(t, h, a, before)
	late.SignIn(pusher.User{ID: "alice"}, `{"id":"alice"}`)
	if earlyConn.code != pusher.CodeUnauthorized || lateConn.code != pusher.CodeUnauthorized {
		t.Errorf("closed with %d and %d, want 4009", earlyConn.code, lateConn.code)
	}
	if again, _ := tenant.IssueID("secret"); tenant.Terminated("alice", again) || !tenant.Terminated("", before) {
		t.Error("it is not the ids from before that are ended")
	}
}

// A guest is refused, and not counted, when the app is full or the hub closes.
func TestGuestIsRefused(t *testing.T) {
	t.Parallel()
	h, a, _ := mustServe(t, Config{})
	a.Limits.MaxConnections = 1
	mustAttach(t, h, a, pusher.NewSocketID())
	if _, refusal := h.Attach(h.tenants[a], Peer{Conn: &silentConn{}}); refusal == nil || refusal.Code != pusher.CodeOverQuota {
		t.Errorf("got %v", refusal)
	}
	a.Limits.MaxConnections = 0
	h.node.census.close()
	if _, refusal := h.Attach(h.tenants[a], Peer{Conn: &silentConn{}}); refusal == nil || refusal.Code != pusher.CodeReconnect {
		t.Errorf("got %v", refusal)
	}
	if n := h.Connections(a); n != 1 {
		t.Errorf("%d connections are counted, want 1", n)
	}
}
