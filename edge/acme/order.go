package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/acme"
)

const (
	// orderTimeout bounds an order, from the directory to the certificate.
	orderTimeout = 5 * time.Minute
	// requestTimeout bounds one request to the authority.
	requestTimeout = 30 * time.Second
	// requestTries are those of a request that the authority could not answer, a second
	// apart; then the order has failed.
	requestTries = 3
)

// errNoChallenge: the authority offers no challenge that can be answered here.
var errNoChallenge = errors.New("the authority offers no challenge of this kind")

// order is one order at the authority.
type order struct {
	keeper *Keeper
	vault  *vault
	client *acme.Client
}

// run orders a certificate for all names, and returns it with its chain.
func (o *order) run(ctx context.Context) (*issued, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	if err := o.register(ctx); err != nil {
		return nil, fmt.Errorf("register an account: %w", err)
	}
	placed, err := o.client.AuthorizeOrder(ctx, acme.DomainIDs(o.keeper.names...))
	if err != nil {
		return nil, fmt.Errorf("order a certificate: %w", err)
	}
	if err := o.authorize(ctx, placed.AuthzURLs); err != nil {
		return nil, err
	}
	if placed, err = o.client.WaitOrder(ctx, placed.URI); err != nil {
		return nil, fmt.Errorf("wait for the order: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the certificate's key: %w", err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: o.keeper.names}, key)
	if err != nil {
		return nil, fmt.Errorf("request the certificate: %w", err)
	}
	chain, _, err := o.client.CreateCertFromOrder(ctx, placed, request, true)
	if err != nil {
		return nil, fmt.Errorf("request the certificate: %w", err)
	}
	made, err := pemOf(chain, key)
	if err != nil {
		return nil, err
	}
	return made, o.check(made)
}

// check refuses a certificate that is not what was ordered.
func (o *order) check(made *issued) error {
	pair, err := made.pair()
	if err != nil {
		return fmt.Errorf("the authority's certificate: %w", err)
	}
	for _, name := range o.keeper.names {
		if err := pair.Leaf.VerifyHostname(name); err != nil {
			return fmt.Errorf("the authority's certificate: %w", err)
		}
	}
	return nil
}

// register makes the account, or finds it: the authority knows it by its key.
func (o *order) register(ctx context.Context) error {
	a, key, err := o.vault.accountKey(ctx)
	if err != nil {
		return err
	}
	cfg := &o.keeper.cfg
	o.client = &acme.Client{
		Key: key, DirectoryURL: cfg.directory(), UserAgent: "reecho", RetryBackoff: backoff, HTTPClient: o.keeper.client,
	}
	want := &acme.Account{}
	if cfg.Email != "" {
		want.Contact = []string{"mailto:" + cfg.Email}
	}
	if cfg.BindingID != "" {
		mac, err := cfg.bindingKey()
		if err != nil {
			return fmt.Errorf("read acme_eab_key: %w", err)
		}
		want.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: cfg.BindingID, Key: mac}
	}
	_, err = o.client.Register(ctx, want, acme.AcceptTOS)
	if errors.Is(err, acme.ErrAccountAlreadyExists) {
		if a.Email == cfg.Email || cfg.Email == "" {
			return nil
		}
		_, err = o.client.UpdateReg(ctx, want)
	}
	if err != nil || a.Email == cfg.Email {
		return err //nolint:wrapcheck // run says what it is about
	}
	return o.vault.setEmail(ctx, cfg.Email)
}

// backoff implements acme.Client's: what the authority is too busy for is tried again soon,
// what it refuses for its rate is not.
func backoff(n int, _ *http.Request, answer *http.Response) time.Duration {
	if n >= requestTries || answer != nil && answer.StatusCode == http.StatusTooManyRequests {
		return -1
	}
	return time.Second
}

// authorize has the authority validate all names, at once.
func (o *order) authorize(ctx context.Context, urls []string) error {
	var waiting []*acme.Authorization
	for _, url := range urls {
		authorization, err := o.client.GetAuthorization(ctx, url)
		if err != nil {
			return fmt.Errorf("ask for a challenge: %w", err)
		}
		if authorization.Status != acme.StatusPending {
			continue // it was validated a short time ago
		}
		if err := o.answer(ctx, authorization); err != nil {
			return fmt.Errorf("answer the challenge for %s: %w", authorization.Identifier.Value, err)
		}
		waiting = append(waiting, authorization)
	}
	for _, authorization := range waiting {
		if _, err := o.client.WaitAuthorization(ctx, authorization.URI); err != nil {
			return fmt.Errorf("have %s validated: %w", authorization.Identifier.Value, err)
		}
	}
	return nil
}

// answer stores the answer to an authority's challenge where all nodes have it, and then
// has the authority ask.
func (o *order) answer(ctx context.Context, authorization *acme.Authorization) error {
	name, kind := strings.ToLower(authorization.Identifier.Value), o.keeper.kind()
	i := slices.IndexFunc(authorization.Challenges, func(c *acme.Challenge) bool { return c.Type == kind })
	if i < 0 {
		return fmt.Errorf("%w: %s", errNoChallenge, kind)
	}
	asked := authorization.Challenges[i]
	made := challenge{Token: asked.Token}
	var err error
	if kind == kindHTTP {
		made.Answer, err = o.client.HTTP01ChallengeResponse(asked.Token)
	} else {
		made.Certificate, err = o.challengeCertificate(asked.Token, name)
	}
	if err != nil {
		return err //nolint:wrapcheck // authorize says what it is about
	}
	if err := o.vault.setChallenge(ctx, name, made); err != nil {
		return err
	}
	_, err = o.client.Accept(ctx, asked)
	return err //nolint:wrapcheck // the same
}

func (o *order) challengeCertificate(token, name string) (*issued, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	var pair tls.Certificate
	if pair, err = o.client.TLSALPN01ChallengeCert(token, name, acme.WithKey(key)); err != nil {
		return nil, err //nolint:wrapcheck // authorize says what it is about
	}
	return pemOf(pair.Certificate, key)
}
