package node_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"reecho/edge/app"
	"reecho/edge/config"
)

// outcome is what a subscription with replay is told.
type outcome struct {
	Complete bool   `json:"complete"`
	Events   int    `json:"events"`
	Position string `json:"position"`
	Reason   string `json:"reason"`
}

// replay subscribes with a replay member and returns the outcome.
func (c *client) replay(channel string, ask map[string]any) outcome {
	c.t.Helper()
	data := map[string]any{"channel": channel, "replay": ask}
	if strings.HasPrefix(channel, "private-") {
		data["auth"] = c.auth(channel, "")
	}
	c.send("pusher:subscribe", "", data)
	f := c.wantOn(channel, "pusher_internal:subscription_succeeded")
	var got struct {
		Replay *outcome `json:"replay"`
	}
	if err := json.Unmarshal([]byte(f.text(c.t)), &got); err != nil || got.Replay == nil {
		c.t.Fatalf("no outcome in %s (%v)", f.raw, err)
	}
	return *got.Replay
}

// wantScores expects score events with the data first to last, and returns the
// position of the last one, "" if they have none.
func (c *client) wantScores(channel string, first, last int) (position string) {
	c.t.Helper()
	for i := first; i <= last; i++ {
		f := c.wantOn(channel, "score")
		if got := f.text(c.t); got != strconv.Itoa(i) {
			c.t.Fatalf("got score %s, want %d", got, i)
		}
		var positioned struct{ Position string }
		if err := json.Unmarshal([]byte(f.raw), &positioned); err != nil {
			c.t.Fatal(err)
		}
		position = positioned.Position
	}
	return position
}

// wantOutcome expects the event that tells a client that came back.
func (c *client) wantOutcome(channel, event string, want outcome) {
	c.t.Helper()
	f := c.wantOn(channel, event)
	var got outcome
	if err := json.Unmarshal([]byte(f.text(c.t)), &got); err != nil {
		c.t.Fatal(err)
	}
	if got != want {
		c.t.Fatalf("got %s, want %+v", f.raw, want)
	}
}

func (c *client) cut() {
	_ = c.conn.Close()
}

func (s *server) scores(channel string, first, last int) {
	s.t.Helper()
	for i := first; i <= last; i++ {
		s.publish(channel, "score", strconv.Itoa(i), "")
	}
}

// watch returns a version of scores for one channel that returns when this node
// has delivered them: what is stored may be on its way for a moment, and a
// client that comes back in it gets the rest live.
func (s *server) watch(t *testing.T, channel string) (scores func(first, last int)) {
	t.Helper()
	c := s.connect(t)
	c.subscribe(channel)
	return func(first, last int) {
		t.Helper()
		s.scores(channel, first, last)
		for range last - first + 1 {
			c.wantOn(channel, "score")
		}
	}
}

// scoreBatch is scores in one request, at most 10.
func (s *server) scoreBatch(channel string, first, last int) {
	s.t.Helper()
	var batch []string
	for i := first; i <= last; i++ {
		batch = append(batch, fmt.Sprintf(`{"name":"score","channel":"%s","data":"%d"}`, channel, i))
	}
	if status, body := s.call("POST", "/apps/"+appID+"/batch_events", nil, `{"batch":[`+strings.Join(batch, ",")+`]}`); status != 200 {
		s.t.Fatalf("%d %s", status, body)
	}
}

// DESIGN §6: a client that says what it has gets exactly what it missed, with
// positions, in order, once.
func TestReplayAfter(t *testing.T) {
	t.Parallel()
	for _, channel := range []string{"match.1", "private-match.1"} {
		s := startServer(t)
		s.scores(channel, 1, 3)
		scores := s.watch(t, channel)
		a := s.connect(t)
		fresh := a.replay(channel, map[string]any{})
		if !fresh.Complete || fresh.Events != 0 || fresh.Position == "" {
			t.Fatalf("fresh: %+v", fresh)
		}
		scores(4, 6)
		position := a.wantScores(channel, 4, 6)
		a.cut()
		scores(7, 20)

		b := s.connect(t)
		got := b.replay(channel, map[string]any{"after": position})
		if want := (outcome{Complete: true, Events: 14, Position: position}); got != want {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		b.wantOutcome(channel, "reecho:resumed", outcome{Complete: true, Events: 14})
		last := b.wantScores(channel, 7, 20)
		scores(21, 21)
		if b.wantScores(channel, 21, 21) == last {
			t.Error("two events have one position")
		}
		// From the very first position on: nothing of it was in memory.
		c := s.connect(t)
		if got := c.replay(channel, map[string]any{"after": fresh.Position}); got.Events != 18 || !got.Complete {
			t.Fatalf("got %+v", got)
		}
		c.wantOutcome(channel, "reecho:resumed", outcome{Complete: true, Events: 18})
		c.wantScores(channel, 4, 21)
		c.wantNothing()
	}
}

// A stock client gets Pusher's frames, byte for byte, whoever else is there.
func TestReplayLeavesStockClientsAlone(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	stock, other := s.connect(t), s.connect(t)
	if f := stock.subscribe("match.1"); f.raw != `{"event":"pusher_internal:subscription_succeeded","channel":"match.1","data":"{}"}` {
		t.Errorf("got %s", f.raw)
	}
	other.replay("match.1", map[string]any{})
	s.scores("match.1", 1, 1)
	if f := stock.next(); f.raw != `{"event":"score","channel":"match.1","data":"1"}` {
		t.Errorf("got %s", f.raw)
	}
	if other.wantScores("match.1", 1, 1) == "" {
		t.Error("no position for the one who asked")
	}
}

// DESIGN §6: outcomes that are gaps, each with its reason, and live events after them.
func TestReplayGaps(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.RetentionEvents = 10 },
		demoApp(func(a *app.App) { a.Limits.ReplayEvents = 8 }),
		demoApp(func(a *app.App) {
			a.ID, a.Credentials = "78", []app.Credential{{Key: "other", Secret: "other"}}
		}))
	a := s.connect(t)
	first := a.replay("match.1", map[string]any{}).Position
	foreign := a.replay("match.2", map[string]any{}).Position
	s.scores("match.1", 1, 30)
	// The positions of all 30: the oldest are trimmed.
	positions := []string{first}
	for i := 1; i <= 30; i++ {
		positions = append(positions, a.wantScores("match.1", i, i))
	}
	epoch, rest, _ := strings.Cut(first, "-")
	for name, tt := range map[string]struct{ after, reason string }{
		"trimmed by count":      {positions[5], "trimmed_by_count"},
		"over the limit":        {positions[21], "over_limit"},
		"of another channel":    {foreign, "foreign_position"},
		"of another epoch":      {"0" + epoch[1:] + "-" + rest, "epoch_changed"},
		"beyond the end":        {positions[30] + "0", "unknown_position"},
		"nonsense":              {"yesterday", "unknown_position"},
		"with leading garbage":  {"-" + positions[30], "unknown_position"},
		"a number out of range": {first + "99999999999999999999", "unknown_position"},
	} {
		c := s.connect(t)
		got := c.replay("match.1", map[string]any{"after": tt.after})
		if got.Complete || got.Reason != tt.reason || got.Events != 0 || got.Position != positions[30] {
			t.Errorf("%s: got %+v, want reason %s", name, got, tt.reason)
		}
		c.wantOutcome("match.1", "reecho:gap", outcome{Reason: tt.reason})
		c.wantNothing()
	}
	for i := 22; i <= 30; i++ {
		c := s.connect(t)
		if got := c.replay("match.1", map[string]any{"after": positions[i]}); !got.Complete || got.Events != 30-i {
			t.Errorf("after %d: got %+v", i, got)
		}
		c.wantOutcome("match.1", "reecho:resumed", outcome{Complete: true, Events: 30 - i})
		c.wantScores("match.1", i+1, 30)
	}
}

// DESIGN §6, trim rule: a position whose own event is gone is whole while the client
// was there a moment ago, and in doubt when it does not say so.
func TestReplayQuietChannel(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.RetentionEvents = 1 })
	c := s.connect(t)
	first := c.replay("match.1", map[string]any{}).Position
	s.scores("match.1", 1, 1)
	c.wantScores("match.1", 1, 1)
	b := s.connect(t)
	// One newer event, one is kept: there may have been others.
	b.replay("match.1", map[string]any{"after": first})
	b.wantOutcome("match.1", "reecho:resumed", outcome{Complete: true, Events: 1}) // the node was there all the time
}

// Clients decrypt what comes on an encrypted channel, unless it is the
// protocol's own: pusher-js dropped reecho:gap there.
func TestReplayOfEncryptedChannel(t *testing.T) {
	t.Parallel()
	const channel = "private-encrypted-chat"
	s := startServer(t)
	a := s.connect(t)
	position := a.replay(channel, map[string]any{}).Position
	s.scores(channel, 1, 2)
	b := s.connect(t)
	b.replay(channel, map[string]any{"after": position})
	b.wantOutcome(channel, "pusher:reecho:resumed", outcome{Complete: true, Events: 2})
	b.wantScores(channel, 1, 2)
	c := s.connect(t)
	c.replay(channel, map[string]any{"after": "0" + position[1:]})
	c.wantOutcome(channel, "pusher:reecho:gap", outcome{Reason: "epoch_changed"})
}

// DESIGN §6: newest events and events since a time, for a client that joins.
func TestReplayHistory(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.RetentionEvents = 20 })
	s.scores("match.1", 1, 30)
	for _, last := range []int{1, 7, 20, 25} {
		c := s.connect(t)
		n := min(last, 20)
		if got := c.replay("match.1", map[string]any{"last": last}); !got.Complete || got.Events != n {
			t.Fatalf("last %d: got %+v", last, got)
		}
		c.wantScores("match.1", 31-n, 30)
		c.wantNothing()
	}
	middle := time.Now()
	scores := s.watch(t, "match.1")
	scores(31, 35)
	c := s.connect(t)
	if got := c.replay("match.1", map[string]any{"since": middle.Format(time.RFC3339Nano)}); !got.Complete || got.Events != 5 {
		t.Fatalf("since: got %+v", got)
	}
	c.wantScores("match.1", 31, 35)
	scores(36, 36)
	c.wantScores("match.1", 36, 36)
	late := s.connect(t)
	if got := late.replay("match.1", map[string]any{"since": middle.Add(-time.Hour).Format(time.RFC3339)}); got.Complete || got.Events != 20 || got.Reason != "trimmed_by_count" {
		t.Fatalf("since long ago: got %+v", got)
	}
	late.wantScores("match.1", 17, 36)
	next := s.connect(t)
	if got := next.replay("match.1", map[string]any{"since": time.Now().Add(time.Hour).Format(time.RFC3339)}); got.Events != 0 {
		t.Fatalf("since the future: got %+v", got)
	}
	next.wantNothing()
}

// History is cut to the limits of one replay, and that is told, whether the
// events were in memory or not.
func TestReplayHistoryIsCut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	edit := func(c *config.Config) { c.DataDir = dir }
	start := func() *server {
		return startServerWith(t, edit, demoApp(func(a *app.App) { a.Limits.ReplayEvents, a.Limits.ReplayBytes = 5, 1000 }))
	}
	s := start()
	began := time.Now()
	hot := s.connect(t)
	hot.subscribe("match.1")
	hot.subscribe("match.2")
	s.scores("match.1", 1, 20)
	long := strings.Repeat("x", 300)
	for range 4 {
		s.publish("match.2", "goal", long, "")
	}
	check := func(what string) {
		t.Helper()
		c := s.connect(t)
		for channel, asks := range map[string][]map[string]any{
			"match.1": {{"since": began.Format(time.RFC3339Nano)}, {"last": 6}},
			"match.2": {{"since": began.Format(time.RFC3339Nano)}, {"last": 4}},
		} {
			for _, ask := range asks {
				got := c.replay(channel, ask)
				if got.Complete || got.Reason != "over_limit" || got.Events == 0 {
					t.Errorf("%s, %s %v: got %+v", what, channel, ask, got)
				}
				if channel == "match.1" {
					c.wantScores(channel, 21-got.Events, 20)
				} else {
					for range got.Events {
						c.wantOn(channel, "goal")
					}
				}
				c.wantNothing()
				c.send("pusher:unsubscribe", "", map[string]any{"channel": channel})
			}
		}
	}
	check("hot")
	if err := s.close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = start()
	check("cold")
}

// With memory for one ring at most, clients that come back to many channels at
// once get what they ask for all the same.
func TestReplayWithoutMemory(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.ReplayMemory = 1 })
	began := time.Now()
	const channels, events = 6, 150
	a := s.connect(t)
	positions := make([]string, channels)
	name := func(i int) string { return fmt.Sprintf("match.%d", i) }
	for i := range positions {
		positions[i] = a.replay(name(i), map[string]any{}).Position
	}
	a.cut()
	for n := 1; n <= events; n += 10 {
		for i := range channels {
			s.scoreBatch(name(i), n, n+9)
		}
	}
	asks := []func(i int) map[string]any{
		func(i int) map[string]any { return map[string]any{"after": positions[i]} },
		func(int) map[string]any { return map[string]any{"last": events} },
		func(int) map[string]any { return map[string]any{"since": began.Format(time.RFC3339Nano)} },
	}
	clients := make([]*client, 4*len(asks))
	for j := range clients {
		clients[j] = s.connect(t)
		for i := range channels {
			clients[j].send("pusher:subscribe", "", map[string]any{"channel": name(i), "replay": asks[j%len(asks)](i)})
		}
	}
	for j, c := range clients {
		for i := range channels {
			f := c.wantOn(name(i), "pusher_internal:subscription_succeeded")
			if !strings.Contains(f.text(t), fmt.Sprintf(`"complete":true,"events":%d`, events)) {
				t.Fatalf("client %d: %s", j, f.raw)
			}
			if j%len(asks) == 0 {
				c.wantOutcome(name(i), "reecho:resumed", outcome{Complete: true, Events: events})
			}
			c.wantScores(name(i), 1, events)
		}
	}
}

// DESIGN §6: after a restart nothing is in memory, and everything is there.
func TestReplayAfterRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	edit := func(c *config.Config) { c.DataDir = dir }
	s := startServerWith(t, edit)
	a := s.connect(t)
	var positions []string
	const channels = 20
	for i := range channels {
		positions = append(positions, a.replay(fmt.Sprintf("match.%d", i), map[string]any{}).Position)
	}
	for n := 1; n <= 10; n++ {
		for i := range channels {
			s.scores(fmt.Sprintf("match.%d", i), n, n)
		}
	}
	if err := s.close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = startServerWith(t, edit)
	clients := make([]*client, 4)
	for j := range clients {
		clients[j] = s.connect(t)
		for i := range channels {
			name := fmt.Sprintf("match.%d", i)
			clients[j].send("pusher:subscribe", "", map[string]any{"channel": name, "replay": map[string]any{"after": positions[i]}})
		}
	}
	for _, c := range clients {
		for i := range channels {
			name := fmt.Sprintf("match.%d", i)
			c.wantOn(name, "pusher_internal:subscription_succeeded")
			c.wantOutcome(name, "reecho:resumed", outcome{Complete: true, Events: 10})
			c.wantScores(name, 1, 10)
		}
		c.wantNothing()
	}
}

// Making the positioned frames of a replay must not push out what is about to be
// sent.
func TestReplayFillsTheRing(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.Limits.ReplayBytes = 64 << 10 }))
	a := s.connect(t)
	first := a.replay("match.1", map[string]any{}).Position
	a.cut()
	poll(t, "the client to be gone", func() bool { return s.Hub().Connections(s.Hub().Apps().ByID(appID)) == 0 })
	const events = 900
	for i := 1; i <= events; i += 10 {
		s.scoreBatch("match.1", i, i+9)
	}
	b := s.connect(t)
	if got := b.replay("match.1", map[string]any{"after": first}); !got.Complete || got.Events != events {
		t.Fatalf("got %+v", got)
	}
	b.wantOn("match.1", "reecho:resumed")
	b.wantScores("match.1", 1, events)
	b.wantNothing()
}

// Large replays go out in chunks, with live events behind them.
func TestReplayInChunks(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.MaxQueuedBytes = 128 << 10 },
		demoApp(func(a *app.App) { a.Limits.ReplayBytes = 8 << 20 }))
	a := s.connect(t)
	first := a.replay("match.1", map[string]any{}).Position
	big := strings.Repeat("x", 9000)
	const events = 300
	for i := range events {
		s.publish("match.1", "score", fmt.Sprintf("%d %s", i, big), "")
	}
	a.cut()
	b := s.connect(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 50 {
			_ = s.tryPublish("match.1", "score", fmt.Sprintf("%d live", events+i), "")
		}
	}()
	if got := b.replay("match.1", map[string]any{"after": first}); !got.Complete || got.Events < events {
		t.Fatalf("got %+v", got)
	}
	b.wantOn("match.1", "reecho:resumed")
	for i := range events + 50 {
		if f := b.wantOn("match.1", "score"); !strings.HasPrefix(f.text(t), strconv.Itoa(i)+" ") {
			t.Fatalf("got %.60s, want %d", f.text(t), i)
		}
	}
	<-done
	b.wantNothing()
}

// Bad replay members get an error, and the connection stays.
func TestReplayBadRequests(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.connect(t)
	for _, tt := range []struct{ replay, part string }{
		{`5`, "replay: "},
		{`{"after":5}`, "replay.after is not a string"},
		{`{"last":0}`, "replay.last"},
		{`{"last":"3"}`, "replay.last"},
		{`{"last":1.5}`, "replay.last"},
		{`{"since":"noon"}`, "replay.since"},
		{`{"last":1,"after":"x"}`, "one of"},
		{`{"seen":-1,"after":"x"}`, "replay.seen"},
		{`{"seen":"x","after":"x"}`, "replay.seen"},
		{`{"except":["nobody"]}`, "replay.except"},
		{`{"except":["1.1","1.2","1.3","1.4","1.5","1.6","1.7","1.8","1.9"]}`, "limit 8"},
		{`{"after":"a","after":"b"}`, "twice"},
	} {
		c.sendText(`{"event":"pusher:subscribe","data":{"channel":"match.1","replay":` + tt.replay + `}}`)
		c.wantError(0, tt.part)
	}
	c.replay("match.1", map[string]any{})
}

// DESIGN §6: a position never gives access.
func TestReplayNeedsAuthorisation(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a := s.connect(t)
	position := a.replay("private-chat", map[string]any{}).Position
	s.scores("private-chat", 1, 3)
	a.wantScores("private-chat", 1, 3)
	b := s.connect(t)
	b.send("pusher:subscribe", "", map[string]any{"channel": "private-chat", "auth": key + ":0000", "replay": map[string]any{"after": position}})
	b.wantError(0, "Invalid signature")
	b.wantNothing()
}

// Events that were not meant for a socket are not replayed to the one that
// follows it.
func TestReplayExcept(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a := s.connect(t)
	position := a.replay("match.1", map[string]any{}).Position
	s.publish("match.1", "score", "1", a.socketID)
	s.publish("match.1", "score", "2", "")
	a.wantScores("match.1", 2, 2)
	a.cut()
	b := s.connect(t)
	s.publish("match.1", "score", "3", b.socketID) // before it has subscribed
	if got := b.replay("match.1", map[string]any{"after": position, "except": []string{a.socketID}}); got.Events != 1 {
		t.Errorf("got %+v", got)
	}
	b.wantOn("match.1", "reecho:resumed")
	b.wantScores("match.1", 2, 2)
	b.wantNothing()
}

// A cache channel gives its event to those who join, and not again to those who
// come back.
func TestReplayCacheChannel(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.publish("cache-a", "score", "1", "")
	a := s.connect(t)
	position := a.replay("cache-a", map[string]any{}).Position
	if p := a.wantScores("cache-a", 1, 1); p != "" {
		t.Errorf("the cached event has position %s", p)
	}
	b := s.connect(t)
	b.replay("cache-a", map[string]any{"after": position})
	b.wantOutcome("cache-a", "reecho:resumed", outcome{Complete: true})
	b.wantNothing()
	c := s.connect(t)
	c.replay("cache-a", map[string]any{"last": 5})
	if p := c.wantScores("cache-a", 1, 1); p == "" {
		t.Error("no position in the history")
	}
	c.wantNothing()
}

// Presence: members with the outcome, and members who come meanwhile.
func TestReplayPresence(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a := s.connect(t)
	data := `{"user_id":"ada"}`
	a.send("pusher:subscribe", "", map[string]any{
		"channel": "presence-room", "channel_data": data, "auth": a.auth("presence-room", data), "replay": map[string]any{},
	})
	f := a.wantOn("presence-room", "pusher_internal:subscription_succeeded")
	var got struct {
		Presence struct{ Count int }
		Replay   outcome
	}
	if err := json.Unmarshal([]byte(f.text(t)), &got); err != nil || got.Presence.Count != 1 || got.Replay.Position == "" {
		t.Fatalf("got %s", f.raw)
	}
	s.scores("presence-room", 1, 1)
	a.wantScores("presence-room", 1, 1)
}

// Retention off: delivered, not kept, and said so.
func TestReplayOfUnretainedChannel(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) {
		a.Retention = []app.Retention{{Channels: "cursor.*", Off: true}, {Channels: "short.*", Events: 2}}
	}))
	a := s.connect(t)
	position := a.replay("cursor.1", map[string]any{}).Position
	s.scores("cursor.1", 1, 2)
	a.wantScores("cursor.1", 1, 2)
	b := s.connect(t)
	if got := b.replay("cursor.1", map[string]any{"after": position}); got.Reason != "not_retained" {
		t.Errorf("got %+v", got)
	}
	b.wantOutcome("cursor.1", "reecho:gap", outcome{Reason: "not_retained"})
	s.scores("short.1", 1, 5)
	c := s.connect(t)
	if got := c.replay("short.1", map[string]any{"last": 5}); got.Events != 2 {
		t.Errorf("got %+v", got)
	}
	c.wantScores("short.1", 4, 5)
}

// DESIGN §6, way 5: the history API.
func TestHistoryAPI(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.RetentionEvents = 20 })
	path := "/apps/" + appID + "/channels/match.1/events"
	page := func(query url.Values) (scores []string, positions []string, more bool) {
		t.Helper()
		status, body := s.call("GET", path, query, "")
		var got struct {
			Events []struct {
				Position, Event, Data string
				Time                  time.Time
			}
			More bool
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 {
			t.Fatalf("%v: %d %s", query, status, body)
		}
		for _, e := range got.Events {
			if e.Event != "score" || time.Since(e.Time) > time.Hour {
				t.Errorf("got %+v", e)
			}
			scores, positions = append(scores, e.Data), append(positions, e.Position)
		}
		return scores, positions, got.More
	}
	if scores, _, more := page(nil); len(scores) != 0 || more {
		t.Errorf("of an empty channel: %v %v", scores, more)
	}
	s.scores("match.1", 1, 25)
	all, positions, more := page(nil)
	if strings.Join(all, " ") != "6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25" || more {
		t.Fatalf("all: %v %v", all, more)
	}
	for _, tt := range []struct {
		query url.Values
		want  string
		more  bool
	}{
		{url.Values{"limit": {"3"}}, "6 7 8", true},
		{url.Values{"after": {positions[2]}, "limit": {"3"}}, "9 10 11", true},
		{url.Values{"after": {positions[17]}, "limit": {"3"}}, "24 25", false},
		{url.Values{"after": {positions[19]}}, "", false},
		{url.Values{"order": {"desc"}, "limit": {"3"}}, "25 24 23", true},
		{url.Values{"order": {"desc"}, "limit": {"3"}, "before": {positions[3]}}, "8 7 6", false},
		{url.Values{"after": {positions[3]}, "before": {positions[6]}}, "10 11", false},
		{url.Values{"order": {"desc"}, "after": {positions[16]}}, "25 24 23", false},
		{url.Values{"since": {time.Now().Add(time.Minute).Format(time.RFC3339)}}, "", false},
	} {
		if got, _, more := page(tt.query); strings.Join(got, " ") != tt.want || more != tt.more {
			t.Errorf("%v: got %v %v, want %s %v", tt.query, got, more, tt.want, tt.more)
		}
	}
	s.scores("match.1", 26, 40)
	line := positions[0][:strings.LastIndexByte(positions[0], '-')+1]
	for _, tt := range []struct {
		query  url.Values
		status int
		part   string
	}{
		{url.Values{"after": {positions[0]}}, 410, "trimmed_by_count"},
		{url.Values{"after": {"x"}}, 400, "not a position"},
		{url.Values{"after": {line + "1000"}}, 400, "not a position"},
		{url.Values{"after": {line + "18446744073709551615"}}, 400, "not a position"},
		{url.Values{"after": {line + "18446744073709551616"}}, 400, "not a position"},
		{url.Values{"after": {"0" + positions[0][1:]}}, 410, "epoch_changed"},
		{url.Values{"limit": {"0"}}, 400, "limit"},
		{url.Values{"limit": {"1001"}}, 400, "1000"},
		{url.Values{"order": {"up"}}, 400, "order"},
		{url.Values{"since": {"noon"}}, 400, "RFC 3339"},
	} {
		if status, body := s.call("GET", path, tt.query, ""); status != tt.status || !strings.Contains(body, tt.part) {
			t.Errorf("%v: got %d %s, want %d %s", tt.query, status, body, tt.status, tt.part)
		}
	}
	if status, body := s.call("GET", "/apps/"+appID+"/channels/match.2/events", url.Values{"after": {positions[0]}}, ""); status != 400 || !strings.Contains(body, "another channel") {
		t.Errorf("foreign: %d %s", status, body)
	}
}

// A page of large events is as long as one of small ones.
func TestHistoryOfLargeEvents(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.Limits.EventDataBytes = 500 << 10 }))
	const events = 30
	for i := range events {
		s.publish("match.1", "score", strconv.Itoa(i)+strings.Repeat(" ", 400<<10), "")
	}
	for _, order := range []string{"asc", "desc"} {
		for _, limit := range []int{events - 1, events, events + 1} {
			status, body := s.call("GET", "/apps/"+appID+"/channels/match.1/events", url.Values{"order": {order}, "limit": {strconv.Itoa(limit)}}, "")
			var got struct {
				Events []struct{ Data string }
				More   bool
			}
			if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 {
				t.Fatalf("%d %v", status, err)
			}
			if n := min(limit, events); len(got.Events) != n || got.More != (limit < events) {
				t.Errorf("%s, limit %d: %d events, more %v", order, limit, len(got.Events), got.More)
			}
		}
	}
}

// sessionPath is the path of a stock client with wsPath: '/session/…'.
func sessionPath(id string) string {
	return "/session/" + id + "/app/" + key + "?protocol=7&client=js&version=8.6.0"
}

// dialSession connects with a session id.
func (s *server) dialSession(t testing.TB, id string) *client {
	t.Helper()
	c := s.dial(t, sessionPath(id))
	c.established()
	c.session = true
	return c
}

// pong answers the pings so far and the next one, which the server sends for
// what came after them, as pusher-js does at once.
func (c *client) pong() {
	c.t.Helper()
	for asked := c.asked + 1; asked > 0; asked-- {
		if c.asked == 0 {
			if f := c.nextAny(); f.Event != "pusher:ping" {
				c.t.Fatalf("got %s, want a ping", f.raw)
			}
		}
		c.asked = max(0, c.asked-1)
		c.sendText(`{"event":"pusher:pong","data":{}}`)
	}
}

// passed waits until the server has handled what was sent.
func (c *client) passed() {
	c.t.Helper()
	c.send("pusher:ping", "", map[string]any{})
	c.want("pusher:pong")
}

// DESIGN §6, way 2: a stock client with a session gets what it missed, whatever it had
// not confirmed again, and nothing that it had.
func TestSession(t *testing.T) {
	t.Parallel()
	const id = "1d2f7a50-6c6e-4f7e-9df0-000000000001"
	s := startServer(t)
	a := s.dialSession(t, id)
	a.subscribe("match.1")
	a.subscribe("private-chat")
	s.scores("match.1", 1, 3)
	a.wantScores("match.1", 1, 3)
	a.pong()
	a.passed()
	s.scores("match.1", 4, 5)
	a.wantScores("match.1", 4, 5) // and not confirmed
	a.cut()
	s.scores("match.1", 6, 9)
	s.scores("private-chat", 1, 2)

	b := s.dialSession(t, id)
	if f := b.subscribe("match.1"); f.text(t) != "{}" {
		t.Errorf("got %s", f.raw)
	}
	b.wantOutcome("match.1", "reecho:resumed", outcome{Complete: true, Events: 6})
	if b.wantScores("match.1", 4, 9) != "" {
		t.Error("a stock client got positions")
	}
	b.subscribe("private-chat")
	b.wantOutcome("private-chat", "reecho:resumed", outcome{Complete: true, Events: 2})
	b.wantScores("private-chat", 1, 2)
	b.subscribe("match.2") // new to the session
	s.scores("match.2", 1, 1)
	b.wantScores("match.2", 1, 1)
}

// What belongs to a session is of no use without authorisation.
func TestSessionGrantsNothing(t *testing.T) {
	t.Parallel()
	const id = "1d2f7a50-6c6e-4f7e-9df0-000000000002"
	s := startServer(t)
	a := s.dialSession(t, id)
	a.subscribe("private-chat")
	a.cut()
	s.scores("private-chat", 1, 2)
	thief := s.dialSession(t, id)
	thief.send("pusher:subscribe", "", map[string]any{"channel": "private-chat", "auth": key + ":0000"})
	thief.wantError(0, "Invalid signature")
	thief.wantNothing()
}

// A session id is checked, and belongs to one connection.
func TestSessionID(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, id := range []string{"", "short", strings.Repeat("x", 129), "0123456789abcde!"} {
		c := s.dial(t, sessionPath(id))
		c.wantClose(4005)
	}
	const id = "1d2f7a50-6c6e-4f7e-9df0-000000000003"
	a := s.dialSession(t, id)
	a.subscribe("match.1")
	b := s.dialSession(t, id)
	a.wantClose(4100)
	s.scores("match.1", 1, 1)
	b.subscribe("match.1")
	b.wantOn("match.1", "reecho:resumed")
	b.wantScores("match.1", 1, 1)
}

// An expired session is told so, once.
func TestSessionExpires(t *testing.T) {
	t.Parallel()
	const id = "1d2f7a50-6c6e-4f7e-9df0-000000000004"
	s := startServerWith(t, func(c *config.Config) { c.SessionTime = time.Nanosecond })
	a := s.dialSession(t, id)
	a.subscribe("match.1")
	a.cut()
	poll(t, "the session to expire", func() bool {
		b := s.dialSession(t, id)
		defer b.cut()
		b.subscribe("match.1")
		f := b.next()
		return f.Event == "reecho:gap" && strings.Contains(f.text(t), "session_expired")
	})
}

// DESIGN §6: a graceful stop asks first what has arrived, so that nothing is repeated;
// the session is there after the restart.
func TestSessionSurvivesRestart(t *testing.T) {
	t.Parallel()
	const id = "1d2f7a50-6c6e-4f7e-9df0-000000000005"
	dir := t.TempDir()
	edit := func(c *config.Config) { c.DataDir = dir; c.SessionAckInterval = time.Hour }
	s := startServerWith(t, edit)
	a := s.dialSession(t, id)
	a.subscribe("match.1")
	s.scores("match.1", 1, 3)
	a.wantScores("match.1", 1, 3)
	closed := make(chan error, 1)
	go func() { closed <- s.close(t.Context()) }()
	a.pong()
	a.wantClose(4200)
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	s = startServerWith(t, edit)
	s.scores("match.1", 4, 4)
	b := s.dialSession(t, id)
	b.subscribe("match.1")
	b.wantOutcome("match.1", "reecho:resumed", outcome{Complete: true, Events: 1})
	b.wantScores("match.1", 4, 4)
	b.wantNothing()
}

// A client that unsubscribes starts anew when it subscribes again.
func TestSessionUnsubscribe(t *testing.T) {
	t.Parallel()
	const id = "1d2f7a50-6c6e-4f7e-9df0-000000000006"
	s := startServer(t)
	a, other := s.dialSession(t, id), s.connect(t)
	other.subscribe("match.1")
	a.subscribe("match.1")
	a.send("pusher:unsubscribe", "", map[string]any{"channel": "match.1"})
	a.passed()
	s.scores("match.1", 1, 1)
	other.wantScores("match.1", 1, 1)
	a.subscribe("match.1")
	s.scores("match.1", 2, 2)
	a.wantScores("match.1", 2, 2)
}

// A session of too many channels says so when the client comes back, and not
// before.
func TestSessionOfManyChannels(t *testing.T) {
	t.Parallel()
	const id = "1d2f7a50-6c6e-4f7e-9df0-000000000007"
	dir := t.TempDir()
	edit := func(c *config.Config) { c.DataDir = dir; c.SessionChannels = 2 }
	s := startServerWith(t, edit)
	a := s.dialSession(t, id)
	for _, name := range []string{"match.1", "match.2", "match.3", "match.4"} {
		a.subscribe(name)
		s.scores(name, 1, 1)
		a.wantScores(name, 1, 1)
	}
	a.cut()
	if err := s.close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = startServerWith(t, edit)
	b := s.dialSession(t, id)
	b.subscribe("match.2")
	b.wantOutcome("match.2", "reecho:resumed", outcome{Complete: true, Events: 1})
	b.wantScores("match.2", 1, 1)
	b.subscribe("match.3")
	b.wantOutcome("match.3", "reecho:gap", outcome{Reason: "over_limit"})
}
