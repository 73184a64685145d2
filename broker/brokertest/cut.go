package brokertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"reecho/broker"
)

// cutter knows the connections between the nodes of a mesh, and cuts them. It sees
// them in their TLS handshakes: who dials offers its name as a protocol.
type cutter struct {
	certificate tls.Certificate

	mu    sync.Mutex
	cut   map[string]bool
	conns map[net.Conn][2]string // the nodes at both ends
}

var errCut = errors.New("the network is cut here")

// StartFragileMesh is StartMesh for tests that call Cut or Kill. The nodes talk TLS.
func StartFragileMesh(t testing.TB, size int, cfg broker.Config) *Mesh {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return startMesh(t, size, cfg, &cutter{
		certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		cut:         make(map[string]bool), conns: make(map[net.Conn][2]string),
	})
}

// config is the TLS of a node.
func (c *cutter) config(name string) *tls.Config {
	server := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{c.certificate}}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: server.Certificates, NextProtos: []string{name},
		InsecureSkipVerify: true, //nolint:gosec // both ends are of the test
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			return server, c.admit(hello, name)
		},
	}
}

// admit notes a connection to a node, unless it is cut.
func (c *cutter) admit(hello *tls.ClientHelloInfo, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(hello.SupportedProtos) != 1 || c.cut[name] || c.cut[hello.SupportedProtos[0]] {
		return errCut
	}
	c.conns[hello.Conn] = [2]string{name, hello.SupportedProtos[0]}
	return nil
}

// Cut cuts a node off from all others, until Heal.
func (m *Mesh) Cut(n *MeshNode) {
	c := m.cutter
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut[n.Config.Name] = true
	for conn, ends := range c.conns {
		if ends[0] == n.Config.Name || ends[1] == n.Config.Name {
			_ = conn.Close()
			delete(c.conns, conn)
		}
	}
}

// Heal ends Cut.
func (m *Mesh) Heal(n *MeshNode) {
	m.cutter.mu.Lock()
	defer m.cutter.mu.Unlock()
	delete(m.cutter.cut, n.Config.Name)
}

// Kill stops a node that has no time to tell the others, or to hand over what it leads.
func (m *Mesh) Kill(n *MeshNode) {
	m.t.Helper()
	m.Cut(n)
	m.Stop(n)
	m.Heal(n)
}
