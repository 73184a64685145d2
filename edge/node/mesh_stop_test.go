package node_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"reecho/broker/brokertest"
	"reecho/edge/config"
)

// All nodes that stopped at once took the majority from the one that stopped last before
// it had stored its sessions: clients got again what they had confirmed.
func TestMeshStopOfAllKeepsSessions(t *testing.T) { //nolint:paralleltest // all stop at once only if nothing else is in their way
	dir, peers := t.TempDir(), brokertest.FreeAddresses(t, 3)
	start := func() []*server {
		t.Helper()
		return startMeshOf(t, 3, func(i int, cfg *config.Config) {
			cfg.Cluster.Listen, cfg.Cluster.Peers = peers[i], peers
			cfg.Store.Dir = filepath.Join(dir, fmt.Sprint(i))
		})
	}
	servers := start()
	const sessions = 20
	id := func(n int) string { return fmt.Sprintf("1d2f7a50-6c6e-4f7e-9df0-1000000000%02d", n) }
	clients := make([]*client, sessions)
	for n := range clients {
		clients[n] = servers[2].dialSession(t, id(n))
		clients[n].subscribe("match.1")
		clients[n].pong()
	}
	// One that never answers holds its node for a moment.
	silent := servers[2].dialSession(t, id(sessions))
	silent.subscribe("match.1")
	for round := range 3 {
		servers[0].scores("match.1", 2*round+1, 2*round+2)
		for _, c := range clients {
			c.wantScores("match.1", 2*round+1, 2*round+2)
			c.pong()
			c.passed()
		}
	}
	var stopping sync.WaitGroup
	for _, s := range servers {
		stopping.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := s.close(ctx); err != nil {
				t.Errorf("stop %s: %v", s.name, err)
			}
		})
	}
	stopping.Wait()
	servers = start()
	for n := range clients {
		c := servers[n%3].dialSession(t, id(n))
		c.subscribe("match.1")
		c.wantOutcome("match.1", "reecho:resumed", outcome{Complete: true})
	}
}
