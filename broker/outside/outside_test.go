package outside_test

import (
	"context"
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
		JetStream: true, StoreDir: t.TempDir(), JetStreamMaxStore: 1 << 30,
	}
	edit(opts)
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the NATS server is not ready")
	}
	return s.ClientURL()
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
				s, err := outside.Open(t.Context(), outside.Config{URLs: []string{url}, Domain: domain, MinPayload: 1 << 19}, silent)
				if err != nil {
					t.Fatal(err)
				}
				cfg := broker.Config{Shared: true, Partitions: 2, Node: fmt.Sprint("node-", i), Domain: domain}
				b, err := broker.New(t.Context(), cfg, s, false, silent)
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := b.Close(context.Background()); err != nil {
						t.Error(err)
					}
				}()
				brokers[i] = b
			}
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
				if err := b.Ready(t.Context()); err != nil {
					t.Errorf("it is not ready: %v", err)
				}
			}
			if a, b := brokers[0].Log(ref), brokers[1].Log(ref); a.Epoch() != b.Epoch() || a.Runs().Current() != b.Runs().Current() {
				t.Errorf("epochs %s and %s, runs %v and %v", a.Epoch(), b.Epoch(), a.Runs(), b.Runs())
			}
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
		"a domain that is not": {func(*server.Options) {}, outside.Config{Domain: "moon"}, "JetStream is not enabled"},
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
