package brokertest

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"reecho/broker"
	"reecho/broker/natsd"
)

// SharedBroker is one of several on the same server.
type SharedBroker struct {
	*broker.Broker
	dialer *recordDialer
}

// Die cuts the broker off: it says nothing any more, and nobody is told that it goes.
func (b *SharedBroker) Die() {
	b.dialer.mu.Lock()
	defer b.dialer.mu.Unlock()
	for _, nc := range b.dialer.made {
		nc.Close()
	}
}

// recordDialer remembers the connections that it makes. It hides what else the server
// can do: that is of one with a broker of its own.
type recordDialer struct {
	server *natsd.Server
	mu     sync.Mutex
	made   []*nats.Conn
}

// Connect implements broker.Dialer.
func (d *recordDialer) Connect(opts ...nats.Option) (*nats.Conn, error) {
	nc, err := d.server.Connect(opts...)
	if err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.made = append(d.made, nc)
	}
	return nc, err
}

// StartShared runs brokers that share one server, as nodes of a cluster that is
// another's do: one for each cfg, of which Shared is set. All end with the test, and
// none has joined by Nodes().Start.
func StartShared(t testing.TB, cfgs ...broker.Config) []*SharedBroker {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	server, err := natsd.Start(t.Context(), natsd.Config{Dir: t.TempDir()}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(context.Background()); err != nil {
			t.Errorf("close the NATS server: %v", err)
		}
	})
	brokers := make([]*SharedBroker, len(cfgs))
	for i, cfg := range cfgs {
		cfg.Shared = true
		b := &SharedBroker{dialer: &recordDialer{server: server}}
		if b.Broker, err = broker.New(t.Context(), cfg, b.dialer, false, log); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := b.Close(context.Background()); err != nil {
				t.Errorf("close a broker: %v", err)
			}
		})
		brokers[i] = b
	}
	return brokers
}
