package node_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"reecho/edge/app"
	"reecho/edge/config"
)

// asItIs changes nothing of the nodes of a mesh.
func asItIs(int, *config.Config) {}

// wantEverywhere makes a call to each of servers until it is answered so by all.
func wantEverywhere(t *testing.T, servers []*server, path string, query url.Values, want string) {
	t.Helper()
	for _, s := range servers {
		s.wantAnswer(t, "GET", path, query, "", want)
	}
}

// wantAnswer makes a call until it is answered so: a node of a busy machine may take
// longer than it is waited for, and what it has is missing then.
func (s *server) wantAnswer(t *testing.T, method, path string, query url.Values, body, want string) {
	t.Helper()
	poll(t, fmt.Sprintf("%s %s %s to be answered with %s", method, path, body, want), func() bool {
		_, got := s.call(method, base+path, query, body)
		return got == want
	})
}

// Who may send client events to channels that he is not on may do so from a node that
// does not know the channel.
func TestMeshUnsubscribedClientEvents(t *testing.T) {
	t.Parallel()
	servers := startMesh(t, 3, asItIs, demoApp(func(a *app.App) { a.UnsubscribedClientEvents = true }))
	a, b := servers[0].connect(t), servers[1].connect(t)
	b.subscribe("private-x")
	a.sendText(`{"event":"client-x","channel":"private-x","data":{"n":1}}`)
	if f, want := b.next(), `{"event":"client-x","channel":"private-x","data":"{\"n\":1}"}`; f.raw != want {
		t.Errorf("got  %s\nwant %s", f.raw, want)
	}
}

// What is asked of one node is answered for all: a node that has nobody on a channel
// knows who is, also with a publish; what one node says stays true while another is
// dead and not known to be, and becomes what is left when it is.
func TestMeshOccupancy(t *testing.T) {
	t.Parallel()
	servers := startMesh(t, 3, asItIs)
	var clients []*client
	for i, s := range servers[:2] {
		for range i + 1 {
			c := s.connect(t)
			c.subscribe("chat")
			clients = append(clients, c)
		}
		clients[i].subscribe(fmt.Sprintf("match.%d", i+1))
	}
	counts := url.Values{"info": {"subscription_count"}}
	wantEverywhere(t, servers, "/channels/chat", counts, `{"occupied":true,"subscription_count":3}`)
	wantEverywhere(t, servers, "/channels/match.1", nil, `{"occupied":true}`)
	wantEverywhere(t, servers, "/channels/nothing", counts, `{"occupied":false,"subscription_count":0}`)
	wantEverywhere(t, servers, "/connections", nil, `{"connections":3}`)
	// A user is one on however many nodes.
	clients[0].join(lobby, `{"user_id":"alice"}`)
	clients[1].join(lobby, `{"user_id":"alice"}`)
	clients[2].join(lobby, `{"user_id":"bob"}`)
	both := url.Values{"info": {"user_count,subscription_count"}, "filter_by_prefix": {"presence-"}}
	wantEverywhere(t, servers, "/channels", both, `{"channels":{"presence-lobby":{"user_count":2,"subscription_count":3}}}`)
	wantEverywhere(t, servers, "/channels/presence-lobby", url.Values{"info": {"user_count"}}, `{"occupied":true,"user_count":2}`)
	for _, s := range servers {
		poll(t, "the list of all channels", func() bool {
			_, list := s.call("GET", base+"/channels", counts, "")
			return strings.Contains(list, `"chat":{"subscription_count":3}`) &&
				strings.Contains(list, `"match.1":{"subscription_count":1}`) && strings.Contains(list, `"match.2":{"subscription_count":1}`)
		})
		s.wantAnswer(t, "GET", "/channels", url.Values{"filter_by_prefix": {"match.2"}}, "", `{"channels":{"match.2":{}}}`)
		s.wantAnswer(t, "POST", "/events", nil, `{"name":"x","data":"1","channels":["chat","other"],"info":"subscription_count"}`,
			`{"channels":{"chat":{"subscription_count":3},"other":{"subscription_count":0}}}`)
		s.wantAnswer(t, "POST", "/batch_events", nil, `{"batch":[{"name":"x","data":"1","channel":"chat"},{"name":"x","data":"1","channel":"chat","info":"subscription_count"}]}`,
			`{"batch":[{},{"subscription_count":3}]}`)
	}
	_ = clients[0].conn.Close()
	wantEverywhere(t, servers, "/channels/match.1", nil, `{"occupied":false}`)
	wantEverywhere(t, servers, "/channels/chat", counts, `{"occupied":true,"subscription_count":2}`)
	wantEverywhere(t, servers, "/connections", nil, `{"connections":2}`)
}

// The limit on an app's connections is one for all nodes, and a node that goes takes
// its connections with it: its clients find room on the others.
func TestMeshConnectionLimit(t *testing.T) {
	t.Parallel()
	servers := startMesh(t, 3, asItIs, demoApp(func(a *app.App) { a.Limits.MaxConnections = 6 }))
	for i, s := range servers {
		for range 2 {
			s.connect(t)
		}
		wantEverywhere(t, servers, "/connections", nil, fmt.Sprintf(`{"connections":%d}`, 2*i+2))
	}
	for _, s := range servers {
		seventh := s.dial(t, "/app/"+key+goodQuery)
		// A beat that is late on a busy machine is a doubt.
		end := <-seventh.closed
		if end.code != 4004 && end.code != 4100 || !strings.Contains(end.reason, "6 connections") {
			t.Errorf("the seventh is closed with %d %q", end.code, end.reason)
		}
	}
	if err := servers[2].close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantEverywhere(t, servers[:2], "/connections", nil, `{"connections":4}`)
	for _, s := range servers[:2] {
		s.connect(t)
	}
	wantEverywhere(t, servers[:2], "/connections", nil, `{"connections":6}`)
}

// Of five nodes one that has other apps than the others is not ready and says which; the
// others are.
func TestMeshOfDifferentConfigurations(t *testing.T) {
	t.Parallel()
	servers := startMesh(t, 5, func(i int, c *config.Config) {
		if i == 4 {
			c.Apps = append(c.Apps, demoApp(func(a *app.App) {
				a.ID, a.Credentials = "78", []app.Credential{{Key: "another", Secret: secret}}
			}))
		}
	})
	poll(t, "the fifth to say what differs", func() bool {
		response, text := servers[4].askRaw(t, get("/ready"))
		return response.status == 503 && strings.Count(text, ": it lacks app 78") == 4
	})
	for _, s := range servers[:4] {
		poll(t, "the others to be ready", func() bool { response, _ := s.askRaw(t, get("/ready")); return response.status == 200 })
	}
}
