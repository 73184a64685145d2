package outside_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"

	"reecho/broker"
	"reecho/broker/outside"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var silent = slog.New(slog.DiscardHandler)

// startServer runs a NATS server as others would, and returns its address.
func startServer(t *testing.T, edit func(*server.Options)) string {
	t.Helper()
	opts := &server.Options{
		ServerName: "others", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: t.TempDir(), JetStreamMaxStore: 1 << 40,
	}
	edit(opts)
	return run(t, opts).ClientURL()
}

func run(t *testing.T, opts *server.Options) *server.Server {
	t.Helper()
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the NATS server is not ready")
	}
	return s
}

// openBroker runs a broker on a server of others, until the test ends.
func openBroker(t *testing.T, cfg outside.Config, name string, log *slog.Logger) *broker.Broker {
	t.Helper()
	s, err := outside.Open(t.Context(), cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(t.Context(), broker.Config{Shared: true, Partitions: 2, Node: name, Domain: cfg.Domain}, s, false, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// useAll has two brokers store and read, in every way.
func useAll(t *testing.T, brokers []*broker.Broker) {
	t.Helper()
	ref := broker.Ref{App: "77", Channel: "match.1"}
	for i := range 10 {
		r := broker.Record{App: ref.App, Channel: ref.Channel, Frame: fmt.Append(nil, i)}
		if err := brokers[i%2].Publish(t.Context(), []broker.Record{r}); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range brokers {
		events, more, err := b.Log(ref).Read(t.Context(), 0, 100)
		if err != nil || more || len(events) != 10 || string(events[9].Frame) != "9" {
			t.Errorf("%d events, more %v, %v", len(events), more, err)
		}
		last, ok, err := b.Log(ref).Last(t.Context())
		if err != nil || !ok || string(last.Frame) != "9" {
			t.Errorf("the last is %q, %v, %v", last.Frame, ok, err)
		}
		if tails, err := b.Tails(t.Context(), []broker.Ref{ref}); err != nil || tails[0].Sequence != last.Sequence {
			t.Errorf("tails %v, want %d: %v", tails, last.Sequence, err)
		}
		if err := b.Ready(t.Context()); err != nil {
			t.Errorf("it is not ready: %v", err)
		}
		store, err := b.OpenStore(t.Context(), broker.StoreConfig{Name: "test", MaxAge: time.Hour, MaxBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Put(t.Context(), "ada", []byte("1"), broker.AnyRevision); err != nil {
			t.Error(err)
		}
		if v, err := store.Get(t.Context(), "ada"); err != nil || string(v.Text) != "1" {
			t.Errorf("the store has %q, %v", v.Text, err)
		}
		useQueue(t, b)
	}
	if a, b := brokers[0].Log(ref), brokers[1].Log(ref); a.Epoch() != b.Epoch() || a.Runs().Current() != b.Runs().Current() {
		t.Errorf("epochs %s and %s, runs %v and %v", a.Epoch(), b.Epoch(), a.Runs(), b.Runs())
	}
}

// useQueue has a broker do all that is done with queues, and with values that expire.
func useQueue(t *testing.T, b *broker.Broker) {
	t.Helper()
	states, err := b.OpenStore(t.Context(), broker.StoreConfig{Name: "states", Expiring: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := states.PutFor(t.Context(), "ada", []byte("1"), broker.AnyRevision, time.Minute); err != nil {
		t.Error(err)
	}
	seen := 0
	if err := states.Each(t.Context(), func(string, broker.Value) { seen++ }); err != nil || seen != 1 {
		t.Errorf("%d values: %v", seen, err)
	}
	q, err := b.OpenQueue(t.Context(), broker.QueueConfig{Name: "hooks", MaxAge: time.Hour, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := q.Put(t.Context(), "a", rand.Text(), fmt.Append(nil, i)); err != nil {
			t.Error(err)
		}
	}
	reading, enough := context.WithTimeout(t.Context(), 20*time.Second)
	defer enough()
	var items []broker.Item
	_ = q.Read(reading, "a", func(i broker.Item) {
		if items = append(items, i); len(items) == 3 {
			enough()
		}
	})
	if len(items) != 3 {
		t.Fatalf("%d items", len(items))
	}
	if err := q.RemoveOne(t.Context(), items[2].Sequence); err != nil {
		t.Error(err)
	}
	if err := q.Remove(t.Context(), "a", items[1].Sequence); err != nil {
		t.Error(err)
	}
}

// Two brokers on one server of others are one: what one stores the other reads, in
// JetStream's own domain or another.
func TestBrokersOfOthers(t *testing.T) {
	t.Parallel()
	for _, domain := range []string{"", "hub"} {
		t.Run("domain "+domain, func(t *testing.T) {
			t.Parallel()
			url := startServer(t, func(o *server.Options) { o.JetStreamDomain = domain })
			brokers := make([]*broker.Broker, 2)
			for i := range brokers {
				brokers[i] = openBroker(t, outside.Config{URLs: []string{url}, Domain: domain, MinPayload: 1 << 19}, fmt.Sprint("node-", i), silent)
			}
			useAll(t, brokers)
		})
	}
}

// A server that does not do is refused with what to do about it.
func TestUnfit(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		edit func(*server.Options)
		cfg  outside.Config
		want string
	}{
		"without JetStream":    {func(o *server.Options) { o.JetStream = false }, outside.Config{}, "JetStream is not enabled"},
		"small messages":       {func(o *server.Options) { o.MaxPayload = 1000 }, outside.Config{MinPayload: 2000}, "raise its max_payload"},
		"another's":            {func(o *server.Options) { o.Username, o.Password = "ada", "secret" }, outside.Config{}, "it refuses us"},
		"a domain that is not": {func(*server.Options) {}, outside.Config{Domain: "moon"}, "it reaches no JetStream of the domain moon, check nats_domain"},
		"no TLS":               {func(*server.Options) {}, outside.Config{Authority: "testdata"}, "read the files for TLS"},
		"no credentials":       {func(*server.Options) {}, outside.Config{Credentials: "testdata"}, "read the credentials in testdata"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.cfg.URLs = []string{startServer(t, tt.edit)}
			_, err := outside.Open(t.Context(), tt.cfg, silent)
			if !errors.Is(err, outside.ErrUnfit) || !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := outside.Open(t.Context(), outside.Config{}, silent); !errors.Is(err, outside.ErrUnfit) {
		t.Errorf("without an address: %v", err)
	}
}

// A server that is not there yet is waited for.
func TestWaits(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var said strings.Builder
	log := slog.New(slog.NewTextHandler(&said, nil))
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err := outside.Open(ctx, outside.Config{URLs: []string{"nats://127.0.0.1:1"}}, log)
	if err == nil || errors.Is(err, outside.ErrUnfit) || !strings.Contains(said.String(), "waiting for the NATS server") {
		t.Errorf("got %v, said %s", err, said.String())
	}
}
