package natsd

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// companionSuffix makes the name of a companion of its server's.
const companionSuffix = "_companion"

// companion is a server without storage, in the same process, which has nothing but a
// route to its server. nats-server decides nothing before it has had a route (raft.go,
// run): what the last of a cluster has could not be rescued once that was started again.
type companion struct {
	quit    chan struct{} // closed to end it
	running sync.WaitGroup
}

// companionPeriod is how often is looked whether a companion is needed any more.
const companionPeriod = time.Second

// begin runs a companion until its server has a route to another one, or end is called.
func (c *companion) begin(s *Server, i *instance) error {
	ns, err := s.newCompanion()
	if err != nil {
		return err
	}
	ns.Start()
	s.log.Debug("this server reaches no other and has events: it begins alone, so that they can be rescued", slog.Any("peers", s.peers))
	c.quit = make(chan struct{})
	c.running.Go(func() {
		for len(i.peers()) == 0 {
			select {
			case <-time.After(companionPeriod):
				continue
			case <-c.quit:
			}
			break
		}
		ns.Shutdown()
		ns.WaitForShutdown()
	})
	return nil
}

// end waits until the companion has ended, if there is one.
func (c *companion) end() {
	if c.quit != nil {
		close(c.quit)
		c.running.Wait()
	}
}

func (s *Server) newCompanion() (*server.Server, error) {
	m := s.cfg.Mesh
	host, port, err := splitAddress(m.Listen)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	opts := &server.Options{ServerName: s.cfg.Name + companionSuffix, NoSigs: true}
	m.apply(opts, newCredentials(), nil)
	opts.JetStreamDomain = ""
	opts.Cluster.Host, opts.Cluster.Port, opts.Cluster.Advertise = "127.0.0.1", server.RANDOM_PORT, ""
	if m.TLS != nil {
		// The certificate is for the name that others know this server by, and who answers
		// is this process.
		opts.Cluster.TLSConfig = m.TLS.Clone()
		opts.Cluster.TLSConfig.InsecureSkipVerify = true
	}
	opts.Routes = []*url.URL{{Scheme: "nats", Host: net.JoinHostPort(host, strconv.Itoa(port)), User: url.UserPassword(routeUser, m.Secret)}}
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("make a companion: %w", err)
	}
	return ns, nil
}

// waiting is what a server of a mesh does until there is a majority.
type waiting struct {
	server   *Server
	instance *instance
	open     bool // commands are let in
}

// letIn lets commands in, once the server listens.
func (w *waiting) letIn() error {
	if w.open || w.server.cfg.Mesh == nil {
		return nil
	}
	w.open = true
	return w.server.writeAccess(w.instance)
}

// tell says for what is waited, and begins alone if nobody else is there.
func (w *waiting) tell() {
	s, i := w.server, w.instance
	s.log.Info("waiting for a majority of the cluster", append(i.state(), slog.Any("peers", s.peers))...)
	if has, err := hasStreams(s.cfg.Dir); err != nil || !has || i.ns.NumRoutes() > 0 || i.companion.quit != nil {
		return
	}
	if err := i.companion.begin(s, i); err != nil {
		s.log.Warn("a rescue of what this server has needs another one to be started", slog.Any("error", err))
	}
}
