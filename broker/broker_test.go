package broker_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"reecho/broker"
	"reecho/broker/brokertest"
)

func TestMain(m *testing.M) {
	if childPublishes() {
		return
	}
	goleak.VerifyTestMain(m)
}

const patience = 20 * time.Second

// poll waits until done is true.
func poll(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); moment() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in time", what)
		}
	}
}

// moment is the pause between two looks at something that has no signal.
func moment() { <-time.After(10 * time.Millisecond) }

// recorder is a Receiver that keeps what it gets.
type recorder struct {
	events chan broker.Event
	nudges chan uint64
}

func newRecorder() *recorder {
	return &recorder{events: make(chan broker.Event, 10000), nudges: make(chan uint64, 100)}
}

func (r *recorder) Live(ev broker.Event)  { r.events <- ev }
func (r *recorder) Nudge(sequence uint64) { r.nudges <- sequence }

func (r *recorder) want(t *testing.T, frame string) broker.Event {
	t.Helper()
	select {
	case ev := <-r.events:
		if string(ev.Frame) != frame {
			t.Fatalf("got %s, want %s", ev.Frame, frame)
		}
		return ev
	case <-time.After(patience):
		t.Fatalf("%s was not delivered", frame)
	}
	panic("unreachable")
}

func record(channel, frame string) broker.Record {
	return broker.Record{App: "app-1", Channel: channel, Frame: []byte(frame)}
}

func mustPublish(t testing.TB, b *broker.Broker, records ...broker.Record) {
	t.Helper()
	if err := b.Publish(t.Context(), records); err != nil {
		t.Fatal(err)
	}
}

func mustSubscribe(t testing.TB, b *broker.Broker, app, channel string, r broker.Receiver) *broker.Subscription {
	t.Helper()
	s, err := b.Log(broker.Ref{App: app, Channel: channel}).Subscribe(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLiveEventsCarryTheirPredecessor(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{Partitions: 1})
	r := newRecorder()
	mustSubscribe(t, b, "app-1", "match.1", r)
	mustPublish(t, b, record("match.1", "one"))
	mustPublish(t, b, record("other", "noise"))
	before := time.Now()
	mustPublish(t, b, broker.Record{App: "app-1", Channel: "match.1", Frame: []byte("two"), Exclude: "1.2"})
	one, two := r.want(t, "one"), r.want(t, "two")
	if one.Sequence != 1 || one.Previous != 0 || two.Sequence != 3 || two.Previous != 1 {
		t.Errorf("got sequences %d after %d and %d after %d, want 1 after 0 and 3 after 1",
			one.Sequence, one.Previous, two.Sequence, two.Previous)
	}
	if one.Exclude != "" || two.Exclude != "1.2" {
		t.Errorf("got exclusions %q and %q", one.Exclude, two.Exclude)
	}
	if stored := time.Unix(0, two.Time); stored.Before(before.Add(-time.Second)) || stored.After(time.Now().Add(time.Second)) {
		t.Errorf("stored at %v, published at %v", stored, before)
	}
}

func TestPublishKeepsTheOrderOfAChannel(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{PublishWindow: 8})
	r := newRecorder()
	mustSubscribe(t, b, "app-1", "match.1", r)
	const batches, size = 40, 25 // more than the window
	for i := range batches {
		records := make([]broker.Record, size)
		for j := range records {
			records[j] = record("match.1", fmt.Sprint(i*size+j))
		}
		mustPublish(t, b, records...)
	}
	var last uint64
	for i := range batches * size {
		ev := r.want(t, fmt.Sprint(i))
		if ev.Previous != last {
			t.Fatalf("event %d follows %d, want %d", i, ev.Previous, last)
		}
		last = ev.Sequence
	}
}

func TestConcurrentPublishersLoseNothing(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{PublishWindow: 4})
	var wg sync.WaitGroup
	const publishers, each = 16, 50
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				if err := b.Publish(t.Context(), []broker.Record{record(fmt.Sprintf("chat.%d", p), fmt.Sprint(i))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for p := range publishers {
		events, more, err := b.Log(broker.Ref{App: "app-1", Channel: fmt.Sprintf("chat.%d", p)}).Read(t.Context(), 0, each+1)
		if err != nil || more {
			t.Fatalf("more %v, error %v", more, err)
		}
		for i, ev := range events {
			if string(ev.Frame) != fmt.Sprint(i) {
				t.Fatalf("event %d of chat.%d is %s", i, p, ev.Frame)
			}
		}
		if len(events) != each {
			t.Fatalf("chat.%d has %d events, want %d", p, len(events), each)
		}
	}
}

// DESIGN §3: names that mean something in NATS subjects stay names.
func TestHostileNamesStayApart(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{Partitions: 1})
	refs := []broker.Ref{
		{App: "a", Channel: "*"},
		{App: "a", Channel: ">"},
		{App: "*", Channel: "x"},
		{App: ">", Channel: ">"},
		{App: "a", Channel: "x.y"},
		{App: "a.x", Channel: "y"},
		{App: "a", Channel: "x:y"},
		{App: "a", Channel: "x y"},
		{App: "a", Channel: "%2A"},
		{App: "a", Channel: "ü"},
		{App: "a", Channel: "x"},
		{App: "a", Channel: ""},
		{App: "", Channel: "a"},
	}
	recorders := make([]*recorder, len(refs))
	for i, ref := range refs {
		recorders[i] = newRecorder()
		mustSubscribe(t, b, ref.App, ref.Channel, recorders[i])
	}
	for i, ref := range refs {
		mustPublish(t, b, broker.Record{App: ref.App, Channel: ref.Channel, Frame: []byte(fmt.Sprint(i))})
		if err := b.PublishEphemeral(ref, []byte("own"), ""); err != nil {
			t.Fatal(err)
		}
	}
	for i, ref := range refs {
		mustPublish(t, b, broker.Record{App: ref.App, Channel: ref.Channel, Frame: []byte("marker")})
		recorders[i].want(t, fmt.Sprint(i))
		recorders[i].want(t, "marker")
	}
}

func TestReadAndLastAndTails(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{Partitions: 2})
	for i := range 10 {
		mustPublish(t, b, record("match.1", fmt.Sprint(i)), record("match.2", "noise"))
	}
	events, more, err := b.Log(broker.Ref{App: "app-1", Channel: "match.1"}).Read(t.Context(), 0, 4)
	if err != nil || !more || len(events) != 4 {
		t.Fatalf("got %d events, more %v, error %v", len(events), more, err)
	}
	rest, more, err := b.Log(broker.Ref{App: "app-1", Channel: "match.1"}).Read(t.Context(), events[3].Sequence+1, 100)
	if err != nil || more {
		t.Fatalf("more %v, error %v", more, err)
	}
	var frames []string
	for _, ev := range append(events, rest...) {
		frames = append(frames, string(ev.Frame))
	}
	if diff := cmp.Diff([]string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, frames); diff != "" {
		t.Errorf("frames (-want +got):\n%s", diff)
	}
	last, ok, err := b.Log(broker.Ref{App: "app-1", Channel: "match.1"}).Last(t.Context())
	if err != nil || !ok {
		t.Fatalf("ok %v, error %v", ok, err)
	}
	if diff := cmp.Diff(rest[len(rest)-1], last, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("last event (-read +last):\n%s", diff)
	}
	if _, ok, err := b.Log(broker.Ref{App: "app-1", Channel: "never"}).Last(t.Context()); ok || err != nil {
		t.Errorf("empty channel: ok %v, error %v", ok, err)
	}
	if events, more, err := b.Log(broker.Ref{App: "app-1", Channel: "never"}).Read(t.Context(), 0, 5); len(events) != 0 || more || err != nil {
		t.Errorf("empty channel: %d events, more %v, error %v", len(events), more, err)
	}
	tails, err := b.Tails(t.Context(), []broker.Ref{{App: "app-1", Channel: "never"}, {App: "app-1", Channel: "match.1"}})
	if err != nil {
		t.Fatal(err)
	}
	if tails[0].Sequence != 0 || tails[1].Sequence != last.Sequence {
		t.Errorf("tails %v, want 0 and %d", tails, last.Sequence)
	}
}

func TestTailsOfManyChannels(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{Partitions: 1})
	const channels = 2100
	refs := make([]broker.Ref, channels)
	records := make([]broker.Record, channels)
	for i := range refs {
		refs[i] = broker.Ref{App: "app-1", Channel: fmt.Sprintf("chat.%d", i)}
		records[i] = record(refs[i].Channel, "x")
	}
	mustPublish(t, b, records...)
	tails, err := b.Tails(t.Context(), refs)
	if err != nil {
		t.Fatal(err)
	}
	for i, tail := range tails {
		if tail.Sequence != uint64(i+1) {
			t.Fatalf("tail of channel %d is %d", i, tail.Sequence)
		}
	}
}

// Events that do not fit into one answer are asked for again, by end, by channel
// and in a scan.
func TestLargeAnswers(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{Partitions: 1})
	const channels, size = 40, 500 << 10
	large := strings.Repeat("x", size)
	refs := make([]broker.Ref, channels)
	for i := range refs {
		refs[i] = broker.Ref{App: "app-1", Channel: fmt.Sprintf("chat.%d", i)}
		mustPublish(t, b, record(refs[i].Channel, large), record("all", large))
	}
	tails, err := b.Tails(t.Context(), refs)
	if err != nil {
		t.Fatal(err)
	}
	for i, tail := range tails {
		if tail.Sequence != uint64(2*i+1) {
			t.Errorf("tail of channel %d is %d", i, tail.Sequence)
		}
	}
	read, from := 0, uint64(1)
	for more := true; more; {
		var events []broker.Event
		if events, more, err = b.Log(broker.Ref{App: "app-1", Channel: "all"}).Read(t.Context(), from, channels); err != nil {
			t.Fatal(err)
		}
		if len(events) == channels {
			t.Error("an answer of any size")
		}
		read, from = read+len(events), events[len(events)-1].Sequence+1
	}
	if read != channels {
		t.Errorf("read %d events", read)
	}
	scanned := 0
	if err := b.Scan(t.Context(), 0, 0, 1<<40, func(broker.Ref, broker.Event) bool { scanned++; return true }); err != nil || scanned != 2*channels {
		t.Errorf("scanned %d events, %v", scanned, err)
	}
}

func TestRetentionTrimsTheOldest(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{EventsPerChannel: 3})
	for i := range 5 {
		mustPublish(t, b, record("match.1", fmt.Sprint(i)))
	}
	events, _, err := b.Log(broker.Ref{App: "app-1", Channel: "match.1"}).Read(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != 3 || string(events[0].Frame) != "2" {
		t.Errorf("got %d events from %s, want 3 from 2", len(events), events[0].Frame)
	}
}

func TestReopenKeepsEventsAndEpoch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, stop := brokertest.Open(t, dir, broker.Config{Partitions: 2})
	mustPublish(t, b, record("match.1", "kept"))
	epoch := b.Log(broker.Ref{App: "app-1", Channel: "match.1"}).Epoch()
	stop()

	b, stop = brokertest.Open(t, dir, broker.Config{Partitions: 2, EventsPerChannel: 5})
	defer stop()
	if got := b.Log(broker.Ref{App: "app-1", Channel: "match.1"}).Epoch(); got != epoch || epoch == "" {
		t.Errorf("epoch is %q, was %q", got, epoch)
	}
	last, ok, err := b.Log(broker.Ref{App: "app-1", Channel: "match.1"}).Last(t.Context())
	if err != nil || !ok || string(last.Frame) != "kept" {
		t.Errorf("got %s, ok %v, error %v", last.Frame, ok, err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	b, stop := brokertest.Open(t, t.TempDir(), broker.Config{})
	records := []broker.Record{record("match.1", "late")}
	stop()
	if err := b.Publish(t.Context(), records[:1]); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("closed: got %v, want ErrClosed", err)
	}
}
