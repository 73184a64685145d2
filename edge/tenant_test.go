package edge

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"reecho/broker"
	"reecho/edge/app"
	"reecho/edge/fanout"
	"reecho/edge/limit"
	"reecho/edge/pusher"
	"reecho/edge/socket"
	"reecho/edge/socket/sockettest"
	"reecho/replay/replaytest"
)

type sinkConn = sockettest.Sink

// newTestTenant is an app with all that it needs of a node, over the model of a
// log.
func newTestTenant(t testing.TB, cfg Config) *Tenant {
	t.Helper()
	return newTestTenantOf(t, cfg, replaytest.NewLog(rand.New(rand.NewPCG(1, 1)),
		broker.Retention{EventsPerChannel: 1000, MaxAge: time.Hour, MaxBytes: 1 << 30}))
}

// newTestTenantOf is newTestTenant with a log of the test's.
func newTestTenantOf(t testing.TB, cfg Config, log *replaytest.Log) *Tenant {
	t.Helper()
	if cfg.Ledger == nil {
		cfg.Ledger = limit.NewLedger(slog.New(slog.DiscardHandler))
	}
	h := newHub(cfg, sources{logs: log, records: log}, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		h.stop()
		h.node.sessions.Close(context.Background())
		h.node.replay.Close()
		h.node.pool.Close()
	})
	return newTenant(h.node, &app.App{ID: "77", SubscriptionCounts: true, ActivityTimeout: time.Hour, Limits: app.DefaultLimits()})
}

// subscriber is a client without a network.
func (t *Tenant) subscriber(conn socket.Conn) *client {
	c := &client{Member: fanout.NewMember(conn, pusher.NewSocketID()), app: t}
	t.node.pool.Add(c)
	return c
}
