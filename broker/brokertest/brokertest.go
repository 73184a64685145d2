// Package brokertest runs real brokers for tests.
package brokertest

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/natsd"
)

// closeTimeout bounds how long a test waits for a broker to stop.
const closeTimeout = 20 * time.Second

// Start runs a broker on an embedded server with an empty data folder. Both end
// with the test.
func Start(t testing.TB, cfg broker.Config) *broker.Broker {
	t.Helper()
	return StartIn(t, t.TempDir(), cfg)
}

// StartIn is Start with the data folder dir.
func StartIn(t testing.TB, dir string, cfg broker.Config) *broker.Broker {
	t.Helper()
	b, stop := Open(t, dir, cfg)
	t.Cleanup(stop)
	return b
}

// Open is StartIn for tests that end the broker themselves, with stop.
func Open(t testing.TB, dir string, cfg broker.Config) (b *broker.Broker, stop func()) {
	t.Helper()
	server, b := open(t, dir, cfg)
	return b, func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Errorf("close the broker: %v", err)
		}
		if err := server.Close(ctx); err != nil {
			t.Errorf("close the NATS server: %v", err)
		}
	}
}

// TryOpen returns the error of starting a broker in dir, which it closes again
// if there is none.
func TryOpen(t testing.TB, dir string, cfg broker.Config) error {
	t.Helper()
	server, b, err := start(t, dir, cfg)
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err == nil {
		err = b.Close(ctx)
	}
	return errors.Join(err, server.Close(ctx))
}

func open(t testing.TB, dir string, cfg broker.Config) (*natsd.Server, *broker.Broker) {
	t.Helper()
	server, b, err := start(t, dir, cfg)
	if err != nil {
		_ = server.Close(context.Background())
		t.Fatal(err)
	}
	return server, b
}

// start starts a server, and a broker on it, which may fail.
func start(t testing.TB, dir string, cfg broker.Config) (*natsd.Server, *broker.Broker, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	server, err := natsd.Start(ctx, natsd.Config{Dir: dir}, log)
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(ctx, cfg, server, !server.Trusted(), log)
	return server, b, err
}
