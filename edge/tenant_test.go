package edge

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"reecho/broker"
	"reecho/edge/app"
	"reecho/edge/fanout"
	"reecho/edge/limit"
	"reecho/edge/pusher"
	"reecho/edge/socket"
	"reecho/replay/replaytest"
)

// sinkConn is a connection that takes everything at once, as a kernel with room
// does.
type sinkConn struct{ frames, bytes int }

var _ socket.Conn = (*sinkConn)(nil)

func (c *sinkConn) Send(frames [][]byte) error {
	c.frames += len(frames)
	for _, f := range frames {
		c.bytes += len(f)
	}
	return nil
}
func (c *sinkConn) Answer(frames [][]byte) error   { return c.Send(frames) }
func (*sinkConn) Owe(int, int)                     {}
func (*sinkConn) Close(int, string)                {}
func (*sinkConn) Ping()                            {}
func (*sinkConn) Tick(time.Time) (d time.Duration) { return d }
func (*sinkConn) Remote() netip.AddrPort           { return netip.AddrPort{} }
func (*sinkConn) Queued() int                      { return 0 }
func (*sinkConn) Drained() <-chan struct{}         { return closed() }

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
