package brokertest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"reecho/broker"
	"reecho/broker/natsd"
)

// Mesh is a cluster of real brokers in one process, each with a server and a data
// folder of its own.
type Mesh struct {
	Nodes []*MeshNode

	t   testing.TB
	cfg broker.Config
	// cutter is nil unless the mesh is fragile.
	cutter *cutter
}

// MeshNode is one of them.
type MeshNode struct {
	*broker.Broker
	Server *natsd.Server // nil while it is stopped
	Config natsd.Config
	// Unclean: the broker is told that the end of the server before was none that its
	// data can be trusted after.
	Unclean bool
}

// meshSecret is what the servers know each other by.
const meshSecret = "a secret of servers"

// StartMesh runs a mesh of size brokers, which ends with the test.
func StartMesh(t testing.TB, size int, cfg broker.Config) *Mesh {
	t.Helper()
	return startMesh(t, size, cfg, nil)
}

func startMesh(t testing.TB, size int, cfg broker.Config, c *cutter) *Mesh {
	t.Helper()
	m := &Mesh{t: t, cfg: cfg, cutter: c}
	m.cfg.Shared, m.cfg.Replicas = true, size
	peers := FreeAddresses(t, size)
	dir := t.TempDir()
	for i, addr := range peers {
		name := fmt.Sprintf("node-%d", i+1)
		m.Nodes = append(m.Nodes, &MeshNode{Config: natsd.Config{
			Dir: filepath.Join(dir, name), Name: name,
			Mesh: &natsd.Mesh{Cluster: "test", Listen: addr, Peers: slices.Clone(peers), Size: size, Secret: meshSecret, FastElections: true},
		}})
		if c != nil {
			m.Nodes[i].Config.Mesh.TLS = c.config(name)
		}
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
		n.Broker, err = broker.New(ctx, cfg, n.Server, n.Unclean, log)
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

// Leader is the node that leads a stream.
func (m *Mesh) Leader(t testing.TB, stream string) *MeshNode {
	t.Helper()
	nc, err := m.Nodes[0].Server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for t.Context().Err() == nil {
		s, err := js.Stream(t.Context(), stream)
		if err != nil || s.CachedInfo().Cluster == nil {
			continue
		}
		for _, n := range m.Nodes {
			if n.Config.Name == s.CachedInfo().Cluster.Leader {
				return n
			}
		}
	}
	t.Fatalf("nobody leads stream %s", stream)
	return nil
}

// StepDown makes the leader of a stream hand over to another node. It fails if the
// stream has none.
func (m *Mesh) StepDown(ctx context.Context, by *MeshNode, stream string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	nc, err := by.Server.Connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	answer, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil)
	if err == nil && bytes.Contains(answer.Data, []byte(`"error"`)) {
		err = fmt.Errorf("the leader of %s does not step down: %s", stream, answer.Data)
	}
	return err
}

// Recreate deletes a stream and makes it again, empty and in another epoch, as whoever
// repairs a cluster might.
func Recreate(ctx context.Context, by *natsd.Server, stream, epoch string) error {
	nc, err := by.Connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	have, err := js.Stream(ctx, stream)
	if err != nil {
		return err
	}
	if err := js.DeleteStream(ctx, stream); err != nil {
		return err
	}
	cfg := have.CachedInfo().Config
	maps.DeleteFunc(cfg.Metadata, func(key, _ string) bool { return strings.HasPrefix(key, "_nats") })
	cfg.Metadata["reecho-epoch"] = epoch
	_, err = js.CreateStream(ctx, cfg)
	return err
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
