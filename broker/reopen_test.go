package broker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"reecho/broker"
	"reecho/broker/natsd"
)

// brokenServer is a server that is reported as failed when a test says so, and
// that does something between its failure and its restart.
type brokenServer struct {
	*natsd.Server
	failures chan error
	harm     func()
}

var _ broker.Keeper = (*brokenServer)(nil)

// Failures implements broker.Keeper.
func (s *brokenServer) Failures() <-chan error { return s.failures }

// Restart implements broker.Keeper.
func (s *brokenServer) Restart(ctx context.Context) error {
	s.harm()
	return s.Server.Restart(ctx)
}

// openBroken runs a broker over a brokenServer, and a connection to that.
func openBroken(t *testing.T, cfg broker.Config) (*broker.Broker, *brokenServer, *nats.Conn) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	server, err := natsd.Start(t.Context(), natsd.Config{Dir: t.TempDir()}, log)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	keeper := &brokenServer{Server: server, failures: make(chan error, 1)}
	b, err := broker.New(t.Context(), cfg, keeper, false, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		nc.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(b.Close(ctx), server.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
	return b, keeper, nc
}

// A stream that lets events wait until they are given up is a failure, which
// a restart mends.
func TestStreamThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	b, keeper, nc := openBroken(t, broker.Config{Partitions: 1, PublishTimeout: time.Second})
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	mustPublish(t, b, record("match.1", "before"))
	stream, err := js.Stream(t.Context(), "EVENTS-0")
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	keeper.harm = func() {
		<-gone
		if _, err := js.CreateOrUpdateStream(t.Context(), stream.CachedInfo().Config); err != nil {
			t.Error(err)
		}
	}
	if err := js.DeleteStream(t.Context(), "EVENTS-0"); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), []broker.Record{record("match.1", "lost")}); !errors.Is(err, broker.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	poll(t, "the failure is known", func() bool { return b.Failure() != nil })
	if err := b.Publish(t.Context(), []broker.Record{record("match.1", "refused")}); !errors.Is(err, broker.ErrUnavailable) || !strings.Contains(err.Error(), "EVENTS-0 does not answer") {
		t.Errorf("got %v, want the cause", err)
	}
	close(gone)
	poll(t, "the failure is over", func() bool { return b.Ready(t.Context()) == nil })
	mustPublish(t, b, record("match.1", "after"))
	if n := count(t, b, "match.1"); n != 1 {
		t.Errorf("%d events are stored, want 1", n)
	}
}

// Sequences never go back while a broker lives, because positions of one epoch
// are compared: not for a stream that has lost what it had acknowledged, and not
// for one that was in memory only.
func TestSequencesGoOnAfterALoss(t *testing.T) {
	t.Parallel()
	rules := []broker.Rule{{App: "app-1", Channels: "fast.*", Memory: true}}
	b, keeper, nc := openBroken(t, broker.Config{Partitions: 1, Rules: rules})
	keeper.harm = func() { loseNewest(t, nc, "EVENTS-0") }
	channels := []string{"match.1", "fast.1"}
	epochs, last := map[string]string{}, map[string]broker.Event{}
	live := map[string]*recorder{}
	for _, channel := range channels {
		live[channel] = newRecorder()
		mustSubscribe(t, b, "app-1", channel, live[channel])
		for i := range 5 {
			mustPublish(t, b, record(channel, fmt.Sprint(i)))
			last[channel] = live[channel].want(t, fmt.Sprint(i))
		}
		epochs[channel] = b.Log(broker.Ref{App: "app-1", Channel: channel}).Epoch()
	}
	keeper.failures <- errors.New("critical write error")
	poll(t, "the failure is known", func() bool { return b.Ready(t.Context()) != nil })
	poll(t, "the failure is over", func() bool { return b.Ready(t.Context()) == nil })
	for _, channel := range channels {
		if got := b.Log(broker.Ref{App: "app-1", Channel: channel}).Epoch(); got != epochs[channel] {
			t.Errorf("%s: the epoch is %q, was %q", channel, got, epochs[channel])
		}
		if _, ok, err := b.Log(broker.Ref{App: "app-1", Channel: channel}).Last(t.Context()); ok || err != nil {
			t.Errorf("%s: events before the loss are kept, which hides the gap (%v)", channel, err)
		}
		mustPublish(t, b, record(channel, "after"))
		ev := live[channel].want(t, "after")
		if ev.Sequence <= last[channel].Sequence {
			t.Errorf("%s: sequence %d after %d", channel, ev.Sequence, last[channel].Sequence)
		}
		state, err := b.Log(broker.Ref{App: "app-1", Channel: channel}).State(t.Context())
		if err != nil || state.First <= last[channel].Sequence {
			t.Errorf("%s: the stream begins at %d, what is lost ended at %d (%v)", channel, state.First, last[channel].Sequence, err)
		}
	}
}

// loseNewest makes a stream anew with the first two of its events.
func loseNewest(t *testing.T, nc *nats.Conn, name string) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Error(err)
		return
	}
	stream, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Error(err)
		return
	}
	cfg := stream.CachedInfo().Config
	var kept []*jetstream.RawStreamMsg
	for sequence := range uint64(2) {
		m, err := stream.GetMsg(t.Context(), sequence+1)
		if err != nil {
			t.Error(err)
			return
		}
		kept = append(kept, m)
	}
	if err := js.DeleteStream(t.Context(), name); err != nil {
		t.Error(err)
	}
	republish := cfg.RePublish
	cfg.RePublish = nil
	if _, err := js.CreateStream(t.Context(), cfg); err != nil {
		t.Error(err)
	}
	for _, m := range kept {
		if _, err := js.Publish(t.Context(), m.Subject, m.Data); err != nil {
			t.Error(err)
		}
	}
	cfg.RePublish = republish
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Error(err)
	}
}
