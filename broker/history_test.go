package broker_test

import (
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
		s, err := b.State(t.Context(), "77", "match.1")
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
	first, ok, err := b.First(t.Context(), "77", "match.1")
	if err != nil || !ok || string(first.Frame) != "3" {
		t.Errorf("the first is %s %v %v", first.Frame, ok, err)
	}
	if _, ok, err := b.First(t.Context(), "77", "match.2"); ok || err != nil {
		t.Errorf("of an empty channel: %v %v", ok, err)
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
		first, n, err := b.Span(t.Context(), "77", "match.1")
		if err != nil || n != want.retained || string(first.Frame) != want.first {
			t.Errorf("after %d: %d from %q, %v; want %d from %q", stored, n, first.Frame, err, want.retained, want.first)
		}
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
		events, more, err := b.ReadSince(t.Context(), "77", "match.1", tt.since, tt.limit)
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
			if ref.App != "77" || ev.Sequence <= last || b.Stream(ref.App, ref.Channel) != stream {
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

func TestStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, stop := brokertest.Open(t, dir, broker.Config{})
	cfg := broker.StoreConfig{Name: "sessions", MaxAge: time.Hour, MaxBytes: 1 << 20}
	open := func() *broker.Store {
		t.Helper()
		s, err := b.OpenStore(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	for i, key := range hostile {
		for _, value := range []string{"old", fmt.Sprint("new ", i)} {
			if err := s.Put(t.Context(), key, []byte(value)); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop()
	b, stop = brokertest.Open(t, dir, broker.Config{})
	defer stop()
	cfg.MaxAge = 2 * time.Hour
	s = open()
	for i, key := range hostile {
		value, put, ok, err := s.Get(t.Context(), key)
		if err != nil || !ok || string(value) != fmt.Sprint("new ", i) || time.Since(put) > time.Hour {
			t.Errorf("%q: %q %s %v %v", key, value, put, ok, err)
		}
	}
	if err := s.Put(t.Context(), "empty", nil); err != nil {
		t.Fatal(err)
	}
	if value, _, ok, err := s.Get(t.Context(), "empty"); !ok || err != nil || len(value) != 0 {
		t.Errorf("an empty value: %q %v %v", value, ok, err)
	}
	if _, _, ok, err := s.Get(t.Context(), "nobody"); ok || err != nil {
		t.Errorf("of nobody: %v %v", ok, err)
	}
}

// A full store forgets what was put longest ago, and takes what is new.
func TestStoreFull(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{})
	s, err := b.OpenStore(t.Context(), broker.StoreConfig{Name: "small", MaxAge: time.Hour, MaxBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	const keys = 100
	value := make([]byte, 2<<10)
	for i := range keys {
		if err := s.Put(t.Context(), fmt.Sprint(i), value); err != nil {
			t.Fatalf("value %d: %v", i, err)
		}
	}
	for i, want := range map[int]bool{0: false, keys / 2: false, keys - 10: true, keys - 1: true} {
		if _, _, ok, err := s.Get(t.Context(), fmt.Sprint(i)); err != nil || ok != want {
			t.Errorf("value %d: %v %v, want %v", i, ok, err, want)
		}
	}
}

// Rules: each has its own limits, the first that matches counts, and what is off
// is delivered and not stored.
func TestRules(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := broker.Config{EventsPerChannel: 10, Rules: []broker.Rule{
		{App: "77", Channels: "cursor.*", Off: true},
		{App: "77", Channels: "*.short", EventsPerChannel: 2},
		{App: "77", Channels: "a*c*e", EventsPerChannel: 3, Memory: true},
		{App: "78", Channels: "*", EventsPerChannel: 1},
	}}
	b, stop := brokertest.Open(t, dir, cfg)
	for channel, keeps := range map[string]int{"plain": 10, "x.short": 2, "abcde": 3, "ace": 3, "acb": 10, "cursor.short": 0} {
		publishNumbers(t, b, channel, 1, 12)
		events, _, err := b.Read(t.Context(), "77", channel, 0, 100)
		if err != nil || len(events) != keeps {
			t.Errorf("%s keeps %d (%v), want %d", channel, len(events), err, keeps)
		}
		if kept := b.Retention("77", channel); kept.Off != (keeps == 0) || keeps > 0 && kept.EventsPerChannel != int64(keeps) {
			t.Errorf("%s: %+v", channel, kept)
		}
	}
	r := newRecorder()
	sub, err := b.Subscribe(t.Context(), "77", "cursor.1", r)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), []broker.Record{{App: "77", Channel: "cursor.1", Frame: []byte("x"), Exclude: "1.2"}}); err != nil {
		t.Fatal(err)
	}
	if ev := r.want(t, "x"); ev.Sequence != 0 || ev.Exclude != "1.2" {
		t.Errorf("got %+v", ev)
	}
	sub.Close()
	for _, ask := range []func() error{
		func() error { _, ok, err := b.Last(t.Context(), "77", "cursor.1"); return none(ok, err) },
		func() error { _, ok, err := b.First(t.Context(), "77", "cursor.1"); return none(ok, err) },
		func() error { s, err := b.State(t.Context(), "77", "cursor.1"); return none(s.Last != 0, err) },
		func() error {
			tails, err := b.Tails(t.Context(), []broker.Ref{{App: "77", Channel: "cursor.1"}})
			return none(tails[0] != 0, err)
		},
	} {
		if err := ask(); err != nil {
			t.Error(err)
		}
	}
	epoch, plain := b.Epoch("77", "x.short"), b.Epoch("77", "plain")
	stop()

	// Numbers may change; what is kept in memory is gone, and has a new epoch.
	cfg.Rules[1].EventsPerChannel = 1
	b, stop = brokertest.Open(t, dir, cfg)
	if events, _, err := b.Read(t.Context(), "77", "x.short", 0, 100); err != nil || len(events) != 1 {
		t.Errorf("after the change: %d %v", len(events), err)
	}
	if b.Epoch("77", "x.short") != epoch || b.Epoch("77", "plain") != plain {
		t.Error("the epoch changed with a number")
	}
	stop()
}

func none(found bool, err error) error {
	if err == nil && found {
		err = errors.New("something of a channel that is off is retained")
	}
	return err
}

// What cannot be done says so.
func TestRulesRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, stop := brokertest.Open(t, dir, broker.Config{Rules: []broker.Rule{{App: "77", Channels: "x*"}}})
	publishNumbers(t, b, "x1", 1, 1)
	stop()
	for name, rules := range map[string][]broker.Rule{
		"changed storage": {{App: "77", Channels: "x*", Memory: true}},
		"twice the same":  {{App: "77", Channels: "x*"}, {App: "77", Channels: "x*", EventsPerChannel: 1}},
	} {
		if err := brokertest.TryOpen(t, dir, broker.Config{Rules: rules}); !errors.Is(err, broker.ErrRules) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
