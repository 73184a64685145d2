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

// sink keeps what a channel delivers.
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

func (s *sink) Deliver(ev broker.Event, _ []byte) (positioned []byte) {
	s.events <- ev
	return nil
}

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

// asIs makes frames that are the text, and say their position in front of it.
func asIs(cfg Config) Config {
	cfg.Frame = func(text []byte) []byte { return text }
	cfg.Position = func(frame []byte, p Position) []byte { return append(append(p.AppendTo(nil), ' '), frame...) }
	return cfg
}

var silent = slog.New(slog.DiscardHandler)

func openNode(t *testing.T, b *broker.Broker, cfg Config) *Node {
	t.Helper()
	n := Open(LogsOf(b), asIs(cfg), silent)
	t.Cleanup(n.Close)
	return n
}

var matchOne = broker.Ref{App: "app-1", Channel: "match.1"}

func follow(t *testing.T, n *Node) (*Channel, *sink) {
	t.Helper()
	s := newSink()
	ch := n.Channel(matchOne, Bounds{Events: 1000, Bytes: 1 << 20, EventBytes: 1 << 10}, s)
	if err := ch.Attach(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ch, s
}

// deafen cuts the live path of a channel behind its back.
func deafen(ch *Channel) { ch.end() }

func TestFollow(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{})
	publish(t, b, 1, 3)
	ch, s := follow(t, openNode(t, b, Config{}))
	if string(s.last.Frame) != "3" {
		t.Errorf("the last event before is %s", s.last.Frame)
	}
	publish(t, b, 4, 50)
	s.want(t, 4, 50)
	ch.Close()
	publish(t, b, 51, 51)
	if len(s.events) != 0 {
		t.Errorf("delivered %s after Close", (<-s.events).Frame)
	}
}

// DESIGN §5: what the live path lost is found by each of the ways there are to learn
// of it, and delivered in order.
func TestRepair(t *testing.T) {
	t.Parallel()
	const never = time.Hour
	for name, tt := range map[string]struct {
		cfg   Config
		learn func(t *testing.T, b *broker.Broker, n *Node, ch *Channel)
	}{
		"a nudge": {Config{Recheck: never, Sweep: never}, func(t *testing.T, b *broker.Broker, _ *Node, ch *Channel) {
			t.Helper()
			last, _, err := b.Log(matchOne).Last(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			ch.Nudge(last.Sequence)
		}},
		"a later event": {Config{Recheck: never, Sweep: never}, func(t *testing.T, b *broker.Broker, _ *Node, ch *Channel) {
			t.Helper()
			events, _, err := b.Log(matchOne).Read(t.Context(), 0, 1000)
			if err != nil {
				t.Fatal(err)
			}
			last := events[len(events)-1]
			last.Previous = events[len(events)-2].Sequence
			ch.Live(last)
		}},
		"the re-check": {Config{Recheck: never, Sweep: never}, func(t *testing.T, _ *broker.Broker, n *Node, ch *Channel) {
			t.Helper()
			// As when its time has come.
			due, _ := n.due(time.Now().Add(2 * never))
			if len(due) != 1 || due[0] != ch {
				t.Errorf("%d channels are due", len(due))
			}
			n.compare(due)
		}},
		"the sweep": {Config{Recheck: never, Sweep: 300 * time.Millisecond}, func(*testing.T, *broker.Broker, *Node, *Channel) {}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := brokertest.Start(t, broker.Config{EventsPerChannel: 10000})
			n := openNode(t, b, tt.cfg)
			ch, s := follow(t, n)
			deafen(ch)
			const events = 3*fillBatch + 7 // several reads
			publish(t, b, 1, events)
			tt.learn(t, b, n, ch)
			s.want(t, 1, events)
		})
	}
}

// What was trimmed before it could be read is gone; the rest comes, and the
// channel goes on.
func TestRepairAfterTrim(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{EventsPerChannel: 5})
	ch, s := follow(t, openNode(t, b, Config{Recheck: time.Hour, Sweep: time.Hour}))
	deafen(ch)
	publish(t, b, 1, 20)
	last, _, err := b.Log(matchOne).Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ch.Nudge(last.Sequence + 100) // more than there is
	s.want(t, 16, 20)
	if gap := <-s.gaps; gap != TrimmedByCount {
		t.Errorf("the gap is said to be %s", gap)
	}
	ch.Live(broker.Event{Sequence: last.Sequence + 200, Previous: last.Sequence + 100, Frame: []byte("21")})
	s.want(t, 21, 21)
}

// Back-pressure: while the node cannot take live events they pile up, are
// dropped and counted as a disturbance; when it can again, everything arrives,
// once and in order.
func TestOverloadLosesNothing(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{EventsPerChannel: 1 << 20})
	stuck := make(chan struct{})
	_, s := follow(t, openNode(t, b, Config{Recheck: time.Hour, Sweep: time.Hour, Throttle: func() { <-stuck }}))
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
