package node_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reecho/broker/brokertest/seed"
	"reecho/edge/app"
)

const lobby = "presence-lobby"

// D-60, D-61, D-62, D-67, D-70: two members, byte for byte.
func TestPresenceFrames(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := s.connect(t), s.connect(t)
	f := a.join(lobby, `{"user_id":42,"user_info":{"name":"Zoë"}}`)
	if want := `{"presence":{"ids":["42"],"hash":{"42":{"name":"Zoë"}},"count":1}}`; f.text(t) != want {
		t.Errorf("got  %s\nwant %s", f.text(t), want)
	}
	f = b.join(lobby, `{ "user_id" : "u-7" , "x":1 }`)
	if want := `{"presence":{"ids":["42","u-7"],"hash":{"42":{"name":"Zoë"},"u-7":null},"count":2}}`; f.text(t) != want {
		t.Errorf("got  %s\nwant %s", f.text(t), want)
	}
	if f := a.wantOn(lobby, "pusher_internal:member_added"); f.text(t) != `{"user_id":"u-7"}` {
		t.Errorf("got %s", f.raw)
	}
	_ = a.conn.Close() // D-65: the TCP connection is lost
	if f := b.wantOn(lobby, "pusher_internal:member_removed"); f.text(t) != `{"user_id":"42"}` {
		t.Errorf("got %s", f.raw)
	}
	b.wantNothing()
}

// D-63, D-64, D-66: a user on several sockets is one member, also when its id is
// written as a number and as a string.
func TestPresenceUserOnTwoSockets(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	watcher, one, two := s.connect(t), s.connect(t), s.connect(t)
	watcher.join(lobby, `{"user_id":"w"}`)
	one.join(lobby, `{"user_id":42}`)
	watcher.wantOn(lobby, "pusher_internal:member_added")
	if f := two.join(lobby, `{"user_id":"42","user_info":2}`); !strings.Contains(f.text(t), `"count":2`) {
		t.Errorf("got %s", f.raw)
	}
	one.send("pusher:unsubscribe", "", map[string]any{"channel": lobby})
	one.wantNothing()
	watcher.wantNothing()
	_ = two.conn.Close()
	if f := watcher.wantOn(lobby, "pusher_internal:member_removed"); f.text(t) != `{"user_id":"42"}` {
		t.Errorf("got %s", f.raw)
	}
}

// D-69, D-72, D-74: channel_data that is refused.
func TestPresenceRefused(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.connect(t)
	for _, data := range []string{
		`x`, `{}`, `[]`, `{"user_id":null}`, `{"user_id":""}`, `{"user_id":{}}`, `{"user_id":1.5}`, `{"user_id":"a","user_id":"b"}`,
		`{"user_id":"` + strings.Repeat("x", 129) + `"}`, `{"user_id":"a","user_info":"` + strings.Repeat("x", 1100) + `"}`,
	} {
		c.trySubscribe(lobby, data)
		c.wantError(0, "")
	}
	c.trySubscribe(lobby, "")
	c.wantError(0, "channel_data")
	if _, body := s.call("GET", "/apps/"+appID+"/channels/"+lobby, nil, ""); body != `{"occupied":false}` {
		t.Errorf("somebody is there: %s", body)
	}
}

// D-71: the limit counts users, not sockets.
func TestPresenceLimit(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.Limits.PresenceMembers = 3 }))
	for i := range 3 {
		s.connect(t).join(lobby, fmt.Sprintf(`{"user_id":%d}`, i))
	}
	c := s.connect(t)
	c.trySubscribe(lobby, `{"user_id":"new"}`)
	c.wantError(0, "3 members")
	c.join(lobby, `{"user_id":"2"}`)
}

// D-73: a signed-in user needs no channel_data.
func TestPresenceOfSignedInUser(t *testing.T) {
	t.Parallel()
	c := startServer(t).connect(t)
	c.signIn(`{"id":"u-7","user_info":{"name":"Ada"}}`)
	f := c.join(lobby, "")
	if want := `{"presence":{"ids":["u-7"],"hash":{"u-7":{"name":"Ada"}},"count":1}}`; f.text(t) != want {
		t.Errorf("got  %s\nwant %s", f.text(t), want)
	}
}

// D-75, D-76 on one node: whatever 20 clients do at random, each member's view
// ends as the API's, and the room empties.
func TestPresenceChurn(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const clients, turns = 20, 60
	first := seed.First(t)
	var wg sync.WaitGroup
	watchers := make([]*client, clients)
	for i := range watchers {
		watchers[i] = s.connect(t)
	}
	for i, c := range watchers {
		random := rand.New(rand.NewPCG(first, uint64(i)))
		wg.Go(func() {
			in := false
			for range turns {
				if in {
					c.send("pusher:unsubscribe", "", map[string]any{"channel": lobby})
				} else {
					// Users share ids: 20 clients are 7 users.
					c.trySubscribe(lobby, fmt.Sprintf(`{"user_id":"user-%d"}`, i%7))
				}
				in = random.IntN(3) != 0 && !in
				if !in {
					c.send("pusher:unsubscribe", "", map[string]any{"channel": lobby})
				}
			}
			if !in {
				c.trySubscribe(lobby, fmt.Sprintf(`{"user_id":"user-%d"}`, i%7))
			}
			// Commands are handled in order: this one comes last.
			c.trySubscribe(fmt.Sprintf("done.%d", i), "")
		})
	}
	wg.Wait()
	hub := s.Hub()
	poll(t, "all commands to be handled", func() bool {
		return len(hub.Channels(t.Context(), hub.Apps().ByID(appID), "done.")) == clients
	})
	want := s.members()
	views := make([]view, clients)
	for i, c := range watchers {
		views[i] = view{}
		// What came too often is told a while later.
		for !slices.Equal(views[i].members(), want) {
			views[i].follow(c)
		}
	}
	// A member that joins now tells everybody that what was before is over.
	s.connect(t).join(lobby, `{"user_id":"marker"}`)
	for i, c := range watchers {
		for !views[i]["marker"] {
			views[i].follow(c)
		}
		delete(views[i], "marker")
		if diff := cmp.Diff(want, views[i].members()); diff != "" {
			t.Errorf("client %d's view (-API +view):\n%s", i, diff)
		}
		_ = c.conn.Close()
	}
	poll(t, "the room to empty", func() bool { return len(s.members()) == 1 })
}

func (s *server) members() []string {
	s.t.Helper()
	_, body := s.call("GET", "/apps/"+appID+"/channels/"+lobby+"/users", nil, "")
	var answer struct{ Users []struct{ ID string } }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		s.t.Fatalf("%s: %v", body, err)
	}
	ids := []string{}
	for _, u := range answer.Users {
		ids = append(ids, u.ID)
	}
	slices.Sort(ids)
	return ids
}

// view is the members of the lobby as a client knows them from its frames.
type view map[string]bool

func (v view) members() []string { return slices.Sorted(maps.Keys(v)) }

// follow takes the client's next frame.
func (v view) follow(c *client) {
	c.t.Helper()
	v.take(c.t, c.next())
}

// take takes a frame. Nobody may come or go twice in a row.
func (v view) take(t testing.TB, f frame) {
	t.Helper()
	if f.Channel == nil || *f.Channel != lobby || f.Event == "pusher:subscription_error" {
		return
	}
	var data struct {
		Presence struct{ IDs []string }
		UserID   string `json:"user_id"`
	}
	if err := json.Unmarshal([]byte(f.text(t)), &data); err != nil {
		t.Fatalf("%s: %v", f.raw, err)
	}
	switch f.Event {
	case "pusher_internal:subscription_succeeded":
		clear(v)
		for _, id := range data.Presence.IDs {
			v[id] = true
		}
	case "pusher_internal:member_added":
		if v[data.UserID] {
			t.Fatalf("%s was added twice", data.UserID)
		}
		v[data.UserID] = true
	case "pusher_internal:member_removed":
		if !v[data.UserID] {
			t.Fatalf("%s was removed and never added", data.UserID)
		}
		delete(v, data.UserID)
	}
}

// A user who signs in and goes in a loop is told to watchers like one who stays:
// online once, and offline after the grace.
func TestWatchedUserInALoop(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.Watchlist = true }))
	watcher := s.connect(t)
	watcher.signIn(`{"id":"ada","watchlist":["mallory"]}`)
	watcher.want("pusher_internal:watchlist_events")
	for range 50 {
		c := s.connect(t)
		c.signIn(`{"id":"mallory"}`)
		_ = c.conn.Close()
	}
	for _, change := range []string{"online", "offline"} {
		if f := watcher.want("pusher_internal:watchlist_events"); !strings.Contains(f.raw, change) {
			t.Errorf("got %s, want %s", f.raw, change)
		}
	}
	watcher.wantNothing()
}
