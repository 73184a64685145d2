package natsd

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Mesh makes a Server one of several that are one: their streams are replicated,
// and whoever is connected to one reaches all.
type Mesh struct {
	// Cluster is the name, the same on all.
	Cluster string
	// Listen is the HOST:PORT for the others.
	Listen string
	// Advertise is the HOST:PORT at which the others reach this one, "" for that of
	// Listen.
	Advertise string
	// Peers are the HOST:PORT of all servers, this one too, the same on all; or one
	// whose host is a name that has all their addresses.
	Peers []string
	// LeafListen is the HOST:PORT for servers without storage, "" for none.
	LeafListen string
	// Size is how many servers keep the streams: 3 or 5. 0 is DefaultSize.
	Size int
	// Secret is what only they know.
	Secret string
	// TLS, if it is set, is for both ends of a connection between two of them.
	TLS *tls.Config
	// FastElections has lost leaders replaced within a second or two instead of the
	// 5 to 8 s of NATS. It holds for all servers of the process, and has to be the
	// same on all of the cluster: else those that have it lead everything.
	FastElections bool
}

// DefaultSize is how many servers a mesh has.
const DefaultSize = 3

const (
	// Domain is that of JetStream, which leaves need to name.
	Domain = "reecho"
	// routePing is how often a connection between two servers is tested, and after
	// two tests without an answer it is closed: a network that is cut says nothing.
	routePing     = 2 * time.Second
	routePingsOut = 2
	// sayPeriod is how often a server that waits says for what.
	sayPeriod = 10 * time.Second
	// resolvePause is between two looks at names.
	resolvePause = time.Second
	// MinSecret is the shortest secret, in bytes.
	MinSecret = 16
)

// ErrMesh is the error of a Mesh that cannot be one.
var ErrMesh = errors.New("no cluster can be formed")

// Validate reports every problem at once. Config.Validate calls it.
func (m *Mesh) Validate() error {
	var problems []error
	add := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("%w: "+format, append([]any{ErrMesh}, args...)...))
	}
	if m.Cluster == "" || strings.ContainsAny(m.Cluster, " \t\r\n") {
		add("its name is %q: one word is needed, the same on all servers", m.Cluster)
	}
	if size := m.size(); size != 3 && size != 5 {
		add("it would have %d servers: 3 or 5 are needed, because a majority has to be left when one is lost", size)
	}
	if len(m.Secret) < MinSecret {
		add("its secret has %d bytes: at least %d, the same on all servers", len(m.Secret), MinSecret)
	}
	switch n := len(m.Peers); {
	case n == 0:
		add("no peers are named: all servers, the same on all")
	case n > 1 && n < m.size():
		add("%d peers are named and it has %d servers: all have to be, this one too", n, m.size())
	}
	for _, addr := range append([]string{m.Listen, cmp.Or(m.LeafListen, m.Listen)}, m.Peers...) {
		if _, _, err := splitAddress(addr); err != nil {
			add("%w", err)
		}
	}
	if m.Advertise != "" {
		if host, _, err := splitAddress(m.Advertise); err != nil || host == "" {
			add("%q cannot be advertised: HOST:PORT is needed", m.Advertise)
		}
	}
	return errors.Join(problems...)
}

func (m *Mesh) size() int { return cmp.Or(m.Size, DefaultSize) }

func splitAddress(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("%q is no address: HOST:PORT is needed", addr)
	}
	if port, err = strconv.Atoi(text); err != nil || port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("%q has no port from 1 to 65535", addr)
	}
	return host, port, nil
}

// routeUser is the name under which servers know each other; the secret counts.
const routeUser = "reecho"

// Users of connections within the process. A mesh has to listen for clients, and
// nobody else shall be one.
const (
	innerUser  = "reecho"
	systemUser = "system"
	// systemAccount is NATS' own, which may ask what is of all accounts.
	systemAccount = "$SYS"
)

// credentials are the password of the users, another one in each process; "": there
// are none.
type credentials struct{ password string }

func newCredentials() credentials { return credentials{rand.Text()} }

func (c credentials) of(user string) nats.Option {
	if c.password == "" {
		return func(*nats.Options) error { return nil }
	}
	return nats.UserInfo(user, c.password)
}

// apply makes opts those of a server of the mesh, whose peers have addresses.
func (m *Mesh) apply(opts *server.Options, in credentials, addresses []string) {
	// Without a listener for clients nats-server starts no routes.
	opts.DontListen = false
	opts.Host, opts.Port = "127.0.0.1", server.RANDOM_PORT
	system := server.NewAccount(systemAccount)
	opts.Accounts, opts.SystemAccount = []*server.Account{system}, systemAccount
	opts.Users = []*server.User{{Username: innerUser, Password: in.password}, {Username: systemUser, Password: in.password, Account: system}}
	opts.JetStreamDomain = Domain
	host, port, _ := splitAddress(m.Listen)
	opts.Cluster = server.ClusterOpts{
		Name: m.Cluster, Host: host, Port: port, Username: routeUser, Password: m.Secret,
		Advertise: m.Advertise, NoAdvertise: m.Advertise == "",
		TLSConfig: m.TLS, TLSTimeout: 5, AuthTimeout: 5,
		PingInterval: routePing, MaxPingsOut: routePingsOut,
	}
	if m.LeafListen != "" {
		m.acceptLeaves(opts)
	}
	for _, addr := range addresses {
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats", Host: addr, User: url.UserPassword(routeUser, m.Secret)})
	}
}

// resolve waits until the peers are as many addresses as there are servers: one that
// knew of fewer might form a cluster with them alone. Names that have several
// addresses, or none yet, are asked again until ctx ends.
func (m *Mesh) resolve(ctx context.Context, log *slog.Logger) ([]string, error) {
	if len(m.Peers) >= m.size() {
		return m.Peers, nil
	}
	say := time.NewTimer(0)
	defer say.Stop()
	for {
		addresses := m.lookUp(ctx)
		if len(addresses) >= m.size() {
			return addresses, nil
		}
		select {
		case <-say.C:
			log.Info("waiting for the addresses of the cluster", slog.Any("peers", m.Peers), slog.Any("found", addresses), slog.Int("needed", m.size()))
			say.Reset(sayPeriod)
		default:
		}
		select {
		case <-time.After(resolvePause):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: its peers have %d addresses, %d are needed: %w", ErrMesh, len(addresses), m.size(), ctx.Err())
		}
	}
}

// lookUp returns the addresses of all peers that have some.
func (m *Mesh) lookUp(ctx context.Context) []string {
	var addresses []string
	for _, peer := range m.Peers {
		host, port, _ := splitAddress(peer)
		hosts, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil {
			continue
		}
		for _, h := range hosts {
			addresses = append(addresses, net.JoinHostPort(h, strconv.Itoa(port)))
		}
	}
	slices.Sort(addresses)
	return slices.Compact(addresses)
}

// peers are the names of the servers that this one reaches.
func (i *instance) peers() (peers []string) {
	if routes, err := i.ns.Routez(nil); err == nil {
		for _, r := range routes.Routes {
			if !strings.HasSuffix(r.RemoteName, companionSuffix) {
				peers = append(peers, r.RemoteName)
			}
		}
	}
	slices.Sort(peers)
	return slices.Compact(peers)
}

// state says of a server of the mesh whom it reaches and who leads, for the log.
func (i *instance) state() []any {
	leader := ""
	if js, err := i.ns.Jsz(nil); err == nil && js.Meta != nil {
		leader = js.Meta.Leader
	}
	return []any{slog.Any("connected_to", i.peers()), slog.String("leader", leader)}
}

// madeStreams is when the streams were made that the server has, by name.
func (s *Server) madeStreams() map[string]time.Time {
	s.mu.Lock()
	i := s.current
	s.mu.Unlock()
	if i == nil {
		return nil
	}
	js, err := i.ns.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		return nil
	}
	made := make(map[string]time.Time)
	for _, account := range js.AccountDetails {
		for _, stream := range account.Streams {
			made[stream.Name] = stream.Created
		}
	}
	return made
}

// LoadTLS reads what both ends of a connection between two servers show and check:
// a certificate with its key, for the host that the peers name, and the authority
// that has signed those of all.
func LoadTLS(certFile, keyFile, authorityFile string) (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("load the certificate for the cluster: %w", err)
	}
	text, err := os.ReadFile(authorityFile) //nolint:gosec // named by the operator
	if err != nil {
		return nil, fmt.Errorf("read the authority of the cluster: %w", err)
	}
	authority := x509.NewCertPool()
	if !authority.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read the authority of the cluster: %s has no certificate (PEM)", authorityFile)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate},
		RootCAs: authority, ClientCAs: authority, ClientAuth: tls.RequireAndVerifyClientCert,
	}, nil
}
