package node_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws"

	"reecho/edge/app"
	"reecho/edge/config"
	"reecho/edge/limit"
	"reecho/edge/pusher"
)

// store publishes n score events to each channel, without HTTP.
func (s *server) store(channels []string, n int) {
	s.t.Helper()
	for i := range n {
		event := pusher.Publish{Name: "score", Data: fmt.Sprint(i + 1), Channels: channels}
		if err := s.Hub().Publish(context.Background(), s.Hub().Apps().ByKey(key), []pusher.Publish{event}); err != nil {
			s.t.Fatal(err)
		}
	}
}

func numbered(prefix string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("%s%d", prefix, i))
	}
	return names
}

// logLines is what was logged, for concurrent use.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// askPast asks for the past of channels on a new connection, and leaves.
func (s *server) askPast(channels []string) {
	conn, _, _, err := ws.Dial(context.Background(), "ws://"+s.addr+"/app/"+key+goodQuery)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	var frames []byte
	for _, name := range channels {
		text := fmt.Sprintf(`{"event":"pusher:subscribe","data":{"channel":"%s","replay":{"last":1000}}}`, name)
		frames = append(frames, ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte(text))))...)
	}
	_, _ = conn.Write(frames)
	// Until the first is answered: what is unread when it leaves is thrown away.
	for range 2 {
		_, _ = readFrame(conn)
	}
}

// However many have asked for the past of cold channels and left, those who come
// back get what they missed, nothing goes on for those who left, and the log
// stays short.
func TestPastDoesNotStarveComeBacks(t *testing.T) {
	t.Parallel()
	var logged logLines
	s := startServerLogging(t, slog.New(slog.NewTextHandler(&logged, nil)), func(c *config.Config) {
		c.Edge.ReplayMemory = 32 << 10 // every channel is cold again at once
		c.Log.Partitions = 1
	})
	cold, honest := numbered("cold.", 20), numbered("match.", 10)
	s.store(cold, 300)
	s.store(numbered("other.", 100), 300)
	positions := make([]string, len(honest))
	for i, name := range honest {
		c := s.connect(t)
		positions[i] = c.replay(name, map[string]any{}).Position
		c.cut()
	}
	s.store(honest, 5)
	s.store(cold, 50)

	var left sync.WaitGroup
	for range 5 {
		left.Go(func() {
			for range 20 {
				s.askPast(cold)
			}
		})
	}
	left.Wait()
	for range 3 {
		for i, name := range honest {
			c := s.connect(t)
			if got := c.replay(name, map[string]any{"after": positions[i]}); !got.Complete || got.Events != 5 {
				t.Errorf("%s: %+v", name, got)
			}
			c.wantOutcome(name, "reecho:resumed", outcome{Complete: true, Events: 5})
			c.wantScores(name, 1, 5)
			c.cut()
		}
	}
	poll(t, "everybody to be gone", func() bool { return s.Hub().Connections(s.Hub().Apps().ByKey(key)) == 0 })
	if text := logged.String(); strings.Contains(text, "unavailable") || strings.Contains(text, "cannot") || strings.Count(text, "\n") > 30 {
		t.Errorf("the log says:\n%.3000s", text)
	}
}

// Above the bound of an address replays wait, and all are served.
func TestReplaysPerAddress(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.Edge.ReplaysPerAddress, c.Edge.ReplayMemory = 1, 1 })
	names := numbered("match.", 40)
	s.store(names, 20)
	var clients []*client
	for _, name := range names {
		c := s.connect(t)
		c.send("pusher:subscribe", "", map[string]any{"channel": name, "replay": map[string]any{"last": 10}})
		clients = append(clients, c)
	}
	for i, c := range clients {
		c.wantOn(names[i], "pusher_internal:subscription_succeeded")
		c.wantScores(names[i], 11, 20)
	}
}

// An app's clients may read so much of the past: above it they are told, and
// those who come back are not concerned.
func TestReplayReadsPerSecond(t *testing.T) {
	t.Parallel()
	const perSecond = 2
	s := startServerWith(t, func(c *config.Config) { c.Edge.ReplayMemory = 1 },
		demoApp(func(a *app.App) { a.Limits.ReplayReadsPerSecond = perSecond }))
	s.store([]string{"match.1", "match.2"}, 50)
	a := s.connect(t)
	if got := a.replay("match.1", map[string]any{"last": 50}); !got.Complete || got.Events != 50 {
		t.Fatalf("a full budget: %+v", got)
	}
	position := a.wantScores("match.1", 1, 50)
	a.cut()
	for _, ask := range []map[string]any{{"last": 20}, {"since": "2020-01-01T00:00:00Z"}} {
		b := s.connect(t)
		b.send("pusher:subscribe", "", map[string]any{"channel": "match.2", "replay": ask})
		b.wantError(0, "2 events a second of it (replay_reads_per_second)")
		f := b.wantOn("match.2", "pusher_internal:subscription_succeeded")
		if !strings.Contains(f.text(t), `"reason":"over_limit"`) {
			t.Errorf("got %s", f.raw)
		}
		s.publish("match.2", "live", "1", "")
		b.wantOn("match.2", "live")
	}
	if n := s.Ledger().Total(limit.ReplayReads); n != 2 {
		t.Errorf("%d were counted, want 2", n)
	}
	s.scores("match.1", 51, 53)
	b := s.connect(t)
	if got := b.replay("match.1", map[string]any{"after": position}); !got.Complete {
		t.Errorf("a come-back: %+v", got)
	}
	b.wantOn("match.1", "reecho:resumed")
	b.wantScores("match.1", 51, 53) // the last perhaps live
}

// Above its limit an app has no more sessions: the client is served, and told.
func TestSessionLimits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		reason limit.Reason
		edit   func(*config.Config)
	}{
		{"of an app", limit.Sessions, func(c *config.Config) { c.Apps[0].Limits.Sessions = 2 }},
		{"of an address", limit.AddressSessions, func(c *config.Config) { c.Edge.Sessions.PerAddress = 2 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startServerWith(t, tt.edit)
			id := func(i int) string { return fmt.Sprintf("1d2f7a50-6c6e-4f7e-9df0-0000000001%02d", i) }
			a := s.dialSession(t, id(1))
			a.subscribe("match.1")
			s.dialSession(t, id(2)).subscribe("match.1")
			s.dialSession(t, id(2)).subscribe("match.2") // the same again
			c := s.dialSession(t, id(3))
			c.wantError(0, fmt.Sprintf("2 already (%s)", tt.reason))
			c.subscribe("match.1")
			s.scores("match.1", 1, 1)
			c.wantScores("match.1", 1, 1)
			if n := s.Ledger().Total(tt.reason); n != 1 {
				t.Errorf("%d were counted, want 1", n)
			}
			a.cut()
			poll(t, "room for a session", func() bool {
				d := s.dialSession(t, id(4))
				defer d.cut()
				d.sendText(`{"event":"pusher:ping"}`)
				return d.nextAny().Event == "pusher:pong"
			})
		})
	}
}

// A session of more channels than one record holds is whole after a restart.
func TestSessionOfManyRecords(t *testing.T) {
	t.Parallel()
	const id = "1d2f7a50-6c6e-4f7e-9df0-000000000008"
	dir := t.TempDir()
	edit := func(c *config.Config) { c.Store.Dir = dir }
	s := startServerWith(t, edit)
	names := numbered("match.", 70)
	a := s.dialSession(t, id)
	for _, name := range names {
		a.subscribe(name)
	}
	a.send("pusher:unsubscribe", "", map[string]any{"channel": names[0]})
	a.passed()
	a.cut()
	s.store(names, 1)
	if err := s.close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = startServerWith(t, edit)
	b := s.dialSession(t, id)
	b.subscribe(names[0])
	for _, name := range names[1:] {
		b.subscribe(name)
		b.wantOutcome(name, "reecho:resumed", outcome{Complete: true, Events: 1})
		b.wantScores(name, 1, 1)
	}
}
