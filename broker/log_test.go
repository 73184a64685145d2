package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
)

// hostile are names that must not reach beyond themselves.
var hostile = []string{"match.1", "*", ">", "a.b.c", "%41", "h.0.77.x", "ü", "."}

func publishNumbers(t *testing.T, b *broker.Broker, channel string, first, last int) {
	t.Helper()
	for i := first; i <= last; i++ {
		if err := b.Publish(t.Context(), []broker.Record{{App: "77", Channel: channel, Frame: []byte(fmt.Sprint(i))}}); err != nil {
			t.Fatal(err)
		}
	}
}

func frames(events []broker.Event) (all []string) {
	for _, ev := range events {
		all = append(all, string(ev.Frame))
	}
	return all
}

// The state of a stream, empty, full, and trimmed by count.
func TestState(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{Partitions: 1, EventsPerChannel: 3})
	state := func() broker.State {
		t.Helper()
		s, err := b.Log(broker.Ref{App: "77", Channel: "match.1"}).State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := state(); s.First != 1 || s.Last != 0 || !s.FirstTime.IsZero() {
		t.Errorf("empty: %+v", s)
	}
	publishNumbers(t, b, "match.1", 1, 5)
	if s := state(); s.First != 3 || s.Last != 5 || time.Since(s.FirstTime) > time.Hour || s.Bytes == 0 {
		t.Errorf("after five: %+v", s)
	}
	first, _, err := b.Log(broker.Ref{App: "77", Channel: "match.1"}).Read(t.Context(), 1, 1)
	if err != nil || len(first) != 1 || string(first[0].Frame) != "3" {
		t.Errorf("the first is %+v %v", first, err)
	}
	if none, _, err := b.Log(broker.Ref{App: "77", Channel: "match.2"}).Read(t.Context(), 1, 1); len(none) != 0 || err != nil {
		t.Errorf("of an empty channel: %+v %v", none, err)
	}
}

// The span of a channel: its oldest event and how many there are.
func TestSpan(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{Partitions: 1, EventsPerChannel: 3})
	for stored, want := range []struct {
		first    string
		retained int
	}{{"", 0}, {"1", 1}, {"1", 2}, {"1", 3}, {"2", 3}, {"3", 3}} {
		if stored > 0 {
			publishNumbers(t, b, "match.1", stored, stored)
			publishNumbers(t, b, "match.2", stored, stored)
		}
		first, n, err := b.Log(broker.Ref{App: "77", Channel: "match.1"}).Span(t.Context())
		if err != nil || n != want.retained || string(first.Frame) != want.first {
			t.Errorf("after %d: %d from %q, %v; want %d from %q", stored, n, first.Frame, err, want.retained, want.first)
		}
	}
}

// An event is there until it is trimmed; nothing is there of a channel of which
// nothing is kept.
func TestRetains(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{Partitions: 1, EventsPerChannel: 3, Rules: []broker.Rule{{App: "77", Channels: "off", Off: true}}})
	publishNumbers(t, b, "match.1", 1, 5)
	for sequence, want := range map[uint64]bool{1: false, 2: false, 3: true, 5: true, 6: false} {
		if got, err := b.Log(broker.Ref{App: "77", Channel: "match.1"}).Retains(t.Context(), sequence); got != want || err != nil {
			t.Errorf("%d is retained: %v, %v", sequence, got, err)
		}
	}
	if got, err := b.Log(broker.Ref{App: "77", Channel: "off"}).Retains(t.Context(), 3); got || err != nil {
		t.Errorf("of nothing that is kept: %v, %v", got, err)
	}
}

func TestReadSince(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{})
	publishNumbers(t, b, "match.1", 1, 3)
	middle := time.Now()
	publishNumbers(t, b, "match.1", 4, 6)
	for _, tt := range []struct {
		since time.Time
		limit int
		want  []string
		more  bool
	}{
		{middle, 10, []string{"4", "5", "6"}, false},
		{middle, 2, []string{"4", "5"}, true},
		{middle.Add(-time.Hour), 1, []string{"1"}, true},
		{middle.Add(time.Hour), 10, nil, false},
	} {
		events, more, err := b.Log(broker.Ref{App: "77", Channel: "match.1"}).ReadSince(t.Context(), tt.since, tt.limit)
		if err != nil || !slices.Equal(frames(events), tt.want) || more != tt.more {
			t.Errorf("since %s: %v %v %v, want %v %v", tt.since.Sub(middle), frames(events), more, err, tt.want, tt.more)
		}
	}
}

// A scan sees every event of every channel of its stream, in order and whole
// batches long.
func TestScan(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{Partitions: 2})
	const rounds = 150 // more than one batch
	for i := range rounds {
		for _, name := range hostile {
			publishNumbers(t, b, name, i, i)
		}
	}
	got := make(map[string][]string)
	for stream := range 2 {
		last := uint64(0)
		err := b.Scan(t.Context(), stream, 0, 1<<40, func(ref broker.Ref, ev broker.Event) bool {
			if ref.App != "77" || ev.Sequence <= last || b.Log(ref).Stream() != stream {
				t.Errorf("stream %d: %+v %d after %d", stream, ref, ev.Sequence, last)
			}
			last = ev.Sequence
			got[ref.Channel] = append(got[ref.Channel], string(ev.Frame))
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		// A part of it, and an end of one's own.
		var part []uint64
		if err := b.Scan(t.Context(), stream, 5, 9, func(_ broker.Ref, ev broker.Event) bool {
			part = append(part, ev.Sequence)
			return ev.Sequence < 8
		}); err != nil || !slices.Equal(part, []uint64{5, 6, 7, 8}) {
			t.Errorf("from 5 to 9, ended at 8: %v %v", part, err)
		}
	}
	for _, name := range hostile {
		if len(got[name]) != rounds || got[name][7] != "7" {
			t.Errorf("%q: %v", name, got[name])
		}
	}
}

// A pause ends with its context, and says so.
func TestPause(t *testing.T) {
	t.Parallel()
	if err := broker.Pause(t.Context(), 0); err != nil {
		t.Errorf("a pause that nobody ends: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := broker.Pause(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("a pause outlasted its context: %v", err)
	}
}
