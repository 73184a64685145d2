package acme

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"

	"reecho/broker"
)

const (
	// heldPause is how long is waited for the node that orders until it is looked again.
	heldPause = 2 * time.Second
	// lookPause is the same while a pause after a failure lasts, which another node may
	// have been told to end.
	lookPause = 10 * time.Second
	// longPause bounds all pauses: timers do not count the time for which a machine sleeps.
	longPause = time.Hour
	// storeTimeout bounds each use of the store; storePause is until the next.
	storeTimeout = 10 * time.Second
	storePause   = 5 * time.Second
)

// ErrNoCertificate is the error of TLS handshakes while there is no certificate yet.
var ErrNoCertificate = errors.New("there is no TLS certificate yet: the ACME authority has not issued it")

// Keeper has the certificate: it takes it from the store, orders it if no other node does,
// and renews it. It is safe for concurrent use; a nil Keeper keeps nothing.
type Keeper struct {
	cfg    Config
	names  []string
	client *http.Client
	log    *slog.Logger
	stop   context.CancelFunc // nil until Start
	http   *http.Server       // nil without a port for HTTP-01
	tasks  sync.WaitGroup
	hurry  chan struct{} // never closed; has one that waits for run

	current atomic.Pointer[tls.Certificate]
	answers map[string]*reading // by name
	vault   *vault              // set before opened is closed
	opened  chan struct{}       // closed by run's goroutine when the store is open

	// Owned by run.
	node    string    // and this life of it
	due     time.Time // when the certificate is renewed; zero: there is none for all names
	forced  bool      // no pause counts now
	unread  bool      // the store could not be used, which has been said
	waiting bool      // another node orders, which has been said
	without bool      // there was nothing in the store, which has been said
}

// New makes a Keeper for a cfg with Domains. Start starts it.
func New(cfg Config, log *slog.Logger) (*Keeper, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	roots, err := cfg.roots()
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // net/http says so
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	k := &Keeper{
		cfg: cfg, names: cfg.domains(), log: log, hurry: make(chan struct{}, 1),
		answers: make(map[string]*reading), opened: make(chan struct{}),
		client: &http.Client{Transport: transport, Timeout: requestTimeout},
	}
	for _, name := range k.names {
		k.answers[name] = &reading{}
	}
	return k, nil
}

// Start begins to keep the certificate in a store of b, which must outlive the Keeper, as
// the node with a name. Close ends it.
func (k *Keeper) Start(ctx context.Context, b *broker.Broker, node string) {
	if k == nil {
		return
	}
	ctx, k.stop = context.WithCancel(context.WithoutCancel(ctx))
	k.node = node + " " + rand.Text()[:8]
	k.tasks.Go(func() {
		if k.open(ctx, b) {
			k.run(ctx)
		}
	})
}

// Close stops everything. An order that is under way is left to another node.
func (k *Keeper) Close() {
	if k == nil {
		return
	}
	if k.stop != nil {
		k.stop()
	}
	if k.http != nil {
		_ = k.http.Close()
	}
	k.tasks.Wait()
	k.client.CloseIdleConnections()
}

// Retry orders at once if a certificate is due, whatever failed before.
func (k *Keeper) Retry() {
	select {
	case k.hurry <- struct{}{}:
	default: // it is about to
	}
}

// open opens the store. false: ctx has ended.
func (k *Keeper) open(ctx context.Context, b *broker.Broker) bool {
	for ctx.Err() == nil {
		opening, cancel := context.WithTimeout(ctx, storeTimeout)
		v, err := openVault(opening, b, &k.cfg)
		cancel()
		if err == nil {
			k.use(v)
			return true
		}
		k.complain(ctx, fmt.Errorf("%w (a server without storage waits for one with storage that has acme_domains, too)", err))
		_ = broker.Pause(ctx, storePause)
	}
	return false
}

// use is called once, with the open store.
func (k *Keeper) use(v *vault) {
	k.vault = v
	close(k.opened)
}

func (k *Keeper) run(ctx context.Context) {
	for ctx.Err() == nil {
		wait, err := k.step(ctx)
		if err != nil {
			k.complain(ctx, err)
			wait = storePause
		} else {
			k.unread, k.forced = false, false
		}
		timer := time.NewTimer(min(wait, longPause))
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-k.hurry:
			k.log.Info("looking for a new TLS certificate, if one is due", slog.Time("due", k.due))
			k.forced = true
		}
		timer.Stop()
	}
}

// complain says once that the store cannot be used.
func (k *Keeper) complain(ctx context.Context, err error) {
	if ctx.Err() == nil && !k.unread {
		k.unread = true
		k.log.Warn("cannot use the store of the TLS certificate: the one in memory goes on, if there is one", errorAttr(err))
	}
}

// step does what is due and returns how long there is nothing more to do. The error is
// about the store.
func (k *Keeper) step(ctx context.Context) (wait time.Duration, err error) {
	if wait = time.Until(k.due); wait > 0 {
		return wait, nil
	}
	if wait, err = k.look(ctx); err != nil || wait > 0 {
		return wait, err
	}
	v := k.vault
	asking, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	l, err := v.take(asking, k.node)
	if errors.Is(err, errHeld) {
		if !k.waiting {
			k.waiting = true
			k.log.Info("another server of the cluster orders the TLS certificate")
		}
		return heldPause/2 + mathrand.N(heldPause), nil //nolint:gosec // jitter
	}
	if err != nil {
		return 0, err
	}
	held, stop := l.hold(ctx)
	// Whoever had the lease before may have been done in this moment.
	if wait, err = k.look(held); err == nil && wait == 0 {
		err = k.order(ctx, held, v)
	}
	stop()
	l.release(ctx)
	return wait, err
}

// look takes the certificate of the store, if that is another one, and returns how long
// nothing has to be ordered.
func (k *Keeper) look(ctx context.Context) (wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	v := k.vault
	have, _, err := k.stored(ctx)
	if err != nil {
		return 0, err
	}
	if have != nil {
		k.adopt(have)
	} else if k.current.Load() == nil && !k.without {
		if err := k.adoptOther(ctx, v); err != nil {
			return 0, err
		}
	}
	if wait = time.Until(k.due); wait > 0 {
		return wait, nil
	}
	if k.forced {
		return 0, nil
	}
	f, err := v.pause(ctx)
	if err != nil {
		return 0, err
	}
	return min(max(time.Until(f.Until), 0), lookPause), nil
}

// stored is the certificate of the store, nil if there is none, and its revision. One that
// cannot be read is none: what is ordered takes its place.
func (k *Keeper) stored(ctx context.Context) (*tls.Certificate, uint64, error) {
	have, revision, err := k.vault.certificate(ctx)
	if errors.Is(err, errUnreadable) {
		k.log.Error("the TLS certificate of the store is left aside", errorAttr(err))
		return nil, revision, nil
	}
	return have, revision, err
}

// adopt uses a certificate that is for all names from now on.
func (k *Keeper) adopt(fresh *tls.Certificate) {
	now := k.current.Load()
	if now != nil && now.Leaf.Equal(fresh.Leaf) && !k.due.IsZero() {
		return
	}
	k.current.Store(fresh)
	k.due, k.waiting = renewal(fresh.Leaf), false
	k.log.Info("the TLS certificate is in use", leafAttr(fresh.Leaf), slog.Time("renewed", k.due))
}

// adoptOther uses what was used before the settings changed, until there is one that is
// for all names.
func (k *Keeper) adoptOther(ctx context.Context, v *vault) error {
	other, err := v.other(ctx, k.names)
	if err != nil {
		return err
	}
	k.without = true
	if other == nil {
		k.log.Warn("there is no TLS certificate yet: TLS handshakes fail until the ACME authority has issued one",
			slog.Any("names", k.names), slog.String("directory", k.cfg.directory()))
		return nil
	}
	k.current.Store(other)
	k.log.Info("the TLS certificate of former settings is in use until there is the new one", leafAttr(other.Leaf))
	return nil
}

// order orders a certificate while held lasts, stores it and uses it. The error is about
// the store: what the authority does not do is logged, and tried again after a pause.
func (k *Keeper) order(ctx, held context.Context, v *vault) error {
	k.log.Info("ordering a TLS certificate", slog.Any("names", k.names), slog.String("directory", k.cfg.directory()), slog.String("challenge", k.kind()))
	_, revision, err := k.stored(held)
	if err != nil {
		return err
	}
	o := &order{keeper: k, vault: v}
	made, err := o.run(held)
	if err != nil {
		return k.failed(held, v, err)
	}
	fresh, err := made.pair()
	if err != nil {
		return err
	}
	// It counts against the authority's limits, so it is not given up when the store, and
	// with it the lease, is away for a while.
	storing, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	err = v.put(storing, made, fresh.Leaf.NotAfter, revision)
	if errors.Is(err, broker.ErrConflict) {
		return nil // another node has a newer one, which is taken next
	}
	k.adopt(fresh)
	if err != nil {
		return err
	}
	return v.setPause(storing, failing{})
}

// failed says why an order failed, and when it is tried again.
func (k *Keeper) failed(ctx context.Context, v *vault, err error) error {
	if ctx.Err() != nil {
		// Not the authority's fault. A node that stops leaves it to others.
		if cause := context.Cause(ctx); errors.Is(cause, errLeaseLost) {
			return cause
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	before, unread := v.pause(ctx)
	if unread != nil {
		return errors.Join(err, unread)
	}
	f := before.next(err, time.Now())
	attrs := []any{errorAttr(err), slog.String("do", k.advice(err)), slog.Int("failures", f.Failures), slog.Time("again", f.Until)}
	if c := k.current.Load(); c != nil {
		attrs = append(attrs, slog.Time("expires", c.Leaf.NotAfter))
	}
	k.log.Error("the ACME authority has not issued a TLS certificate: the old one goes on, if there is one", attrs...)
	return v.setPause(ctx, f)
}

// advice is what an operator can do about an error.
func (k *Keeper) advice(err error) string {
	var problem *acme.Error
	var authorization *acme.AuthorizationError
	var order *acme.OrderError
	switch {
	case errors.As(err, &authorization), errors.As(err, &order):
		port, setting := "443", "listen"
		if k.cfg.HTTPListen != "" {
			port, setting = "80", "acme_http_listen"
		}
		return "let the name's addresses in DNS be those of this server or its balancer, and let port " + port + " there lead to " + setting + " unchanged; then SIGHUP tries at once"
	case errors.Is(err, errNoChallenge):
		return "set acme_http_listen for HTTP-01, or leave it empty for TLS-ALPN-01"
	case errors.As(err, &problem) && strings.HasSuffix(problem.ProblemType, ":rateLimited"):
		return "wait: the authority's limits count all orders for these names"
	case errors.As(err, &problem) && strings.HasSuffix(problem.ProblemType, ":externalAccountRequired"):
		return "ask the authority for a key, and set acme_eab_key_id and acme_eab_key"
	case isRefusal(err):
		return "change what the authority says; then SIGHUP tries at once"
	}
	return "look whether acme_directory is right and can be reached from here, and whether acme_ca has its root certificate"
}

func errorAttr(err error) slog.Attr { return slog.Any("error", err) }

func leafAttr(leaf *x509.Certificate) slog.Attr {
	return slog.Group("certificate", slog.Any("names", leaf.DNSNames), slog.String("issuer", leaf.Issuer.CommonName),
		slog.String("serial", leaf.SerialNumber.Text(16)), slog.Time("expires", leaf.NotAfter))
}
