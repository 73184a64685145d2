package brokertest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/natsd"
)

// Mesh is a cluster of real brokers in one process, each with a server and a data
// folder of its own.
type Mesh struct {
	Nodes []*MeshNode

	t   testing.TB
	cfg broker.Config
}

// MeshNode is one of them.
type MeshNode struct {
	*broker.Broker
	Server *natsd.Server // nil while it is stopped
	Config natsd.Config
}

// meshSecret is what the servers know each other by.
const meshSecret = "a secret of servers"

// StartMesh runs a mesh of size brokers, which ends with the test.
func StartMesh(t testing.TB, size int, cfg broker.Config) *Mesh {
	t.Helper()
	m := &Mesh{t: t, cfg: cfg}
	m.cfg.Shared, m.cfg.Replicas = true, size
	peers := FreeAddresses(t, size)
	dir := t.TempDir()
	for i, addr := range peers {
		name := fmt.Sprintf("node-%d", i+1)
		m.Nodes = append(m.Nodes, &MeshNode{Config: natsd.Config{
			Dir: filepath.Join(dir, name), Name: name,
			Mesh: &natsd.Mesh{Cluster: "test", Listen: addr, Peers: slices.Clone(peers), Size: size, Secret: meshSecret},
		}})
	}
	t.Cleanup(func() { m.Stop(m.Nodes...) })
	m.Start(m.Nodes...)
	return m
}

// Start starts nodes that are stopped, all at once.
func (m *Mesh) Start(nodes ...*MeshNode) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	m.each(nodes, func(n *MeshNode) (err error) {
		log := slog.New(slog.DiscardHandler)
		if n.Server, err = natsd.Start(ctx, n.Config, log); err != nil {
			return err
		}
		cfg := m.cfg
		cfg.Node = n.Config.Name
		n.Broker, err = broker.New(ctx, cfg, n.Server, false, log)
		return err
	})
}

// Stop stops nodes that run, all at once.
func (m *Mesh) Stop(nodes ...*MeshNode) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	m.each(nodes, func(n *MeshNode) error {
		if n.Server == nil {
			return nil
		}
		if n.Broker != nil {
			if err := n.Close(ctx); err != nil {
				return err
			}
		}
		err := n.Server.Close(ctx)
		n.Server, n.Broker = nil, nil
		return err
	})
}

func (m *Mesh) each(nodes []*MeshNode, do func(*MeshNode) error) {
	m.t.Helper()
	var all sync.WaitGroup
	for _, n := range nodes {
		all.Go(func() {
			if err := do(n); err != nil {
				m.t.Errorf("%s: %v", n.Config.Name, err)
			}
		})
	}
	all.Wait()
	if m.t.Failed() {
		m.t.FailNow()
	}
}

// FreeAddresses are addresses of this machine on which nobody listens now.
func FreeAddresses(t testing.TB, n int) []string {
	t.Helper()
	addresses := make([]string, n)
	for i := range addresses {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addresses[i] = l.Addr().String()
	}
	return addresses
}
