package node_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"reecho/edge/app"
)

const watchlistEvents = "pusher_internal:watchlist_events"

// wantWatched returns when the next frame says what is wanted of watched users.
func (c *client) wantWatched(state, user string) {
	c.t.Helper()
	want := fmt.Sprintf(`{"events":[{"name":%q,"user_ids":[%q]}]}`, state, user)
	if f := c.want(watchlistEvents); f.text(c.t) != want {
		c.t.Fatalf("got %s, want %s", f.raw, want)
	}
}

// A user is online while it is signed in on any node: it may hop between them, and
// comes to be offline when the node that it is on has gone, dead or not.
func TestMeshWatchlist(t *testing.T) {
	t.Parallel()
	servers := startMesh(t, 3, asItIs, demoApp(func(a *app.App) { a.Watchlist = true }))
	alice := servers[0].connect(t)
	alice.signIn(`{"id":"alice"}`)
	watcher := servers[1].connect(t)
	watcher.signIn(`{"id":"bob","watchlist":["alice","carol"]}`)
	if f := watcher.want(watchlistEvents); f.text(t) != `{"events":[{"name":"online","user_ids":["alice"]},{"name":"offline","user_ids":["carol"]}]}` {
		t.Errorf("at first %s", f.raw)
	}
	carol := servers[2].connect(t)
	carol.signIn(`{"id":"carol"}`)
	watcher.wantWatched("online", "carol")

	// Alice hops, twice, and once is on two nodes: nobody hears of it.
	again := servers[2].connect(t)
	_ = alice.conn.Close()
	again.signIn(`{"id":"alice"}`)
	alice = servers[0].connect(t)
	alice.signIn(`{"id":"alice"}`)
	_ = again.conn.Close()
	_ = carol.conn.Close()
	watcher.wantWatched("offline", "carol")
	carol = servers[2].connect(t)
	carol.signIn(`{"id":"carol"}`)
	watcher.wantWatched("online", "carol")
	watcher.wantNothing()
	if err := servers[0].close(t.Context()); err != nil {
		t.Fatal(err)
	}
	watcher.wantWatched("offline", "alice")
	watcher.wantNothing()
}

// Terminating a user on one node ends its connections on all when the call is answered,
// and those alone; what is sent to the user has reached all before.
func TestMeshTerminate(t *testing.T) {
	t.Parallel()
	servers := startMesh(t, 3, asItIs)
	var alices, others []*client
	for _, s := range servers {
		for range 2 {
			c := s.connect(t)
			c.signIn(`{"id":"alice"}`)
			c.subscribe("#server-to-user-alice")
			alices = append(alices, c)
		}
		other := s.connect(t)
		other.signIn(`{"id":"bob"}`)
		others = append(others, other)
	}
	servers[1].publish("#server-to-user-alice", "notice", "1", "")
	for _, c := range alices {
		c.wantOn("#server-to-user-alice", "notice")
	}
	servers[2].wantCall("POST", base+"/users/alice/terminate_connections", nil, "{}", 200, "{}")
	for _, c := range alices {
		if reason := c.wantClose(4009); !strings.Contains(reason, "Terminated") {
			t.Errorf("closed with %q", reason)
		}
	}
	for i, c := range others {
		c.wantNothing()
		// It may come back at once, over a new connection.
		again := servers[i].connect(t)
		again.signIn(`{"id":"alice"}`)
		again.wantNothing()
	}
}

// A sign-in that is under way while its user is terminated on another node is caught:
// whichever of the two a node hears first, nobody stays signed in over a connection that
// was there before.
func TestMeshTerminateDuringSignIn(t *testing.T) {
	t.Parallel()
	servers := startMesh(t, 3, asItIs)
	for range 5 {
		var clients []*client
		for _, s := range servers {
			for range 3 {
				clients = append(clients, s.connect(t))
			}
		}
		var signing sync.WaitGroup
		for _, c := range clients {
			signing.Go(func() { c.trySignIn(`{"id":"alice"}`) })
		}
		servers[0].wantCall("POST", base+"/users/alice/terminate_connections", nil, "{}", 200, "{}")
		signing.Wait()
		for _, c := range clients {
			c.wantClose(4009)
		}
	}
}
