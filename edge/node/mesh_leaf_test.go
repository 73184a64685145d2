package node_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"reecho/broker/brokertest"
	"reecho/broker/natsd"
	"reecho/edge/app"
	"reecho/edge/config"
	"reecho/edge/node"
)

// startLeaves runs a mesh of three nodes, and so many without storage that are leaves of
// it. It returns when all know each other.
func startLeaves(t testing.TB, count int, apps ...*app.App) (mesh, leaves []*server) {
	t.Helper()
	hubs := brokertest.FreeAddresses(t, 3)
	mesh = startMesh(t, 3, func(i int, cfg *config.Config) { cfg.Cluster.LeafListen = hubs[i] }, apps...)
	ctx, cancel := context.WithTimeout(context.Background(), meshStart)
	defer cancel()
	nodes, problems := make([]*node.Node, count), make([]error, count)
	var starting sync.WaitGroup
	for i := range nodes {
		cfg := config.Default()
		cfg.Listen, cfg.Storage = "127.0.0.1:0", false
		cfg.Store.Name = fmt.Sprintf("leaf-%d", i+1)
		cfg.Cluster = natsd.Mesh{Cluster: "test", Size: 3, Secret: "a secret of servers", Peers: hubs}
		if cfg.Apps = apps; len(apps) == 0 {
			cfg.Apps = []*app.App{demoApp()}
		}
		starting.Go(func() { nodes[i], problems[i] = node.Start(ctx, cfg, slog.New(slog.DiscardHandler)) })
	}
	starting.Wait()
	for i, n := range nodes {
		if problems[i] != nil {
			t.Fatalf("start leaf %d: %v", i+1, problems[i])
		}
		leaves = append(leaves, serverOf(t, n))
	}
	for _, s := range append(leaves, mesh...) {
		poll(t, "the nodes to know each other", func() bool { return len(s.Peers()) == 2+count })
	}
	return mesh, leaves
}

// What is published on any node, with storage or without, reaches clients of all.
func TestMeshLeaves(t *testing.T) {
	t.Parallel()
	mesh, leaves := startLeaves(t, 2)
	servers := append(leaves, mesh...)
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
