package brokertest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strconv"
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
			Mesh: &natsd.Mesh{Cluster: "test", Listen: addr, Peers: slices.Clone(peers), Size: size, Secret: meshSecret, FastElections: true},
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

// FreeAddresses are addresses of this machine on which nobody listens now. They are
// below those that systems give to whoever wants any: in the moment until it is
// listened on, one of those would be taken by a client of another test.
func FreeAddresses(t testing.TB, n int) []string {
	t.Helper()
	const lowest, highest, tries = 10_000, 32_000, 1000
	var addresses []string
	for range tries {
		port := lowest + rand.IntN(highest-lowest) //nolint:gosec // any will do
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if _, taken := given.LoadOrStore(port, true); taken {
			continue
		}
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
		if err != nil {
			continue
		}
		_ = l.Close()
		if addresses = append(addresses, addr); len(addresses) == n {
			return addresses
		}
	}
	t.Fatalf("found %d free addresses, want %d", len(addresses), n)
	return nil
}

// given are the ports of FreeAddresses in this process.
var given sync.Map
