// Package node puts a server together: it builds everything in order and closes
// it in reverse. It is what main and every test start.
package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"reecho/broker"
	"reecho/broker/cluster"
	"reecho/broker/natsd"
	"reecho/broker/outside"
	"reecho/edge"
	"reecho/edge/acme"
	"reecho/edge/api"
	"reecho/edge/app"
	"reecho/edge/config"
	"reecho/edge/console"
	"reecho/edge/limit"
	"reecho/edge/metrics"
	"reecho/edge/pressure"
	"reecho/edge/pusher"
	"reecho/edge/socket"
	"reecho/edge/sse"
	"reecho/edge/webhook"
	"reecho/edge/xhr"
	"reecho/replay/client"
)

// Node is a running server.
type Node struct {
	cfg      config.Config
	log      *slog.Logger
	listener *socket.Listener
	nats     *natsd.Server // nil if the server is others', or leaf is set
	leaf     *natsd.Leaf   // of a node without storage
	broker   *broker.Broker
	hub      *edge.Hub
	fallback *xhr.Handler
	hooks    *webhook.Service // nil if no app has webhooks
	front    *front
	server   *socket.Server
	ledger   *limit.Ledger
	memory   *pressure.Guard
	streams  *sse.Handler
	calls    *api.API
	// metrics are served on an address of their own, scraped; nil: they are not.
	metrics *metrics.Server
	scraped *socket.Listener

	certificate *socket.Certificate // nil without a file of one
	keeper      *acme.Keeper        // nil without an authority for it

	serving sync.WaitGroup
	// watching looks at the cluster, if there is one, until stopWatch is called.
	watching  sync.WaitGroup
	stopWatch context.CancelFunc
	served    error // why serving ended; read after serving.Wait
	failed    chan struct{}
}

// ErrStopped is why Start failed if its context ended and everything is closed.
var ErrStopped = errors.New("stopped before the start was done")

// Start runs a server for a validated configuration. It listens and takes
// publishes when it returns. The context bounds the start only.
func Start(ctx context.Context, cfg config.Config, log *slog.Logger) (*Node, error) {
	n := &Node{cfg: cfg, log: log, ledger: limit.NewLedger(log), failed: make(chan struct{})}
	if err := n.start(ctx); err != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.ShutdownTimeout)
		defer cancel()
		unclean := n.Close(closing)
		if ctx.Err() != nil && unclean == nil {
			err = fmt.Errorf("%w: %w", ErrStopped, err)
		}
		return nil, errors.Join(err, unclean)
	}
	return n, nil
}

func (n *Node) start(ctx context.Context) error {
	apps, err := app.NewRegistry(n.cfg.Apps)
	if err != nil {
		return fmt.Errorf("read the apps: %w", err)
	}
	if err := n.equip(); err != nil {
		return err
	}
	// Before anything is opened: a port that is taken is the commonest mistake.
	if err := n.listen(ctx); err != nil {
		return err
	}
	if err := n.keeper.Listen(ctx); err != nil {
		return err
	}
	n.memory = pressure.Watch(n.cfg.MemoryMark, func() { n.ledger.Count(limit.Memory) }, n.log)
	n.cfg.Socket.Refuse = n.memory.Refusal
	if n.cfg.Log.Shared {
		// Others may be awaited for long: who comes is answered meanwhile.
		if err := n.openServer(); err != nil {
			return err
		}
	}
	if err := n.openBroker(ctx); err != nil {
		return err
	}
	n.hooks, err = webhook.New(ctx, n.cfg.Webhooks, apps, n.broker, n.log)
	if err != nil {
		return fmt.Errorf("start the webhooks: %w", err)
	}
	if n.hooks != nil {
		n.cfg.Edge.Hooks = n.hooks
	}
	n.hub, err = edge.NewHub(ctx, n.cfg.Edge, apps, n.broker, n.log)
	if err != nil {
		return fmt.Errorf("start the hub: %w", err)
	}
	n.fallback, err = xhr.New(n.cfg.XHR, n.hub, n.broker.Nodes(), n.log)
	if err != nil {
		return fmt.Errorf("make the door for fallback transports: %w", err)
	}
	if err := n.broker.Nodes().Start(); err != nil {
		return fmt.Errorf("join the cluster: %w", err)
	}
	if err := n.openDoors(); err != nil {
		return err
	}
	if !n.cfg.Log.Shared {
		if err := n.openServer(); err != nil {
			return err
		}
	}
	n.keeper.Start(ctx, n.broker, n.cfg.Store.Name)
	n.openMetrics()
	if n.cfg.Log.Shared && (n.cfg.Isolation > 0 || n.leaf != nil) {
		ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
		n.stopWatch = stop
		n.watching.Go(func() { n.watchCluster(ctx) })
	}
	return nil
}

// equip completes the packages' Configs: with what follows from others, and with
// what only a running node has.
func (n *Node) equip() (err error) {
	n.cfg.Derive()
	door := &n.cfg.Socket
	if door.TLS, err = n.loadCertificate(); err != nil {
		return err
	}
	if n.cfg.Cluster.Cluster != "" && n.cfg.ClusterTLSCert != "" {
		if n.cfg.Cluster.TLS, err = natsd.LoadTLS(n.cfg.ClusterTLSCert, n.cfg.ClusterTLSKey, n.cfg.ClusterTLSCA); err != nil {
			return err
		}
	}
	if door.TrustedProxies, err = socket.ParseProxies(n.cfg.TrustedProxies); err != nil {
		return fmt.Errorf("read trusted_proxies: %w", err)
	}
	door.Ledger, n.cfg.Streams.Ledger, n.cfg.XHR.Ledger, n.cfg.Edge.Ledger, n.cfg.API.Ledger = n.ledger, n.ledger, n.ledger, n.ledger, n.ledger
	// What waits for a stream is in the same memory as what waits for a socket.
	door.Budget = socket.NewBudget(n.cfg.QueueMemory, n.ledger)
	n.cfg.Streams.Budget, n.cfg.XHR.Budget = door.Budget, door.Budget
	n.front = newFront(n.cfg.Edge.PathPrefix, "this server waits for a majority of the servers of its cluster")
	if len(n.cfg.NATS.URLs) > 0 {
		n.front = newFront(n.cfg.Edge.PathPrefix, "this server waits for its NATS server")
	}
	return nil
}

// openDoors opens the doors over the hub.
func (n *Node) openDoors() (err error) {
	if n.streams, err = sse.New(n.cfg.Streams, n.hub); err != nil {
		return fmt.Errorf("make the door for event streams: %w", err)
	}
	if n.calls, err = api.New(n.cfg.API, n.hub, n.broker.Ready, n.log); err != nil {
		return fmt.Errorf("make the HTTP API: %w", err)
	}
	n.front.open(n.hub, n.routes(n.streams, n.calls))
	return nil
}

// openMetrics serves the metrics, if they are wanted. Until then who asks waits.
func (n *Node) openMetrics() {
	if n.scraped == nil {
		return
	}
	n.metrics = metrics.Serve(n.scraped, metrics.Sources{
		Version: n.cfg.Version, Hub: n.hub, API: n.calls, Streams: n.streams, Fallback: n.fallback, Broker: n.broker, NATS: n.nats,
		Webhooks: n.hooks, Server: n.server, Budget: n.cfg.Socket.Budget, Ledger: n.ledger, Memory: n.memory,
	}, n.log)
	n.log.Info("metrics are served", slog.String("at", n.scraped.Addr().String()+metrics.Path))
}

// openServer serves the port.
func (n *Node) openServer() (err error) {
	n.server, err = socket.NewServer(n.cfg.Socket, n.front, n.front, n.log)
	if err != nil {
		return fmt.Errorf("make the server: %w", err)
	}
	n.serving.Go(n.serve)
	return nil
}

func (n *Node) listen(ctx context.Context) (err error) {
	if n.listener, err = n.listenOn(ctx, n.cfg.Listen); err != nil {
		return fmt.Errorf("listen on %s: %w", n.cfg.Listen, err)
	}
	if n.cfg.MetricsListen == "" {
		return nil
	}
	if n.scraped, err = n.listenOn(ctx, n.cfg.MetricsListen); err != nil {
		return fmt.Errorf("listen for metrics on %s (metrics_listen): %w", n.cfg.MetricsListen, err)
	}
	return nil
}

func (n *Node) listenOn(ctx context.Context, address string) (*socket.Listener, error) {
	path, unix := strings.CutPrefix(address, config.UnixListen)
	if !unix {
		return socket.Listen(ctx, address)
	}
	mode, err := config.ParseMode(n.cfg.UnixSocketMode)
	if err != nil {
		return nil, fmt.Errorf("read unix_socket_mode: %w", err)
	}
	return socket.ListenUnix(ctx, path, mode)
}

func (n *Node) openBroker(ctx context.Context) error {
	server, newEpoch, err := n.openNATS(ctx)
	if err != nil {
		return err
	}
	n.broker, err = broker.New(ctx, n.cfg.Log, server, newEpoch, n.log)
	if err != nil {
		return fmt.Errorf("open the event log: %w", err)
	}
	return nil
}

// openNATS opens the server inside, or that of others.
func (n *Node) openNATS(ctx context.Context) (server broker.Dialer, newEpoch bool, err error) {
	if len(n.cfg.NATS.URLs) > 0 {
		external, err := outside.Open(ctx, n.cfg.NATS, n.log)
		return external, false, err
	}
	if !n.cfg.Storage {
		n.leaf, err = natsd.StartLeaf(ctx, n.cfg.Leaf(), n.log)
		return n.leaf, false, err
	}
	n.nats, err = natsd.Start(ctx, n.cfg.Store, n.log)
	if err != nil {
		return nil, false, fmt.Errorf("open the data folder %s: %w", n.cfg.Store.Dir, err)
	}
	if n.nats.Trusted() || n.cfg.Log.Shared {
		return n.nats, false, nil
	}
	n.log.Warn("the last run ended with the machine: the newest events may be lost, positions from before are void")
	return n.nats, true, nil
}

func (n *Node) loadCertificate() (*tls.Config, error) {
	var err error
	if len(n.cfg.ACME.Domains) > 0 {
		if n.keeper, err = acme.New(n.cfg.ACME, n.log); err != nil {
			return nil, fmt.Errorf("prepare the TLS certificate: %w", err)
		}
		n.cfg.Store.Private = true
		return n.keeper.TLSConfig(), nil
	}
	if n.cfg.TLSCert == "" {
		return nil, nil //nolint:nilnil // no TLS is a valid configuration
	}
	if n.certificate, err = socket.LoadCertificate(n.cfg.TLSCert, n.cfg.TLSKey, n.log); err != nil {
		return nil, fmt.Errorf("load the TLS certificate: %w", err)
	}
	return n.certificate.TLSConfig(), nil
}

// Reload reads anew what can change without a restart, the TLS certificate, or
// orders one that is due at once, and logs what it did. Connections stay.
func (n *Node) Reload() {
	if n.keeper != nil {
		n.keeper.Retry()
		return
	}
	if n.certificate == nil {
		n.log.Info("nothing to reload: there is no TLS certificate, other settings need a restart")
		return
	}
	n.certificate.Reload()
}

// routes serves what is not a client's WebSocket: event streams, fallback transports, the browser
// plugin, the demo page if it is on, and the API for all the rest.
func (n *Node) routes(streams *sse.Handler, calls *api.API) http.Handler {
	var demo http.Handler
	if (n.cfg.Development || n.cfg.Demo) && len(n.cfg.Apps) > 0 {
		demo = n.demo(n.cfg.Apps[0])
	}
	plugin := client.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := socket.RoutePath(r.URL)
		switch {
		case streams.Serves(path):
			streams.ServeHTTP(w, r)
		case n.fallback.Serves(path):
			n.fallback.ServeHTTP(w, r)
		case n.hub.ServesPlain(path):
			n.hub.ServePlain(w, r)
		case strings.HasPrefix(path, n.cfg.Edge.PathPrefix+"/client/"):
			plugin.ServeHTTP(w, r)
		case demo != nil && console.Serves(n.cfg.Edge.PathPrefix, path):
			demo.ServeHTTP(w, r)
		default:
			calls.ServeHTTP(w, r)
		}
	})
}

func (n *Node) demo(a *app.App) http.Handler {
	return console.New(console.Config{
		Key: a.Key(), PathPrefix: n.cfg.Edge.PathPrefix,
		Sign: func(socketID, channel string) string {
			c := a.Credentials[0]
			return c.Key + ":" + pusher.Sign(c.Secret, socketID+":"+channel)
		},
		Publish: func(ctx context.Context, channel, event, data string) error {
			return n.hub.Publish(ctx, a, []pusher.Publish{{Name: event, Data: data, Channels: []string{channel}}})
		},
	})
}

func (n *Node) serve() {
	// The server ends by Close alone; its life is not that of Start's context.
	if err := n.server.Serve(context.Background(), n.listener); err != nil {
		n.served = fmt.Errorf("serve: %w", err)
		close(n.failed)
	}
}

// Addr is the address that the node listens on.
func (n *Node) Addr() net.Addr { return n.listener.Addr() }

// MetricsAddr is the address of the metrics, nil if they are not served.
func (n *Node) MetricsAddr() net.Addr {
	if n.scraped == nil {
		return nil
	}
	return n.scraped.Addr()
}

// Peers are the other nodes of the cluster that are alive.
func (n *Node) Peers() []cluster.Peer { return n.broker.Nodes().Peers() }

// Hub is the connected side, for what the HTTP API does not ask.
func (n *Node) Hub() *edge.Hub { return n.hub }

// Webhooks counts what became of the webhooks; nil if no app has any.
func (n *Node) Webhooks() *webhook.Service { return n.hooks }

// Ledger counts what ran into limits.
func (n *Node) Ledger() *limit.Ledger { return n.ledger }

// Failed is closed when the node stopped serving by itself; Close tells why.
func (n *Node) Failed() <-chan struct{} { return n.failed }

// Close takes no new connections, tells clients to reconnect, finishes requests
// and stops everything, at most until ctx ends. The front gets half of that
// time; what it has not finished then is cut, which is logged and no error: the
// store must be left the time to close its folder, whatever clients do. The
// error is about the store, or why the node had stopped serving before.
func (n *Node) Close(ctx context.Context) error {
	front, cancel := context.WithTimeout(ctx, remaining(ctx)/2)
	defer cancel()
	n.hooks.Hold()
	n.keeper.Close()
	n.leaveCluster(front)
	if err := n.closeFront(front); err != nil {
		n.log.Warn("clients were cut off, they had not finished in time", slog.Any("error", err))
	}
	n.closeMetrics(ctx)
	problems := []error{n.served}
	hooks, cancelHooks := context.WithTimeout(ctx, remaining(ctx)/2)
	defer cancelHooks()
	if err := n.hooks.Close(hooks); err != nil {
		n.log.Warn("webhooks are left that could not be stored", slog.Any("error", err))
	}
	if n.broker != nil {
		problems = append(problems, n.broker.Close(ctx))
	}
	if n.nats != nil {
		problems = append(problems, n.nats.Close(ctx))
	}
	if n.leaf != nil {
		problems = append(problems, n.leaf.Close(ctx))
	}
	return errors.Join(problems...)
}

// closeMetrics ends the watch over the memory, and the metrics, which tell of the clients
// until they are gone.
func (n *Node) closeMetrics(ctx context.Context) {
	n.memory.Close()
	switch {
	case n.metrics != nil:
		scrapes, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := n.metrics.Close(scrapes); err != nil {
			n.log.Warn("a scrape was cut off", slog.Any("error", err))
		}
	case n.scraped != nil:
		_ = n.scraped.Close()
	}
}

// closeFront closes everything that clients touch, at most until ctx ends.
func (n *Node) closeFront(ctx context.Context) error {
	if n.fallback != nil {
		n.fallback.Leave()
		defer n.fallback.Close()
	}
	if n.server == nil {
		var problems []error
		if n.hub != nil {
			problems = append(problems, n.hub.Close(ctx, 0))
		}
		if n.listener != nil {
			problems = append(problems, n.listener.Close())
		}
		return errors.Join(problems...)
	}
	// The server waits for its connections, which the hub closes.
	drained := make(chan error, 1)
	go func() {
		var err error
		if n.hub != nil {
			err = n.hub.Close(ctx, min(n.cfg.DrainTime, remaining(ctx)/2))
		}
		drained <- err
	}()
	err := errors.Join(n.server.Shutdown(ctx), <-drained)
	n.serving.Wait()
	return err
}

// remaining is the time until ctx ends, long if it does not.
func remaining(ctx context.Context) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return time.Until(end)
	}
	return time.Hour
}
