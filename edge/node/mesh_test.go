package node_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"reecho/broker/brokertest"
	"reecho/broker/natsd"
	"reecho/edge/app"
	"reecho/edge/config"
	"reecho/edge/node"
)

// meshStart bounds the start of a mesh: its servers elect leaders first.
const meshStart = time.Minute

// startMesh runs size real nodes that are one cluster, with the same apps, changed by
// edit, which is called for each of them. It returns when all know each other.
func startMesh(t testing.TB, size int, edit func(i int, cfg *config.Config), apps ...*app.App) []*server {
	t.Helper()
	peers := brokertest.FreeAddresses(t, size)
	return startMeshOf(t, size, func(i int, cfg *config.Config) {
		cfg.Cluster.Listen, cfg.Cluster.Peers = peers[i], peers
		edit(i, cfg)
	}, apps...)
}

// startMeshOf is startMesh where edit sets the addresses.
func startMeshOf(t testing.TB, size int, edit func(i int, cfg *config.Config), apps ...*app.App) []*server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), meshStart)
	defer cancel()
	dir := t.TempDir()
	nodes, problems := make([]*node.Node, size), make([]error, size)
	var starting sync.WaitGroup
	for i := range nodes {
		cfg := config.Default()
		cfg.Listen = "127.0.0.1:0"
		cfg.Log.Partitions = 4 // each is an election, on each of many nodes in one process
		cfg.Store.Name = fmt.Sprintf("node-%d", i+1)
		cfg.Store.Dir = filepath.Join(dir, cfg.Store.Name)
		cfg.Cluster = natsd.Mesh{Cluster: "test", Size: size, Secret: "a secret of servers"}
		if cfg.Apps = apps; len(apps) == 0 {
			cfg.Apps = []*app.App{demoApp()}
		}
		edit(i, &cfg)
		starting.Go(func() { nodes[i], problems[i] = node.Start(ctx, cfg, slog.New(slog.DiscardHandler)) })
	}
	starting.Wait()
	servers := make([]*server, size)
	for i, n := range nodes {
		if problems[i] != nil {
			t.Errorf("start node %d: %v", i+1, problems[i])
			continue
		}
		servers[i] = serverOf(t, n)
		servers[i].name = fmt.Sprintf("node-%d", i+1)
	}
	if t.Failed() {
		t.FailNow()
	}
	for _, s := range servers {
		brokertest.WaitCurrent(t, s.NATS(), s.name)
		poll(t, "the nodes to know each other", func() bool { return len(s.Peers()) == size-1 })
	}
	return servers
}

// Five real nodes form a cluster: what is published on one reaches clients of all.
func TestMesh(t *testing.T) {
	t.Parallel()
	servers := startMesh(t, 5, func(int, *config.Config) {})
	clients := make([]*client, len(servers))
	for i, s := range servers {
		clients[i] = s.connect(t)
		clients[i].subscribe("chat")
	}
	for i, s := range servers {
		s.publish("chat", "said", fmt.Sprint(i), "")
		for _, c := range clients {
			if f := c.wantOn("chat", "said"); f.text(t) != fmt.Sprint(i) {
				t.Errorf("got %s, want event %d", f.raw, i)
			}
		}
	}
}
