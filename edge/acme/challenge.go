package acme

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/net/netutil"
)

// Kinds of challenges (RFC 8555 §8.3, RFC 8737).
const (
	kindHTTP = "http-01"
	kindTLS  = "tls-alpn-01"
)

const (
	// challengePath begins the paths of HTTP-01.
	challengePath = "/.well-known/acme-challenge/"
	// challengeTimeout bounds looking for the answer, and the whole of a request on the
	// port for them.
	challengeTimeout = 5 * time.Second
	// challengeConnections are those of that port at once.
	challengeConnections = 256
	challengeHeaderBytes = 8 << 10
)

var errNotAsked = errors.New("no authority asks for this name now")

// reading is what was read of the store for a name. Anybody may ask, so the store is read
// once at a time for each name of the certificate, and for no other.
type reading struct {
	mu    sync.Mutex
	began time.Time
	have  challenge
	err   error
}

// find is the answer for a name, read from the store after the call. It waits for the
// store: an authority may ask a node that is about to start.
func (k *Keeper) find(ctx context.Context, name string) (challenge, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	r := k.answers[name]
	if r == nil {
		return challenge{}, errNotAsked
	}
	// Others may wait for what is read here, whoever goes away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), challengeTimeout)
	defer cancel()
	select {
	case <-k.opened:
	case <-ctx.Done():
		return challenge{}, fmt.Errorf("wait for the store: %w", ctx.Err())
	}
	asked := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.began.Before(asked) {
		r.began = time.Now()
		r.have, r.err = k.vault.challenge(ctx, name)
	}
	return r.have, r.err
}

func (k *Keeper) kind() string {
	if k.cfg.HTTPListen != "" {
		return kindHTTP
	}
	return kindTLS
}

// TLSConfig returns a server's configuration with the certificate, whatever name it is
// asked for, as with a certificate from a file; handshakes fail while there is none.
// Handshakes of an authority get the answer to its challenge.
func (k *Keeper) TLSConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: k.getCertificate, GetConfigForClient: k.configFor}
}

func (k *Keeper) getCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := k.current.Load(); c != nil {
		return c, nil
	}
	return nil, ErrNoCertificate
}

// configFor is for the handshakes of an authority alone: it offers nothing but their
// protocol (RFC 8737 §3).
func (k *Keeper) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != acme.ALPNProto {
		return nil, nil //nolint:nilnil // tls.Config has it so
	}
	c, err := k.find(hello.Context(), hello.ServerName)
	if err != nil {
		return nil, err
	}
	if c.Certificate == nil {
		return nil, errNotAsked
	}
	pair, err := c.Certificate.pair()
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{acme.ALPNProto}, Certificates: []tls.Certificate{*pair}}, nil
}

// Listen opens the port for challenges of the kind HTTP-01, if there is one.
func (k *Keeper) Listen(ctx context.Context) error {
	if k == nil || k.cfg.HTTPListen == "" {
		return nil
	}
	var listening net.ListenConfig
	listener, err := listening.Listen(ctx, "tcp", k.cfg.HTTPListen)
	if err != nil {
		return fmt.Errorf("listen on acme_http_listen: %w", err)
	}
	k.http = &http.Server{
		Handler: http.HandlerFunc(k.serveChallenge), MaxHeaderBytes: challengeHeaderBytes,
		ReadTimeout: challengeTimeout, WriteTimeout: 2 * challengeTimeout, IdleTimeout: challengeTimeout,
	}
	k.tasks.Go(func() {
		if err := k.http.Serve(netutil.LimitListener(listener, challengeConnections)); !errors.Is(err, http.ErrServerClosed) {
			k.log.Error("the port for challenges of the ACME authority ended: no certificate can be renewed until a restart", errorAttr(err))
		}
	})
	return nil
}

// serveChallenge answers challenges of the kind HTTP-01, and nothing else.
func (k *Keeper) serveChallenge(w http.ResponseWriter, r *http.Request) {
	token, asks := strings.CutPrefix(r.URL.Path, challengePath)
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if !asks || token == "" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "this port answers challenges of an ACME authority, nothing else", http.StatusNotFound)
		return
	}
	c, err := k.find(r.Context(), host)
	switch {
	case err != nil && !errors.Is(err, errNotAsked):
		http.Error(w, "the answer cannot be read now", http.StatusServiceUnavailable)
	case err != nil || c.Answer == "" || c.Token != token:
		http.Error(w, "no authority asks this now", http.StatusNotFound)
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = io.WriteString(w, c.Answer)
	}
}
