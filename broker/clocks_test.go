package broker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/natsd"
)

// A message may be late by any time, so it proves only that a clock is ahead, or, of a
// pulse that came back, that it is outside of the time that this took.
func TestAheadOf(t *testing.T) {
	t.Parallel()
	sent := time.Date(2026, 11, 26, 8, 0, 0, 0, time.UTC)
	heard := sent.Add(3 * time.Second)
	for stamp, want := range map[time.Time]time.Duration{
		sent: 0, heard: 0, sent.Add(time.Second): 0,
		heard.Add(20 * time.Second): 20 * time.Second, sent.Add(-time.Minute): -time.Minute,
	} {
		if got := broker.AheadOf(sent, stamp, heard); got != want {
			t.Errorf("a stamp of %v: ahead by %v, want %v", stamp, got, want)
		}
	}
}

// lines is a log for tests that look at it.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// with counts the lines that have all of the words.
func (l *lines) with(words ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			n++
		}
	}
	return n
}

// A node says which clock differs from its own when that begins, gets worse and ends,
// not at each beat, and knows how much it was for as long as events of then are there.
func TestClocks(t *testing.T) {
	t.Parallel()
	server, err := natsd.Start(t.Context(), natsd.Config{Dir: t.TempDir()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close(context.Background()) }()
	var said lines
	b, err := broker.New(t.Context(), broker.Config{Shared: true, Node: "a"}, struct{ broker.Dialer }{server}, false, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close(context.Background()) }()
	if err := b.Nodes().Start(); err != nil {
		t.Fatal(err)
	}
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	chat := b.Log(broker.Ref{App: "app-1", Channel: "chat"})
	poll(t, "the stamps to be compared", func() bool { return chat.Sound(t.Context()) == nil })
	if skew := chat.Skew(); skew != 0 {
		t.Errorf("the clocks of one machine differ by %v", skew)
	}
	// Another node says what its clock says, and what it finds of this one's.
	beat := func(clock, ahead time.Duration) {
		t.Helper()
		text, err := json.Marshal(map[string]any{
			"name": "b", "life": "b1", "config": b.Nodes().Config(), "time": time.Now().Add(clock),
			"ahead": map[string]time.Duration{b.Nodes().Self().Life: ahead},
		})
		if err == nil {
			err = nc.Publish("node.beat", text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	until := func(what string, clock, ahead time.Duration, done func() bool) {
		t.Helper()
		poll(t, what, func() bool {
			beat(clock, ahead)
			return done()
		})
	}
	until("a node whose messages are late", -time.Minute, 0, func() bool { return len(b.Nodes().Peers()) > 0 })
	until("a clock that is ahead", 7*time.Second, 0, func() bool { return said.with("node b", "a clock differs", "ahead=") == 1 })
	if skew := chat.Skew(); skew < 6*time.Second || skew > 7*time.Second {
		t.Errorf("the clock of a node is ahead by 7 s, and the skew is %v", skew)
	}
	until("a clock that is far behind", -20*time.Second, 20*time.Second, func() bool { return said.with("node b", "so wrong", "ahead=-20s") == 1 })
	until("a clock that is right again", 0, 0, func() bool { return said.with("node b", "agrees") == 1 })
	if n := said.with("node b", "clock"); n != 3 {
		t.Errorf("%d lines of one clock, want 3", n)
	}
	// What was stored, and noted, meanwhile is there still.
	if skew := chat.Skew(); skew != 20*time.Second {
		t.Errorf("a clock was behind by 20 s, and the skew is %v", skew)
	}
}
