// Package outside connects to a NATS server with JetStream that others run, in place
// of the embedded one.
package outside

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"reecho/broker"
)

// Config says where the server is and who we are to it. URLs is needed.
type Config struct {
	// URLs are of one server or of several of its cluster, nats://HOST:PORT or
	// tls://HOST:PORT, with user and password if they are so.
	URLs []string
	// Credentials is a file with a JWT and its key, "" for none.
	Credentials string
	// Authority, Cert and Key are files (PEM) for TLS: who signed the server's
	// certificate, if that is not known to the system, and what to show; "" for none.
	Authority, Cert, Key string
	// Domain is JetStream's, "" for that of the server.
	Domain string
	// MinPayload is how large a message has to be possible, in bytes.
	MinPayload int
}

// The oldest server that has what is needed.
const (
	minMajor = 2
	minMinor = 11
)

const (
	// waitTimeout bounds one try to reach the server.
	waitTimeout = 5 * time.Second
	// reconnectWait is about the pause between two tries after a connection was lost.
	reconnectWait = 250 * time.Millisecond
	// sayPeriod is how often it is said that the server cannot be reached, or has
	// refused something.
	sayPeriod = 10 * time.Second
)

// ErrUnfit is the error of a server that can be reached and does not do.
var ErrUnfit = errors.New("the NATS server does not do")

// Server is a NATS server of others. It is safe for concurrent use.
type Server struct {
	cfg Config
	log *slog.Logger

	mu   sync.Mutex
	said map[string]time.Time
}

// Open waits until the server answers, for as long as ctx lets it, and checks that it
// does. The error is ErrUnfit if waiting is of no use.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Server, error) {
	if len(cfg.URLs) == 0 {
		return nil, fmt.Errorf("%w: it has no address", ErrUnfit)
	}
	s := &Server{cfg: cfg, log: log, said: make(map[string]time.Time)}
	for {
		err := s.check(ctx)
		if err == nil {
			return s, nil
		}
		if errors.Is(err, ErrUnfit) {
			return nil, err
		}
		s.say("waiting for the NATS server", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the NATS server: %w", err)
		}
	}
}

// check asks for all that is needed later.
func (s *Server) check(ctx context.Context) error {
	nc, err := s.Connect(nats.Name("check"), nats.MaxReconnects(0), nats.Timeout(waitTimeout))
	switch {
	case errors.Is(err, nats.ErrAuthorization):
		return fmt.Errorf("%w: it refuses us: %w", ErrUnfit, err)
	case err != nil:
		return err
	}
	defer nc.Close()
	if !newEnough(nc.ConnectedServerVersion()) {
		return fmt.Errorf("%w: it is version %s, %d.%d or newer is needed", ErrUnfit, nc.ConnectedServerVersion(), minMajor, minMinor)
	}
	if most := nc.MaxPayload(); most < int64(s.cfg.MinPayload) {
		return fmt.Errorf("%w: a message may have %d bytes there, and an event with its headers here %d: raise its max_payload, or lower event_data_bytes", ErrUnfit, most, s.cfg.MinPayload)
	}
	js, err := broker.JetStream(nc, s.cfg.Domain)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	_, err = js.AccountInfo(ctx)
	if errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
		return fmt.Errorf("%w: JetStream is not enabled for us: %w", ErrUnfit, err)
	}
	// Who may not ask for the account may do all that is needed.
	if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrPermissionViolation) {
		return fmt.Errorf("ask JetStream: %w", err)
	}
	return nil
}

// newEnough reads a version like 2.11.3 or 2.12.0-beta.1.
func newEnough(version string) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	major, err := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return errors.Join(err, err2) == nil && (major > minMajor || major == minMajor && minor >= minMinor)
}

// Connect opens a connection, which comes back by itself when it was lost. What is
// sent meanwhile is refused and not kept for later.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	all := []nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectBufSize(-1), nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectWait, reconnectWait),
		// A permission that is missing is told of here alone.
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			s.say("the NATS server has refused something", err)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				s.say("a connection to the NATS server was lost", err)
			}
		}),
	}
	if s.cfg.Credentials != "" {
		all = append(all, nats.UserCredentials(s.cfg.Credentials))
	}
	if s.cfg.Authority != "" {
		all = append(all, nats.RootCAs(s.cfg.Authority))
	}
	if s.cfg.Cert != "" {
		all = append(all, nats.ClientCert(s.cfg.Cert, s.cfg.Key))
	}
	if s.cfg.Authority != "" || s.cfg.Cert != "" {
		all = append(all, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12}))
	}
	nc, err := nats.Connect(strings.Join(s.cfg.URLs, ","), append(all, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to the NATS server: %w", err)
	}
	return nc, nil
}

// say logs an error, unless the same was logged lately.
func (s *Server) say(text string, err error) {
	key, now := text+err.Error(), time.Now()
	s.mu.Lock()
	last := s.said[key]
	again := now.Sub(last) >= sayPeriod
	if again {
		clear(s.said)
		s.said[key] = now
	}
	s.mu.Unlock()
	if again {
		s.log.Warn(text, slog.Any("error", err)) //nolint:sloglint // the texts are constants
	}
}
