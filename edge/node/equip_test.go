package node

import (
	"log/slog"
	"reflect"
	"testing"

	"reecho/edge/config"
	"reecho/edge/limit"
	"reecho/edge/socket"
)

// Every package gets what only a running node has: one ledger, and one budget for
// all that waits for clients.
func TestEquip(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	n := &Node{cfg: config.Default(), log: log, ledger: limit.NewLedger(log)}
	n.cfg.QueueMemory, n.cfg.TrustedProxies, n.cfg.Edge.PathPrefix = 7<<20, []string{"loopback"}, "/below"
	if err := n.equip(); err != nil {
		t.Fatal(err)
	}
	c := n.cfg
	for name, got := range map[string]*limit.Ledger{
		"sockets": c.Socket.Ledger, "event streams": c.Streams.Ledger, "the hub": c.Edge.Ledger, "the API": c.API.Ledger,
	} {
		if got != n.ledger {
			t.Errorf("%s have another ledger than the node, or none", name)
		}
	}
	if c.Socket.Budget == nil || c.Socket.Budget.Limit() != 7<<20 || c.Streams.Budget != c.Socket.Budget {
		t.Errorf("budgets %p of sockets, %p of event streams, want one of queue_memory", c.Socket.Budget, c.Streams.Budget)
	}
	proxies, err := socket.ParseProxies([]string{"loopback"})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c.Socket.TrustedProxies, proxies) || c.Streams.PathPrefix != "/below" {
		t.Errorf("trusted proxies %v, prefix of event streams %q", c.Socket.TrustedProxies, c.Streams.PathPrefix)
	}
	n.cfg.TrustedProxies = []string{"proxy.example.com"}
	if err := n.equip(); err == nil {
		t.Error("no error for a proxy that is none")
	}
}
