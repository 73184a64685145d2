package node_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"reecho/edge/app"
	"reecho/edge/config"
	"reecho/edge/pusher"
)

// An app that fills more than its share loses its own oldest events, and its
// clients are told; those of other apps get what they missed. The quiet app's
// events are older than what was removed: that the stream goes back that far
// once proved that nothing was missing.
func TestRetentionShare(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	busy := demoApp()
	quiet := demoApp(func(a *app.App) { a.ID, a.Credentials = "78", []app.Credential{{Key: "other", Secret: "other"}} })
	edit := func(c *config.Config) {
		c.Store.Dir, c.Log.Partitions, c.Log.MaxBytes, c.Log.EventsPerChannel = dir, 1, 1<<20, 1<<20
	}
	s := startServerWith(t, edit, busy, quiet)
	publish := func(a *app.App, channel, data string) {
		t.Helper()
		if err := s.Hub().Publish(t.Context(), a, []pusher.Publish{{Name: "score", Data: data, Channels: []string{channel}}}); err != nil {
			t.Fatal(err)
		}
	}
	connect := func(key string) *client {
		t.Helper()
		c := s.dial(t, "/app/"+key+goodQuery)
		c.established()
		return c
	}
	b, q := connect(key), connect("other")
	q.replay("match.1", map[string]any{})
	publish(quiet, "match.1", "1")
	quietPosition := q.wantScores("match.1", 1, 1)
	b.replay("match.1", map[string]any{})
	publish(busy, "match.1", "1")
	busyPosition := b.wantScores("match.1", 1, 1)
	publish(busy, "match.1", "2")
	publish(quiet, "match.1", "2")
	data := strings.Repeat("x", 10000)
	for i := range 3 << 20 / len(data) {
		publish(busy, fmt.Sprint("flood.", i%5), data)
	}
	publish(busy, "match.1", "3")
	newest := struct{ Position string }{}
	for f := b.next(); ; f = b.next() {
		// A gap may come first: the newest event that it had is gone, too.
		if f.Event == "score" && f.text(t) == "3" {
			if err := json.Unmarshal([]byte(f.raw), &newest); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if err := s.close(t.Context()); err != nil {
		t.Fatal(err)
	}

	s = startServerWith(t, edit, busy, quiet)
	q, b = connect("other"), connect(key)
	if got := q.replay("match.1", map[string]any{"after": quietPosition}); !got.Complete || got.Events != 1 {
		t.Errorf("of the quiet app: %+v", got)
	}
	q.wantOutcome("match.1", "reecho:resumed", outcome{Complete: true, Events: 1})
	q.wantScores("match.1", 2, 2)
	if got := b.replay("match.1", map[string]any{"after": busyPosition}); got.Complete || got.Reason != "trimmed_by_size" {
		t.Errorf("of the busy app: %+v", got)
	}
	b.wantOutcome("match.1", "reecho:gap", outcome{Reason: "trimmed_by_size"})
	again := connect(key)
	if got := again.replay("match.1", map[string]any{"after": newest.Position}); !got.Complete || got.Events != 0 {
		t.Errorf("of the busy app, from the end on: %+v", got)
	}
}
