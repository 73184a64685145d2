package node_test

import (
	"encoding/json"
	"testing"

	"reecho/edge/app"
)

// Clients decrypt what comes on an encrypted channel, unless it is the
// protocol's own: pusher-js dropped reecho:gap there.
func TestReplayOfEncryptedChannel(t *testing.T) {
	t.Parallel()
	const channel = "private-encrypted-chat"
	s := startServer(t)
	a := s.connect(t)
	position := a.replay(channel, map[string]any{}).Position
	s.scores(channel, 1, 2)
	a.wantScores(channel, 1, 2)
	b := s.connect(t)
	b.replay(channel, map[string]any{"after": position})
	b.wantOutcome(channel, "pusher:reecho:resumed", outcome{Complete: true, Events: 2})
	b.wantScores(channel, 1, 2)
	c := s.connect(t)
	c.replay(channel, map[string]any{"after": "0" + position[1:]})
	c.wantOutcome(channel, "pusher:reecho:gap", outcome{Reason: "epoch_changed"})
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
