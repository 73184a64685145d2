package replay

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"reecho/broker"
	"reecho/broker/brokertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// sink keeps what a tail delivers.
type sink struct {
	events chan broker.Event
	last   broker.Event
	gaps   chan Reason
}

func newSink() *sink {
	return &sink{events: make(chan broker.Event, 20000), gaps: make(chan Reason, 10)}
}

func (s *sink) Start(last broker.Event) { s.last = last }

func (s *sink) Gap(reason Reason) { s.gaps <- reason }

func (s *sink) Deliver(ev broker.Event) { s.events <- ev }

// want expects the frames from first to last, numbers, in order.
func (s *sink) want(t *testing.T, first, last int) {
	t.Helper()
	for i := first; i <= last; i++ {
		select {
		case ev := <-s.events:
			if string(ev.Frame) != fmt.Sprint(i) {
				t.Fatalf("got %s, want %d", ev.Frame, i)
			}
		case <-time.After(patience):
			t.Fatalf("%d was not delivered", i)
		}
	}
}

func publish(t *testing.T, b *broker.Broker, first, last int) {
	t.Helper()
	for i := first; i <= last; i++ {
		if err := b.Publish(t.Context(), []broker.Record{{App: "app-1", Channel: "match.1", Frame: []byte(fmt.Sprint(i))}}); err != nil {
			t.Fatal(err)
		}
	}
}

func open(t *testing.T, b *broker.Broker, cfg Config) (*Follower, *Tail, *sink, broker.Event) {
	t.Helper()
	f := NewFollower(b, cfg, slog.New(slog.DiscardHandler))
	t.Cleanup(f.Close)
	s := newSink()
	tail, err := f.Open(t.Context(), "app-1", "match.1", s)
	if err != nil {
		t.Fatal(err)
	}
	return f, tail, s, s.last
}

func TestFollow(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{})
	publish(t, b, 1, 3)
	_, tail, s, last := open(t, b, Config{})
	if string(last.Frame) != "3" {
		t.Errorf("the last event before is %s", last.Frame)
	}
	publish(t, b, 4, 50)
	s.want(t, 4, 50)
	tail.Close()
	publish(t, b, 51, 51)
	if len(s.events) != 0 {
		t.Errorf("delivered %s after Close", (<-s.events).Frame)
	}
}

// §5: what the live path lost is found by each of the ways there are to learn
// of it, and delivered in order. The live path is cut by closing the tail's
// subscription behind its back.
func TestRepair(t *testing.T) {
	t.Parallel()
	const never = time.Hour
	for name, tt := range map[string]struct {
		cfg   Config
		learn func(t *testing.T, b *broker.Broker, f *Follower, tail *Tail)
	}{
		"a nudge": {Config{Recheck: never, Sweep: never}, func(t *testing.T, b *broker.Broker, _ *Follower, tail *Tail) {
			t.Helper()
			last, _, err := b.Last(t.Context(), "app-1", "match.1")
			if err != nil {
				t.Fatal(err)
			}
			tail.Nudge(last.Sequence)
		}},
		"a later event": {Config{Recheck: never, Sweep: never}, func(t *testing.T, b *broker.Broker, _ *Follower, tail *Tail) {
			t.Helper()
			events, _, err := b.Read(t.Context(), "app-1", "match.1", 0, 1000)
			if err != nil {
				t.Fatal(err)
			}
			last := events[len(events)-1]
			last.Previous = events[len(events)-2].Sequence
			tail.Live(last)
		}},
		"the re-check": {Config{Recheck: never, Sweep: never}, func(t *testing.T, _ *broker.Broker, f *Follower, tail *Tail) {
			t.Helper()
			// As when its time has come.
			tails, _ := f.due(time.Now().Add(2 * never))
			if len(tails) != 1 || tails[0] != tail {
				t.Errorf("%d tails are due", len(tails))
			}
			f.compare(tails)
		}},
		"the sweep": {Config{Recheck: never, Sweep: 300 * time.Millisecond}, func(*testing.T, *broker.Broker, *Follower, *Tail) {}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := brokertest.Start(t, broker.Config{EventsPerChannel: 10000})
			f, tail, s, _ := open(t, b, tt.cfg)
			tail.sub.Close()
			const events = 3*fillBatch + 7 // several reads
			publish(t, b, 1, events)
			tt.learn(t, b, f, tail)
			s.want(t, 1, events)
		})
	}
}

// What was trimmed before it could be read is gone; the rest comes, and the
// tail goes on.
func TestRepairAfterTrim(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{EventsPerChannel: 5})
	_, tail, s, _ := open(t, b, Config{Recheck: time.Hour, Sweep: time.Hour})
	tail.sub.Close()
	publish(t, b, 1, 20)
	last, _, err := b.Last(t.Context(), "app-1", "match.1")
	if err != nil {
		t.Fatal(err)
	}
	tail.Nudge(last.Sequence + 100) // more than there is
	s.want(t, 16, 20)
	if gap := <-s.gaps; gap != TrimmedByCount {
		t.Errorf("the gap is said to be %s", gap)
	}
	tail.Live(broker.Event{Sequence: last.Sequence + 200, Previous: last.Sequence + 100, Frame: []byte("21")})
	s.want(t, 21, 21)
}

// Back-pressure: while the node cannot take live events they pile up, are
// dropped and counted as a disturbance; when it can again, everything arrives,
// once and in order.
func TestOverloadLosesNothing(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{EventsPerChannel: 1 << 20})
	stuck := make(chan struct{})
	s := newSink()
	f := NewFollower(b, Config{Recheck: time.Hour, Sweep: time.Hour, Throttle: func() { <-stuck }}, slog.New(slog.DiscardHandler))
	t.Cleanup(f.Close)
	if _, err := f.Open(t.Context(), "app-1", "match.1", s); err != nil {
		t.Fatal(err)
	}
	const events = 10000 // more than wait for the dispatcher
	records := make([]broker.Record, 100)
	for i := 0; i < events; i += len(records) {
		for j := range records {
			records[j] = broker.Record{App: "app-1", Channel: "match.1", Frame: []byte(fmt.Sprint(i + j + 1))}
		}
		if err := b.Publish(t.Context(), records); err != nil {
			t.Fatal(err)
		}
	}
	close(stuck)
	s.want(t, 1, events)
}
