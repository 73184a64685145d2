package node_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reecho/edge/config"
)

// A copy of the data folder that is put back, the whole of it or the streams of
// events alone, is told of to whoever has something that the copy never had, also
// when other events have got the same sequences. Seen: "complete", with 60 events
// where 160 were new.
func TestCopyOfTheDataPutBack(t *testing.T) {
	t.Parallel()
	streams := filepath.Join("nats", "jetstream", "$G", "streams")
	for name, part := range map[string]string{"all": "", "events": filepath.Join(streams, "EVENTS-*")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const id = "1d2f7a50-6c6e-4f7e-9df0-000000000015"
			dir, copied := t.TempDir(), filepath.Join(t.TempDir(), "copy")
			edit := func(c *config.Config) { c.Store.Dir = dir }
			s := startServerWith(t, edit)
			a := s.connect(t)
			before := a.replay("match.1", map[string]any{}).Position
			s.scores("match.1", 1, 20)
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil { // while it is in use
				t.Fatal(err)
			}
			query := url.Values{"channel": {"match.1"}}
			stream, page := s.stream(t, query, ""), s.dialSession(t, id)
			stream.wantID(1)
			page.subscribe("match.1")
			s.scores("match.1", 21, 60)
			position := a.wantScores("match.1", 1, 60)
			stream.wantScores("match.1", 21, 60)
			page.wantScores("match.1", 21, 60)
			page.pong()
			if err := s.close(t.Context()); err != nil {
				t.Fatal(err)
			}

			putBack(t, copied, dir, part)
			s = startServerWith(t, edit)
			s.scores("match.1", 1, 100)
			b := s.connect(t)
			if got := b.replay("match.1", map[string]any{"after": position}); got.Complete || got.Reason != "epoch_changed" {
				t.Errorf("the plugin is told %+v", got)
			}
			if data, _ := s.stream(t, query, stream.lastID).next(); !strings.HasPrefix(data, `{"event":"reecho:gap"`) || !strings.Contains(data, "epoch_changed") {
				t.Errorf("the event stream is told %s", data)
			}
			page = s.dialSession(t, id)
			page.subscribe("match.1")
			if part != "" {
				page.wantOutcome("match.1", "reecho:gap", outcome{Reason: "epoch_changed"})
				return
			}
			// The copy is older than the session.
			page.wantOutcome("match.1", "reecho:gap", outcome{Reason: "session_expired"})
			if got := s.connect(t).replay("match.1", map[string]any{"after": before}); got.Complete || got.Reason != "epoch_changed" {
				t.Errorf("who may have missed what the copy has not is told %+v", got)
			}
		})
	}
}

// putBack replaces what matches a pattern, "" for all, by its copy.
func putBack(t *testing.T, from, to, pattern string) {
	t.Helper()
	for _, path := range mustGlob(t, filepath.Join(to, pattern)) {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range mustGlob(t, filepath.Join(from, pattern)) {
		if err := os.CopyFS(filepath.Join(to, strings.TrimPrefix(path, from)), os.DirFS(path)); err != nil {
			t.Fatal(err)
		}
	}
}

func mustGlob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("nothing is %s: %v", pattern, err)
	}
	return found
}
