package natsd

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// RelayPrefix begins the subjects that the servers of a mesh pass on without it, to
// whoever listens there. A leaf knows only what those servers listen to themselves, and
// sends nothing else: the interest of each leaf in each other one would cost each of
// them the memory of all.
const RelayPrefix = "relay."

// LeafConfig is that of a Leaf. All but TLS is needed.
type LeafConfig struct {
	// Name is the node's.
	Name string
	// Cluster and Secret are those of the mesh.
	Cluster, Secret string
	// Hubs are the HOST:PORT at which servers of the mesh listen for leaves: any of
	// them will do.
	Hubs []string
	// TLS, if it is set, is for the connection to them.
	TLS *tls.Config
}

// Validate reports every problem at once. StartLeaf calls it.
func (c *LeafConfig) Validate() error {
	var problems []error
	if c.Name == "" || c.Cluster == "" || len(c.Hubs) == 0 {
		problems = append(problems, fmt.Errorf("%w: a server without storage needs a name, that of the cluster, and where servers with storage listen for it", ErrMesh))
	}
	if len(c.Secret) < MinSecret {
		problems = append(problems, fmt.Errorf("%w: its secret has %d bytes: at least %d, the same on all servers", ErrMesh, len(c.Secret), MinSecret))
	}
	for _, addr := range c.Hubs {
		if _, _, err := splitAddress(addr); err != nil {
			problems = append(problems, fmt.Errorf("%w: %w", ErrMesh, err))
		}
	}
	return errors.Join(problems...)
}

// Leaf is a running NATS server that keeps nothing: it is connected to one server of a
// mesh, and when that is gone to another. It is safe for concurrent use.
type Leaf struct {
	cfg LeafConfig
	log *slog.Logger
	ns  *server.Server

	rejoined chan struct{} // capacity 1; never closed
	stop     context.CancelFunc
	watching sync.WaitGroup
}

// StartLeaf runs a Leaf and waits until the JetStream of the mesh answers, for as long
// as ctx lets it.
func StartLeaf(ctx context.Context, cfg LeafConfig, log *slog.Logger) (*Leaf, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	ns, err := server.NewServer(cfg.options())
	if err != nil {
		return nil, fmt.Errorf("start the NATS server: %w", err)
	}
	l := &Leaf{cfg: cfg, log: log, ns: ns, rejoined: make(chan struct{}, 1)}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	said := newLogger(log, leafComplaints, func(error) {})
	ns.SetLoggerV2(said, false, false, false)
	ns.Start()
	if err := l.waitReady(ctx, said); err != nil {
		return nil, errors.Join(fmt.Errorf("start the NATS server: %w", err), l.Close(context.WithoutCancel(ctx)))
	}
	hub := l.hub()
	l.watching.Go(func() { l.watch(watching, hub) })
	return l, nil
}

func (c *LeafConfig) options() *server.Options {
	opts := &server.Options{
		// A server takes a second one of a name for the first, and closes that.
		ServerName: c.Name + "-" + rand.Text()[:8],
		DontListen: true, NoSigs: true,
		MaxPayload: maxPayload, MaxControlLine: maxControlLine,
		PingInterval: routePing, MaxPingsOut: routePingsOut,
	}
	remote := &server.RemoteLeafOpts{TLS: c.TLS != nil, TLSConfig: c.TLS, TLSTimeout: 5}
	for _, addr := range c.Hubs {
		remote.URLs = append(remote.URLs, &url.URL{Scheme: "nats", Host: addr, User: url.UserPassword(c.Cluster, c.Secret)})
	}
	opts.LeafNode = server.LeafNodeOpts{Remotes: []*server.RemoteLeafOpts{remote}, ReconnectInterval: leafReconnect}
	return opts
}

const (
	// leafReconnect is the pause between two tries to reach a server of the mesh.
	leafReconnect = 250 * time.Millisecond
	// leafProbe bounds one question to JetStream during the start.
	leafProbe = time.Second
	// leafLook is how often it is looked to which server a leaf is connected.
	leafLook = 50 * time.Millisecond
)

// Rejoined receives when the connection to the servers with storage was lost and is
// there again, and all that is listened to here is known at the other end: what was sent
// meanwhile has not come. Connections inside the process do not notice.
func (l *Leaf) Rejoined() <-chan struct{} { return l.rejoined }

// watch tells of new connections to servers with storage until ctx ends. last is the
// number of the one that is known.
func (l *Leaf) watch(ctx context.Context, last uint64) {
	ticker := time.NewTicker(leafLook)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now := l.hub()
		if now == 0 || now == last || !l.settled(ctx) {
			continue
		}
		last = now
		l.log.Info("connected to a server with storage again")
		select {
		case l.rejoined <- struct{}{}:
		default:
		}
	}
}

// Another ends the connection to a server with storage, for one to the next of Hubs: the
// one that is there may be cut off from the others, and does not know or say it. With
// one hub it does nothing.
func (l *Leaf) Another() {
	if hub := l.hub(); hub != 0 && len(l.cfg.Hubs) > 1 {
		l.log.Info("leaving a server with storage, which has none of the streams, for another")
		_ = l.ns.DisconnectClientByID(hub) // it is gone
	}
}

// hub is the number of the connection to a server with storage, another one for each; 0:
// there is none.
func (l *Leaf) hub() uint64 {
	all, err := l.ns.Leafz(nil)
	if err != nil || len(all.Leafs) == 0 {
		return 0
	}
	return all.Leafs[0].ID
}

// settled asks over a subscription of its own, which the other end knows after all that
// was there before.
func (l *Leaf) settled(ctx context.Context) bool {
	nc, err := l.Connect(nats.Name("rejoin"), nats.UseOldRequestStyle())
	if err != nil {
		return false
	}
	defer nc.Close()
	return l.probe(ctx, nc) == nil
}

// waitReady says now and then what it waits for.
func (l *Leaf) waitReady(ctx context.Context, said *logger) error {
	nc, err := l.Connect(nats.Name("start"))
	if err != nil {
		return err
	}
	defer nc.Close()
	told := time.Now()
	for {
		if err := said.fatalError(); err != nil {
			return err
		}
		err := l.probe(ctx, nc)
		if err == nil {
			return nil
		}
		if time.Since(told) >= sayPeriod {
			told = time.Now()
			text := "waiting for a server with storage: cluster_peers have to be where these listen for leaves, cluster_secret, cluster_name and cluster_tls_… theirs"
			if l.hub() != 0 {
				text = "waiting for the servers with storage to have a majority"
			}
			l.log.Info(text, slog.Any("cluster_peers", l.cfg.Hubs)) //nolint:sloglint // one of two constants
		}
		select {
		case <-time.After(readyPause):
		case <-ctx.Done():
			return fmt.Errorf("wait for a server with storage: %w", errors.Join(ctx.Err(), err))
		}
	}
}

// probe asks the JetStream of the mesh for anything.
func (l *Leaf) probe(ctx context.Context, nc *nats.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, leafProbe)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, "$JS."+Domain+".API.INFO", nil)
	if err != nil {
		return err
	}
	var answer struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return errors.New(answer.Error.Description)
	}
	return nil
}

// InProcessConn implements nats.InProcessConnProvider.
func (l *Leaf) InProcessConn() (net.Conn, error) { return l.ns.InProcessConn() }

// Connect opens a connection inside the process.
func (l *Leaf) Connect(opts ...nats.Option) (*nats.Conn, error) {
	return connect(l, l.log, opts)
}

// Close stops the server, and waits for that at most until ctx ends.
func (l *Leaf) Close(ctx context.Context) error {
	stopped := make(chan struct{})
	l.stop()
	go func() {
		l.watching.Wait()
		l.ns.Shutdown()
		l.ns.WaitForShutdown()
		close(stopped)
	}()
	select {
	case <-stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the NATS server to stop: %w", ctx.Err())
	}
}

// acceptLeaves has a server of the mesh listen for leaves, and pass on what they say
// to each other.
func (m *Mesh) acceptLeaves(opts *server.Options) {
	host, port, _ := splitAddress(m.LeafListen)
	opts.LeafNode = server.LeafNodeOpts{
		Host: host, Port: port, Username: m.Cluster, Password: m.Secret,
		NoAdvertise: true, TLSConfig: m.TLS, TLSTimeout: 5, AuthTimeout: 5,
		IsolateLeafnodeInterest: true,
	}
}

// passOn has ns pass on what leaves say to each other, before any is connected.
func passOn(ns *server.Server) error {
	if err := ns.GlobalAccount().AddMapping(RelayPrefix+">", ">"); err != nil {
		return fmt.Errorf("pass on what servers without storage say to each other: %w", err)
	}
	return nil
}

// connect opens a connection inside the process, which outlives restarts of the server.
// What is sent meanwhile is refused and not kept for later: whoever sent it has been
// told that it failed.
func connect(to nats.InProcessConnProvider, log *slog.Logger, opts []nats.Option) (*nats.Conn, error) {
	opts = append([]nats.Option{
		nats.InProcessServer(to), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1),
		nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectWait/2, reconnectWait/2),
		// Without a handler the client prints to standard error.
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Debug("a connection to the NATS server has an error", slog.Any("error", err))
		}),
	}, opts...)
	nc, err := nats.Connect("", opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	return nc, nil
}
