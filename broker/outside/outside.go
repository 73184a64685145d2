// Package outside connects to a NATS server with JetStream that others run, in place
// of the embedded one.
package outside

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
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
	// pingInterval is how often a connection is tested, and after pingsOut tests
	// without an answer it is closed: a network that is cut says nothing.
	pingInterval = 2 * time.Second
	pingsOut     = 3
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
	if err := s.checkFiles(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnfit, err)
	}
	for {
		err := s.check(ctx)
		if err == nil {
			return s, nil
		}
		if errors.Is(err, ErrUnfit) {
			return nil, err
		}
		s.say("waiting for the NATS server", err.Error())
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the NATS server: %w", err)
		}
	}
}

// checkFiles reads the files that connections need, so that what is wrong with them is
// not taken for a server that is not there.
func (s *Server) checkFiles() error {
	if s.cfg.Credentials != "" {
		var o nats.Options
		err := nats.UserCredentials(s.cfg.Credentials)(&o)
		if err == nil {
			_, err = o.UserJWT()
		}
		if err == nil {
			_, err = o.SignatureCB(nil)
		}
		if err != nil {
			return fmt.Errorf("read the credentials in %s: %w", s.cfg.Credentials, err)
		}
	}
	for _, set := range s.tlsOptions() {
		if err := set(new(nats.Options)); err != nil {
			return fmt.Errorf("read the files for TLS: %w", err)
		}
	}
	return nil
}

// check asks for all that is needed later.
func (s *Server) check(ctx context.Context) error {
	nc, err := s.Connect(nats.Name("check"), nats.NoReconnect(), nats.Timeout(waitTimeout))
	if err != nil {
		return refusal(err)
	}
	defer nc.Close()
	if !newEnough(nc.ConnectedServerVersion()) {
		return fmt.Errorf("%w: it is version %s, %d.%d or newer is needed", ErrUnfit, nc.ConnectedServerVersion(), minMajor, minMinor)
	}
	if most := nc.MaxPayload(); most < int64(s.cfg.MinPayload) {
		return fmt.Errorf("%w: a message may have %d bytes there, and an event with its headers here %d: raise its max_payload, or lower event_data_bytes", ErrUnfit, most, s.cfg.MinPayload)
	}
	if err := s.checkPermissions(); err != nil {
		return err
	}
	return s.checkJetStream(ctx, nc)
}

// refusal is why a server was not connected to: ErrUnfit if it is there and will not
// have us, or we will not have it.
func refusal(err error) error {
	var (
		verification *tls.CertificateVerificationError
		remote       *net.OpError
	)
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		return fmt.Errorf("%w: it refuses us, check nats_credentials or the user and password in nats_url: %w", ErrUnfit, err)
	case errors.As(err, &verification):
		return fmt.Errorf("%w: its certificate is not to be trusted, nats_tls_ca names the authority that has signed it: %w", ErrUnfit, err)
	case errors.As(err, &remote) && remote.Op == "remote error": // what crypto/tls calls an alert
		return fmt.Errorf("%w: it refuses our TLS, check nats_tls_cert and nats_tls_key: %w", ErrUnfit, err)
	case errors.Is(err, nats.ErrSecureConnWanted):
		return fmt.Errorf("%w: it speaks no TLS, and nats_url or nats_tls_… want it: %w", ErrUnfit, err)
	}
	return err
}

// checkJetStream asks for the account, over a connection that may do so.
func (s *Server) checkJetStream(ctx context.Context, nc *nats.Conn) error {
	js, err := broker.JetStream(nc, s.cfg.Domain)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	_, err = js.AccountInfo(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled) && s.cfg.Domain != "":
		return fmt.Errorf("%w: it reaches no JetStream of the domain %s, check nats_domain: %w", ErrUnfit, s.cfg.Domain, err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("%w: JetStream is not enabled for us: %w", ErrUnfit, err)
	}
	return fmt.Errorf("ask JetStream: %w", err)
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
		// Who is refused while others mend their server is let in again.
		nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(pingsOut),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				s.say("a connection to the NATS server was lost", err.Error())
			}
		}),
	}
	if s.cfg.Credentials != "" {
		all = append(all, nats.UserCredentials(s.cfg.Credentials))
	}
	all = append(append(all, s.tlsOptions()...), opts...)
	nc, err := nats.Connect(strings.Join(s.cfg.URLs, ","), append(all, s.hearErrors)...)
	if err != nil {
		return nil, fmt.Errorf("connect to the NATS server: %w", err)
	}
	return nc, nil
}

// hearErrors is an option that comes last: what is refused is told of nowhere else, so
// that whoever handles errors in another way does not hide it.
func (s *Server) hearErrors(o *nats.Options) error {
	handle := o.AsyncErrorCB
	o.AsyncErrorCB = func(nc *nats.Conn, sub *nats.Subscription, err error) {
		switch {
		case handle != nil:
			handle(nc, sub, err)
		case !errors.Is(err, nats.ErrPermissionViolation):
			s.say("a connection to the NATS server has an error", err.Error())
		}
		if errors.Is(err, nats.ErrPermissionViolation) && o.Name != permissionsName {
			s.say("the NATS server refuses what its user has to be allowed: events are not stored, or do not arrive", missing(s.cfg.Domain, err))
		}
	}
	return nil
}

func (s *Server) tlsOptions() (opts []nats.Option) {
	if s.cfg.Authority != "" {
		opts = append(opts, nats.RootCAs(s.cfg.Authority))
	}
	if s.cfg.Cert != "" {
		opts = append(opts, nats.ClientCert(s.cfg.Cert, s.cfg.Key))
	}
	if len(opts) > 0 {
		opts = append(opts, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12}))
	}
	return opts
}

// maxSaid bounds what is known to have been said.
const maxSaid = 100

// say logs why something is as the text says, unless the same was logged lately.
func (s *Server) say(text, why string) {
	key, now := text+why, time.Now()
	s.mu.Lock()
	again := now.Sub(s.said[key]) >= sayPeriod
	if again {
		if len(s.said) >= maxSaid {
			clear(s.said)
		}
		s.said[key] = now
	}
	s.mu.Unlock()
	if again {
		s.log.Warn(text, slog.String("error", why)) //nolint:sloglint // the texts are constants
	}
}
