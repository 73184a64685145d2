package node_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"testing"

	"reecho/edge/app"
	"reecho/edge/config"
)

// burst stores score events with the data first to last, in batches: the
// fan-out gets several at once and joins them for writing.
func (s *server) burst(channel string, first, last int) {
	s.t.Helper()
	for at := first; at <= last; at += app.DefaultBatchEvents {
		var batch []map[string]string
		for i := at; i <= min(at+app.DefaultBatchEvents-1, last); i++ {
			batch = append(batch, map[string]string{"name": "score", "channel": channel, "data": strconv.Itoa(i)})
		}
		if status, body := s.call("POST", "/apps/"+appID+"/batch_events", nil, mustJSON(s.t, map[string]any{"batch": batch})); status != 200 {
			s.t.Fatalf("batch: %d %s", status, body)
		}
	}
}

// burstReader is a stream, or polls, of a channel.
type burstReader struct {
	query  url.Values
	stream *eventStream
	got    []string
}

// collect reads score events until one has the data last, and asks again when
// a poll has its answer. Each data line must be one JSON object.
func (r *burstReader) collect(t *testing.T, s *server, last int) error {
	t.Helper()
	for {
		data, ok := r.stream.next()
		if !ok {
			if r.query.Get("poll") == "" {
				return fmt.Errorf("the stream ended after %d events: %w", len(r.got), r.stream.lines.Err())
			}
			r.stream = s.stream(t, r.query, r.stream.lastID)
			continue
		}
		var f frame
		if err := json.Unmarshal([]byte(data), &f); err != nil {
			return fmt.Errorf("after %d events: %w in %.300s", len(r.got), err, data)
		}
		var text string
		if err := json.Unmarshal(f.Data, &text); err != nil {
			return fmt.Errorf("data of %.300s: %w", data, err)
		}
		switch f.Event {
		case "score":
			if r.got = append(r.got, text); text == strconv.Itoa(last) {
				return nil
			}
		default:
			return fmt.Errorf("got %s", data)
		}
	}
}

// Whatever the fan-out joins for writing, a stream gets message by message:
// every data line is one JSON object, and every event arrives once, in order.
func TestEventStreamOfBursts(t *testing.T) {
	t.Parallel()
	const events = 300
	s := startServerWith(t, func(c *config.Config) { c.Edge.Shards = 1 }, demoApp(func(a *app.App) {
		a.SubscriptionCounts = true
		a.Retention = []app.Retention{{Channels: "live.*", Off: true}}
	}))
	for _, channel := range []string{"match.1", "live.1"} {
		t.Run(channel, func(t *testing.T) {
			var readers []*burstReader
			for range 6 {
				readers = append(readers, &burstReader{query: url.Values{"channel": {channel}}})
			}
			for i := 0; i < 4 && channel == "match.1"; i++ { // between polls of what is not retained, events are lost
				readers = append(readers, &burstReader{query: url.Values{"channel": {channel}, "poll": {"1"}}})
			}
			for _, r := range readers {
				r.stream = s.stream(t, r.query, "")
				r.stream.wantID(1)
			}
			// Beside the streams clients that get the same events without positions.
			for range 4 {
				s.connect(t).trySubscribe(channel, "")
			}
			failed := make(chan error, len(readers))
			for _, r := range readers {
				go func() { failed <- r.collect(t, s, events) }()
			}
			s.burst(channel, 1, events)
			for range readers {
				if err := <-failed; err != nil {
					t.Error(err)
				}
			}
			checkBurst(t, readers, events)
		})
	}
}

func checkBurst(t *testing.T, readers []*burstReader, events int) {
	t.Helper()
	for i, r := range readers {
		for n, text := range r.got {
			if text != strconv.Itoa(n+1) {
				t.Errorf("reader %d: event %d is %s", i, n+1, text)
				break
			}
		}
		if len(r.got) != events {
			t.Errorf("reader %d got %d events, want each of %d once", i, len(r.got), events)
		}
	}
}

// A poll is not answered by the count that it changes itself: the clients of a
// channel would ask without a pause. No stream is told of it: it is the
// protocol's own, and no event of the channel.
func TestEventStreamPollWithCounts(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.SubscriptionCounts = true }))
	query := url.Values{"channel": {"match.1"}, "poll": {"1"}}
	a := s.stream(t, query, "")
	for more := true; more; {
		_, more = a.next()
	}
	b := s.stream(t, query, a.lastID)
	s.scores("match.1", 1, 1)
	b.wantScores("match.1", 1, 1)
}
