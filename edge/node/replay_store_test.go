package node_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"reecho/edge/app"
	"reecho/edge/config"
)

// With memory for one ring at most, clients that come back to many channels at
// once get what they ask for all the same.
func TestReplayWithoutMemory(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.Edge.ReplayMemory = 1 })
	began := time.Now()
	const channels, events = 6, 150
	a := s.connect(t)
	positions := make([]string, channels)
	name := func(i int) string { return fmt.Sprintf("match.%d", i) }
	for i := range positions {
		positions[i] = a.replay(name(i), map[string]any{}).Position
	}
	a.cut()
	watcher := s.connect(t)
	for i := range channels {
		watcher.subscribe(name(i))
	}
	for n := 1; n <= events; n += 10 {
		for i := range channels {
			s.scoreBatch(name(i), n, n+9)
			watcher.wantScores(name(i), n, n+9)
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
	edit := func(c *config.Config) { c.Store.Dir = dir }
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
	watcher := s.connect(t)
	watcher.subscribe("match.1")
	for i := 1; i <= events; i += 10 {
		s.scoreBatch("match.1", i, i+9)
	}
	watcher.wantScores("match.1", 1, events)
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
	s := startServerWith(t, func(c *config.Config) { c.Socket.MaxQueuedBytes = 128 << 10 },
		demoApp(func(a *app.App) { a.Limits.ReplayBytes = 8 << 20 }))
	a := s.connect(t)
	first := a.replay("match.1", map[string]any{}).Position
	big := strings.Repeat("x", 9000)
	const events = 300
	for i := range events {
		s.publish("match.1", "score", fmt.Sprintf("%d %s", i, big), "")
		a.wantOn("match.1", "score")
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
