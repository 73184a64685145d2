// Package natsd runs the NATS server with JetStream that is embedded in the
// process. It is the only package that imports nats-server.
package natsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// DefaultSyncInterval is how often written events are flushed to the disk. A
// killed process loses nothing; a power cut can take the events of the last
// interval. In BenchmarkSyncInterval of package broker 100 ms cost 2 % more CPU
// per event than one second, but 16 callers that wait for each answer (the
// scenario "publish" of scripts/bench) stored about 20 % fewer events with
// 100 ms and as many with one second as with ten.
const DefaultSyncInterval = time.Second

const (
	startTimeout = 30 * time.Second
	readyPause   = 5 * time.Millisecond
	// maxPayload bounds one stored event with its headers, in bytes. It is
	// above nats-server's 1 MB so that an app's event limit may be raised.
	maxPayload = 8 << 20
)

// Config of a Server. Dir is needed, the zero value of the rest is usable.
type Config struct {
	// Dir is the data folder; it is made if it does not exist.
	Dir string
	// Name is the server's name, stable and unique in a cluster. "" is
	// "reecho".
	Name string
	// SyncInterval is the time between flushes to the disk. 0 is
	// DefaultSyncInterval.
	SyncInterval time.Duration
	// SyncAlways flushes each event before it is acknowledged, at about a
	// tenth of the throughput.
	SyncAlways bool
}

// Server is a running NATS server without a listening port.
type Server struct {
	ns   *server.Server
	lock *dirLock
	log  *logger
	dir  string
	// trusted is whether the sequences of the data folder are what was
	// acknowledged.
	trusted bool
}

// Start runs a server and waits until JetStream answers. The data folder
// belongs to the process until Close.
func Start(ctx context.Context, cfg Config, log *slog.Logger) (*Server, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{lock: lock, dir: cfg.Dir, log: newLogger(log)}
	if err := s.start(ctx, cfg); err != nil {
		s.abort()
		return nil, fmt.Errorf("start the NATS server: %w", err)
	}
	return s, nil
}

func (s *Server) start(ctx context.Context, cfg Config) error {
	trusted, err := openMarks(cfg.Dir)
	if err != nil {
		return err
	}
	s.trusted = trusted
	s.ns, err = server.NewServer(options(cfg))
	if err != nil {
		return err
	}
	s.ns.SetLoggerV2(s.log, false, false, false)
	s.ns.Start()
	return s.waitReady(ctx)
}

func options(cfg Config) *server.Options {
	name := cfg.Name
	if name == "" {
		name = "reecho"
	}
	interval := cfg.SyncInterval
	if interval == 0 {
		interval = DefaultSyncInterval
	}
	return &server.Options{
		ServerName: name,
		DontListen: true,
		NoSigs:     true,
		JetStream:  true,
		StoreDir:   filepath.Join(cfg.Dir, "nats"),
		// The disk is bounded by the streams' own limits; without a number
		// here nats-server takes three quarters of what is free now, which
		// fails later starts on a fuller disk.
		JetStreamMaxStore: 1 << 50,
		SyncInterval:      interval,
		SyncAlways:        cfg.SyncAlways,
		MaxPayload:        maxPayload,
	}
}

// waitReady polls because nats-server reports a fatal error only through its
// logger.
func (s *Server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		if err := s.log.fatalError(); err != nil {
			return err
		}
		if s.ns.ReadyForConnections(readyPause) && s.ns.JetStreamEnabled() {
			return s.probe(ctx)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for JetStream: %w", ctx.Err())
		case <-time.After(readyPause):
		}
	}
}

// probe makes a real JetStream request.
func (s *Server) probe(ctx context.Context) error {
	nc, err := s.Connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	if _, err := nc.RequestWithContext(ctx, "$JS.API.INFO", nil); err != nil {
		return fmt.Errorf("ask JetStream for its state: %w", err)
	}
	return nil
}

// Connect opens a connection inside the process.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	opts = append([]nats.Option{nats.InProcessServer(s.ns), nats.MaxReconnects(-1)}, opts...)
	nc, err := nats.Connect("", opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	return nc, nil
}

// Trusted is false when the previous process did not close the data folder and
// the machine was started anew since: a power cut may have taken acknowledged
// events, and their sequences may be given again.
func (s *Server) Trusted() bool { return s.trusted }

// Close stops the server, flushes the data folder and gives it up. It waits for
// the server at most until ctx ends.
func (s *Server) Close(ctx context.Context) error {
	s.ns.Shutdown()
	stopped := make(chan struct{})
	go func() {
		s.ns.WaitForShutdown()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("wait for the NATS server to stop: %w", ctx.Err()), s.lock.release())
	}
	return errors.Join(markClosed(s.dir), s.lock.release())
}

// abort undoes a start that failed.
func (s *Server) abort() {
	if s.ns != nil {
		s.ns.Shutdown()
		s.ns.WaitForShutdown()
	}
	_ = s.lock.release()
}
