// Package natsd runs the NATS server with JetStream that is embedded in the
// process. It is the only package that imports nats-server.
package natsd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	startTimeout = 30 * time.Second
	readyPause   = 5 * time.Millisecond
	// reconnectWait is about how long after a restart connections are back.
	reconnectWait = 20 * time.Millisecond
	// maxPayload bounds one stored event with its headers, in bytes. It is
	// above nats-server's 1 MB so that an app's event limit may be raised.
	maxPayload = 8 << 20
	// maxControlLine bounds the subjects of a message, in bytes. nats-server's
	// 4 KB would end the connection of all publishes for one long name.
	maxControlLine = 32 << 10
)

// Server is a running NATS server without a listening port. It is safe for
// concurrent use, but for Close.
type Server struct {
	cfg    Config
	log    *slog.Logger
	lock   *dirLock
	folder *folder
	ledger *ledger
	// in are the credentials of Connect, peers the addresses of the mesh.
	in    credentials
	peers []string
	// trusted is whether the sequences of the data folder are what was
	// acknowledged.
	trusted  bool
	failures chan error // holds the newest; never closed

	mu       sync.Mutex
	current  *instance     // nil: none could be started, or the next is not there yet
	stopping chan struct{} // closed when the one before has let go of the folder; may be nil
	unsound  error         // why the current instance, or the next one, cannot be trusted; nil: it can
}

// instance is one life of the NATS server.
type instance struct {
	ns        *server.Server
	log       *logger
	companion companion
}

// Start runs a server and waits until JetStream answers. The data folder
// belongs to the process until Close.
func Start(ctx context.Context, cfg Config, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	warnOfMode(cfg.Dir, cfg.Private, log)
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg.withDefaults(), log: log, lock: lock, folder: &folder{dir: cfg.Dir}, failures: make(chan error, 1)}
	if err := s.start(ctx); err != nil {
		_ = s.lock.release()
		return nil, fmt.Errorf("start the NATS server: %w", err)
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) error {
	if err := checkMode(&s.cfg); err != nil {
		return err
	}
	closed, trusted, err := openMarks(s.cfg.Dir)
	if err != nil {
		return err
	}
	s.trusted = trusted
	if m := s.cfg.Mesh; m != nil {
		s.in, s.folder.made = newCredentials(), s.madeStreams
		if m.FastElections {
			setElections()
		}
		if s.peers, err = m.resolve(ctx, s.log); err != nil {
			return err
		}
		if err := checkRivals(ctx, s.cfg.Name, s.peers); err != nil {
			return err
		}
	}
	if s.ledger, err = openLedger(s.cfg.Dir, s.log); err != nil {
		return err
	}
	if err := s.firstLaunch(ctx, closed); err != nil {
		return errors.Join(err, s.ledger.release())
	}
	return nil
}

// firstLaunch begins the first life of the server; after an unclean end, and of what
// is damaged, all that is there is read.
func (s *Server) firstLaunch(ctx context.Context, closed bool) error {
	v, err := s.ledger.verify(!closed)
	if err != nil {
		return err
	}
	if err := s.launch(ctx, false); err != nil {
		return err
	}
	for stream, text := range v.cut() {
		s.ledger.damage[stream] = cmp.Or(s.ledger.damage[stream], text)
	}
	if s.cfg.Mesh != nil {
		return nil // streams come with their leader
	}
	if err := s.setAside(ctx); err != nil {
		return errors.Join(err, s.halt(context.WithoutCancel(ctx)))
	}
	return nil
}

// launch begins a life of the server. After a failure the files are as it left
// them, which nats-server tells of each; that is not news.
func (s *Server) launch(ctx context.Context, again bool) error {
	ns, err := server.NewServer(s.options())
	if err != nil {
		return err
	}
	if s.cfg.Mesh != nil && s.cfg.Mesh.LeafListen != "" {
		if err := passOn(ns); err != nil {
			return err
		}
	}
	var known []complaint
	if s.cfg.Mesh != nil {
		known = meshComplaints
	}
	i := &instance{ns: ns, log: newLogger(s.log, known, s.failed)}
	i.log.hush(again)
	ns.SetLoggerV2(i.log, false, false, false)
	s.mu.Lock()
	s.current, s.unsound = i, nil
	s.mu.Unlock()
	ns.Start()
	if err = s.waitReady(ctx, i); err == nil {
		err = s.folder.remember()
	}
	if again && errors.Is(err, errEnded) {
		// Until the next try it carries what the nodes of a cluster say to each other.
		return err
	}
	if err != nil {
		return errors.Join(err, s.halt(context.WithoutCancel(ctx)))
	}
	i.log.hush(false)
	return nil
}

// errEnded is that JetStream has failed while it was awaited. It does not come back by
// itself.
var errEnded = errors.New("JetStream has failed during the start")

// halt ends the current life of the server, if any, and waits until the folder
// is let go, at most until ctx ends; then the next halt goes on waiting.
func (s *Server) halt(ctx context.Context) error {
	s.mu.Lock()
	if i := s.current; i != nil {
		if s.cfg.Mesh != nil {
			s.removeAccess()
		}
		stopped := make(chan struct{})
		s.current, s.stopping = nil, stopped
		go func() {
			i.companion.end()
			i.ns.Shutdown()
			i.ns.WaitForShutdown()
			i.log.waitStopped()
			close(stopped)
		}()
	}
	stopped := s.stopping
	s.mu.Unlock()
	if stopped == nil {
		return nil
	}
	select {
	case <-stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the NATS server to stop: %w", ctx.Err())
	}
}

// failed is told that the server has stopped storing.
func (s *Server) failed(err error) {
	s.markUnsound(err)
	select {
	case s.failures <- err:
	default:
		// Another one waits to be read, and leads to the same.
	}
}

// markUnsound may be called by nats-server at any time, so s.mu is never held
// while nats-server is called.
func (s *Server) markUnsound(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unsound == nil {
		s.unsound = err
	}
}

// Failures receives why the server has stopped storing events; it has to be
// restarted then. Only the first failure of several is kept.
func (s *Server) Failures() <-chan error { return s.failures }

// Check reports whether the data folder is there and takes size bytes, which
// are written and removed again, at most until ctx ends. size 0 only looks.
// flush: the bytes must get to the disk too. A folder that is not there is a
// failure of the server too.
func (s *Server) Check(ctx context.Context, size int, flush bool) error {
	if err := s.folder.check(); err != nil {
		// What was written meanwhile may have gone somewhere else.
		s.failed(err)
		return err
	}
	if size == 0 {
		return nil
	}
	return s.folder.write(ctx, size, flush)
}

// Blind is when a file could not be opened last for want of descriptors, long ago if
// never.
func (s *Server) Blind() time.Time {
	s.mu.Lock()
	i := s.current
	s.mu.Unlock()
	if i == nil {
		return time.Time{}
	}
	return i.log.lastBlind()
}

// Restart ends the server and starts it anew over the same data folder, which
// stays locked. Connections made by Connect come back by themselves; what is
// kept in memory only is lost. After an error there may be no server until the
// next Restart. It must not be called while another call is under way.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	before := s.unsound
	s.mu.Unlock()
	err := s.restart(ctx)
	if err != nil {
		s.mu.Lock()
		s.unsound = cmp.Or(before, s.unsound, err) // why it had to be restarted says more
		s.mu.Unlock()
	}
	return err
}

func (s *Server) restart(ctx context.Context) error {
	if err := s.halt(ctx); err != nil {
		return err
	}
	select {
	case err := <-s.failures:
		s.log.Debug("the NATS server that was ended had failed", slog.Any("error", err))
	default:
	}
	if err := s.launch(ctx, true); err != nil {
		return fmt.Errorf("restart the NATS server: %w", err)
	}
	return nil
}

func (s *Server) options() *server.Options {
	cfg := s.cfg
	opts := &server.Options{
		ServerName: cfg.Name,
		DontListen: true,
		NoSigs:     true,
		JetStream:  true,
		StoreDir:   filepath.Join(cfg.Dir, storeFolder),
		// The disk is bounded by the streams' own limits; without a number
		// here nats-server takes three quarters of what is free now, which
		// fails later starts on a fuller disk.
		JetStreamMaxStore: 1 << 50,
		SyncInterval:      cfg.SyncInterval,
		SyncAlways:        cfg.SyncAlways,
		MaxPayload:        maxPayload,
		MaxControlLine:    maxControlLine,
	}
	if cfg.Mesh != nil {
		cfg.Mesh.apply(opts, s.in, s.peers)
	}
	return opts
}

// waitReady polls because nats-server reports a fatal error only through its
// logger. A server of a mesh waits for a majority of the others, for as long as it
// takes, and says so.
func (s *Server) waitReady(ctx context.Context, i *instance) error {
	if s.cfg.Mesh == nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, startTimeout)
		defer cancel()
	}
	w := &waiting{server: s, instance: i}
	said := time.Now()
	for {
		if err := i.log.fatalError(); err != nil {
			return err
		}
		if i.ns.ReadyForConnections(readyPause) && i.ns.JetStreamEnabled() {
			if err := w.letIn(); err != nil {
				return err
			}
			err := s.probe(ctx)
			if err == nil || s.cfg.Mesh == nil {
				return err
			}
		}
		if err := i.log.firstFailure(); err != nil && !i.ns.JetStreamEnabled() {
			return fmt.Errorf("%w: %w", errEnded, err)
		}
		if s.cfg.Mesh != nil && time.Since(said) >= sayPeriod {
			said = time.Now()
			w.tell()
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
	if s.cfg.Mesh != nil {
		// Without a leader nobody answers.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Second)
		defer cancel()
	}
	m, err := nc.RequestWithContext(ctx, "$JS.API.INFO", nil)
	if err != nil {
		return fmt.Errorf("ask JetStream for its state: %w", err)
	}
	var answer struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return fmt.Errorf("read the state of JetStream: %w", err)
	}
	if answer.Error != nil {
		return fmt.Errorf("ask JetStream for its state: %s", answer.Error.Description)
	}
	return nil
}

// errDown: there is no server to connect to until the next Restart.
var errDown = errors.New("the embedded NATS server is down")

// InProcessConn implements nats.InProcessConnProvider: a connection to whatever
// server runs now.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	i := s.current
	s.mu.Unlock()
	if i == nil {
		return nil, errDown
	}
	return i.ns.InProcessConn()
}

// Connect opens a connection inside the process. It outlives restarts of the
// server. What is sent meanwhile is refused and not kept for later: whoever
// sent it has been told that it failed.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	return connect(s, s.log, append([]nats.Option{s.in.of(innerUser)}, opts...))
}

// Trusted is false when the previous process did not close the data folder and
// the machine was started anew since: a power cut may have taken acknowledged
// events, and their sequences may be given again.
func (s *Server) Trusted() bool { return s.trusted }

// Acknowledged is the newest sequence that a stream had promised when the server
// started, as far as it is known.
func (s *Server) Acknowledged(stream string) uint64 { return s.ledger.promises.before[stream] }

// Damaged says what is wrong with a stream whose files were removed or changed while
// no server ran, or are not all events, "" if nothing is known to be.
func (s *Server) Damaged(stream string) string { return s.ledger.damage[stream] }

// Copied reports that the data folder is a copy of the one that was used last, which
// may be older: what was written after it was made is not in it. It is false where
// the system does not tell.
func (s *Server) Copied() bool { return s.ledger.copied }

// Watch begins to look after a stream, whose newest sequence is last: its files are
// not compared any more with what they were before the start. What it promises from
// now on is to be given to acknowledge before anybody hears of it; that is kept in
// the data folder, beside the stream, without waiting for the disk.
func (s *Server) Watch(stream string, last uint64) (acknowledge func(sequence uint64), err error) {
	p, err := s.ledger.promises.add(stream, last)
	if err != nil {
		return nil, err
	}
	if err := s.ledger.add(stream); err != nil {
		return nil, err
	}
	return func(sequence uint64) {
		p.keep(sequence)
		s.ledger.wrote()
	}, nil
}

// Abandon stops the server of a folder that was closed and leaves what is known of it as
// it was, for one that shall judge it at its next start. It waits as Close does.
func (s *Server) Abandon(ctx context.Context) error {
	if err := s.halt(ctx); err != nil {
		return errors.Join(err, s.ledger.release(), s.lock.release())
	}
	return errors.Join(s.ledger.release(), markClosed(s.cfg.Dir), s.lock.release())
}

// Close stops the server, flushes the data folder and gives it up. It waits for
// the server at most until ctx ends. The folder counts as closed only if the
// server had not failed.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	unsound := s.unsound
	s.mu.Unlock()
	err := s.halt(ctx)
	if err == nil && unsound != nil {
		err = fmt.Errorf("the data folder was not closed cleanly and will be read whole at the next start: the NATS server had failed: %w", unsound)
	}
	if err != nil {
		return errors.Join(err, s.ledger.release(), s.lock.release())
	}
	if err := s.ledger.close(); err != nil {
		// What is there is older and still true.
		s.log.Warn("files that are damaged until the next start will not be noticed", slog.Any("error", err))
	}
	return errors.Join(markClosed(s.cfg.Dir), s.lock.release())
}
