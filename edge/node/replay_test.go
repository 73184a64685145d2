package node_test

import (
	"encoding/json"
	"fmt"
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
	if got := c.wantTold(channel, event); got != want {
		c.t.Fatalf("%s: got %+v, want %+v", channel, got, want)
	}
}

// wantTold expects it with any outcome.
func (c *client) wantTold(channel, event string) (told outcome) {
	c.t.Helper()
	f := c.wantOn(channel, event)
	if err := json.Unmarshal([]byte(f.text(c.t)), &told); err != nil {
		c.t.Fatal(err)
	}
	return told
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
	s := startServerWith(t, func(c *config.Config) { c.Log.EventsPerChannel = 10 },
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
	s := startServerWith(t, func(c *config.Config) { c.Log.EventsPerChannel = 1 })
	c := s.connect(t)
	first := c.replay("match.1", map[string]any{}).Position
	s.scores("match.1", 1, 1)
	c.wantScores("match.1", 1, 1)
	b := s.connect(t)
	// One newer event, one is kept: there may have been others.
	b.replay("match.1", map[string]any{"after": first})
	b.wantOutcome("match.1", "reecho:resumed", outcome{Complete: true, Events: 1}) // the node was there all the time
}

// DESIGN §6: newest events and events since a time, for a client that joins.
func TestReplayHistory(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.Log.EventsPerChannel = 20 })
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
	edit := func(c *config.Config) { c.Store.Dir = dir }
	start := func() *server {
		return startServerWith(t, edit, demoApp(func(a *app.App) { a.Limits.ReplayEvents, a.Limits.ReplayBytes = 5, 1000 }))
	}
	s := start()
	began := time.Now()
	hot := s.connect(t)
	hot.subscribe("match.1")
	hot.subscribe("match.2")
	s.scores("match.1", 1, 20)
	hot.wantScores("match.1", 1, 20)
	long := strings.Repeat("x", 300)
	for range 4 {
		s.publish("match.2", "goal", long, "")
		hot.wantOn("match.2", "goal")
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
		{`{"except":["1.1"` + strings.Repeat(`,"1.1"`, 32) + `]}`, "limit 32"},
		{`{"after":"a","after":"b"}`, "twice"},
	} {
		c.sendText(`{"event":"pusher:subscribe","data":{"channel":"match.1","replay":` + tt.replay + `}}`)
		c.wantError(0, tt.part)
	}
	c.replay("match.1", map[string]any{})
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
