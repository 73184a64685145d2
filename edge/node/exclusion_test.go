package node_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// follower is a client of a kind that comes back, and has its place.
type follower interface {
	// id is the socket id of its connection.
	id() string
	// back breaks the connection, and comes back with a new socket id.
	back()
	// want expects scores, and no other events before them.
	want(channel string, first, last int)
}

// plugin keeps its places, and says what ids it had.
type plugin struct {
	*client
	s      *server
	places map[string]string
	had    []string
}

func newPlugin(t *testing.T, s *server, channels []string) follower {
	t.Helper()
	p := &plugin{client: s.connect(t), s: s, places: make(map[string]string)}
	for _, channel := range channels {
		p.places[channel] = p.replay(channel, map[string]any{}).Position
	}
	return p
}

func (p *plugin) id() string { return p.socketID }

func (p *plugin) back() {
	p.had = append(p.had, p.socketID)
	p.cut()
	p.client = p.s.connect(p.t)
	for channel, at := range p.places {
		got := p.replay(channel, map[string]any{"after": at, "except": p.had})
		p.wantOutcome(channel, "reecho:resumed", outcome{Complete: true})
		p.places[channel] = got.Position
	}
}

func (p *plugin) want(channel string, first, last int) {
	p.places[channel] = p.wantScores(channel, first, last)
}

// stock is a stock client with a session.
type stock struct {
	*client
	s        *server
	session  string
	channels []string
}

func newStock(t *testing.T, s *server, channels []string) follower {
	t.Helper()
	c := &stock{s: s, session: "1d2f7a50-6c6e-4f7e-9df0-000000000010", channels: channels}
	c.client = s.dialSession(t, c.session)
	for _, channel := range channels {
		c.subscribe(channel)
	}
	return c
}

func (c *stock) id() string { return c.socketID }

func (c *stock) back() {
	c.pong() // for what was written last, of which some was not for it
	c.passed()
	c.cut()
	c.client = c.s.dialSession(c.t, c.session)
	for _, channel := range c.channels {
		c.subscribe(channel)
		c.wantOutcome(channel, "reecho:resumed", outcome{Complete: true})
	}
}

func (c *stock) want(channel string, first, last int) { c.wantScores(channel, first, last) }

// streaming reads an event stream, for a new socket id each time.
type streaming struct {
	*eventStream
	s        *server
	now      string
	had      []string
	channels []string
}

func newStreaming(t *testing.T, s *server, channels []string) follower {
	t.Helper()
	r := &streaming{eventStream: &eventStream{t: t}, s: s, channels: channels}
	r.open("")
	r.wantID(len(channels))
	return r
}

func (r *streaming) id() string { return r.now }

func (r *streaming) open(last string) {
	r.now, _ = r.s.streamID(r.t, http.MethodGet)
	query := signed(r.now, r.channels...)
	query["except"] = r.had
	r.eventStream = r.s.stream(r.t, query, last)
}

func (r *streaming) back() {
	r.had = append(r.had, r.now)
	r.hang()
	r.open(r.lastID)
	for range r.channels {
		if data, _ := r.next(); !strings.Contains(data, "reecho:resumed") || !strings.Contains(data, `\"events\":0`) {
			r.t.Fatalf("got %s", data)
		}
	}
}

func (r *streaming) want(channel string, first, last int) { r.wantScores(channel, first, last) }

// An application publishes with the socket id that its request came with, and the
// client has come back meanwhile: that is not for it, live and when it comes back
// again. It was delivered to the client that had caused it.
func TestExclusionOfEarlierIDs(t *testing.T) {
	t.Parallel()
	channels := []string{"match.1", "private-chat"}
	kinds := map[string]func(*testing.T, *server, []string) follower{"plugin": newPlugin, "session": newStock, "stream": newStreaming}
	for kind, follow := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			f, other := follow(t, s, channels), s.connect(t)
			for _, channel := range channels {
				other.subscribe(channel)
			}
			var had []string
			for n := 1; n <= 4; n++ {
				for _, channel := range channels {
					for i, id := range append(had, f.id()) {
						s.publishNotFor(id, channel, "live", i%2 == 0)
						other.wantOn(channel, "live")
					}
					s.scores(channel, n, n)
					other.wantScores(channel, n, n)
					f.want(channel, n, n)
					// The last one leaves a place behind which there is nothing for it.
					s.publishNotFor(append(had, f.id())[0], channel, "last", false)
					other.wantOn(channel, "last")
				}
				had = append(had, f.id())
				f.back()
			}
		})
	}
}

// publishNotFor stores an event that is not for a socket id, in a batch or alone.
func (s *server) publishNotFor(id, channel, name string, batch bool) {
	s.t.Helper()
	if !batch {
		s.publish(channel, name, "own", id)
		return
	}
	body := mustJSON(s.t, map[string]any{"batch": []map[string]string{{"name": name, "channel": channel, "data": "own", "socket_id": id}}})
	if status, answer := s.call(http.MethodPost, "/apps/"+appID+"/batch_events", nil, body); status != http.StatusOK {
		s.t.Fatalf("batch: %d %s", status, answer)
	}
}

// A poll that waits is not answered with what was not for an earlier one.
func TestPollExcludesEarlierIDs(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	query := url.Values{"channel": {"match.1"}, "poll": {"1"}, "socket_id": {"1.2"}}
	a := s.stream(t, query, "")
	if data, more := a.next(); more {
		t.Fatalf("got %s", data)
	}
	query.Set("socket_id", "1.3")
	query.Set("except", "1.2")
	b := s.stream(t, query, a.lastID)
	demo := s.Hub().Apps().ByID(appID)
	poll(t, "the client to wait", func() bool { return s.Hub().Channel(t.Context(), demo, "match.1").Subscriptions == 1 })
	s.publish("match.1", "score", "own", "1.2")
	s.scores("match.1", 1, 1)
	b.wantScores("match.1", 1, 1)
}

// Who claims ids that are not its own gets nothing that is not for them, and that is
// all: those who have them, or had them too, are left out as before, and get what is
// for them, client events too.
func TestClaimedIDs(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	owner, other := s.connect(t), s.connect(t)
	owner.subscribe("private-x")
	other.subscribe("private-x")
	thief, back := s.connect(t), s.connect(t)
	const earlier = "1001.2002"
	for _, c := range []*client{thief, back} {
		c.replay("private-x", map[string]any{"after": "?", "except": []string{owner.socketID, earlier}})
		c.wantOn("private-x", "reecho:gap")
	}
	for _, id := range []string{owner.socketID, earlier} {
		s.publish("private-x", "own", "x", id)
		other.wantOn("private-x", "own")
	}
	owner.wantOn("private-x", "own") // of the earlier id
	thief.cut()
	s.publish("private-x", "own", "x", earlier)
	other.wantOn("private-x", "own")
	owner.wantOn("private-x", "own")
	other.sendText(`{"event":"client-x","channel":"private-x","data":{}}`)
	for _, c := range []*client{owner, back} {
		c.wantOn("private-x", "client-x")
	}
	owner.sendText(`{"event":"client-x","channel":"private-x","data":{}}`)
	other.wantOn("private-x", "client-x")
	s.scores("private-x", 1, 1)
	for _, c := range []*client{owner, other, back} {
		c.wantScores("private-x", 1, 1)
	}
}

// What comes while a client still gets the parts of what it missed is not for it
// either, on a presence channel, where it is a member by then, and on others.
func TestExclusionBetweenParts(t *testing.T) {
	t.Parallel()
	const earlier = "1001.2002"
	s := startServer(t)
	watcher := s.connect(t)
	watcher.join(lobby, `{"user_id":"watcher"}`)
	s.lobbyEvents(watcher, 0, missed)
	slow := s.visit(t, s.addr, "slow", 0, earlier)
	watcher.wantOn(lobby, "pusher_internal:member_added")
	s.publish(lobby, "own", "x", earlier)
	watcher.wantOn(lobby, "own")
	s.lobbyEvents(watcher, missed, 1)
	slow.readUntil(func() bool { return slow.events == missed+1 })
	s.publish(lobby, "own", "x", earlier)
	watcher.wantOn(lobby, "own")
	s.lobbyEvents(watcher, missed+1, 1)
	slow.readUntil(func() bool { return slow.events == missed+2 })
}
