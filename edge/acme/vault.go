package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"reecho/broker"
)

// StoreName is that of the store with everything here, private keys too.
const StoreName = "acme"

// storeBytes bounds the store: a certificate with its key is about 5 KB, the challenge of
// a name 1 KB.
const storeBytes = 16 << 20

// vault is the store. Its keys are what a value is and what it is about: the directory,
// the directory with all names, or one name. So nodes with other settings, as there are
// for a while when settings change, do not order against each other.
type vault struct {
	store   *broker.Store
	account string // ends the key of what is of the directory
	order   string // ends the keys of what is of the directory and all names
}

func openVault(ctx context.Context, b *broker.Broker, cfg *Config) (*vault, error) {
	store, err := b.OpenStore(ctx, broker.StoreConfig{Name: StoreName, MaxBytes: storeBytes, Expiring: true})
	if err != nil {
		return nil, err
	}
	return newVault(store, cfg), nil
}

func newVault(store *broker.Store, cfg *Config) *vault {
	names := cfg.domains()
	slices.Sort(names)
	return &vault{store: store, account: digest(cfg.directory(), cfg.BindingID), order: digest(append(names, cfg.directory())...)}
}

func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:12])
}

const (
	accountKeys     = "account-"
	certificateKeys = "certificate-"
	leaseKeys       = "lease-"
	pauseKeys       = "pause-"
	challengeKeys   = "challenge-"
)

// errUnreadable: a value of the store is not what is stored here. It comes with the
// value's revision, so that it can be replaced.
var errUnreadable = errors.New("[unexpected] a value of the store " + StoreName + " cannot be read")

// read reads a value into what into points to, and returns its revision, 0 if there is
// none.
func (v *vault) read(ctx context.Context, key string, into any) (revision uint64, err error) {
	have, err := v.store.Get(ctx, key)
	if err != nil || have.Revision == 0 {
		return 0, err
	}
	if err := json.Unmarshal(have.Text, into); err != nil {
		return have.Revision, fmt.Errorf("%w: %s: %w", errUnreadable, key, err)
	}
	return have.Revision, nil
}

// write puts a value in the place of that with a revision, see broker.Store.PutFor.
func (v *vault) write(ctx context.Context, key string, value any, expected uint64, keep time.Duration) (uint64, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return 0, fmt.Errorf("[unexpected] write %s: %w", key, err)
	}
	if keep > 0 {
		keep = max(keep, time.Second)
	}
	return v.store.PutFor(ctx, key, text, expected, keep)
}

// account is the one that the nodes have with an authority.
type account struct {
	Key   []byte `json:"key"` // PKCS #8
	Email string `json:"email,omitempty"`
}

// accountKey is the account's private key. The first who asks makes it.
func (v *vault) accountKey(ctx context.Context) (a account, key *ecdsa.PrivateKey, err error) {
	for {
		revision, err := v.read(ctx, accountKeys+v.account, &a)
		if err != nil {
			return a, nil, fmt.Errorf("read the ACME account: %w", err)
		}
		if revision > 0 {
			break
		}
		if a, err = newAccount(); err != nil {
			return a, nil, err
		}
		// Somebody else's counts if it was faster.
		if _, err = v.write(ctx, accountKeys+v.account, a, 0, 0); err != nil && !errors.Is(err, broker.ErrConflict) {
			return a, nil, fmt.Errorf("store the ACME account: %w", err)
		}
	}
	parsed, err := x509.ParsePKCS8PrivateKey(a.Key)
	key, isECDSA := parsed.(*ecdsa.PrivateKey)
	if err != nil || !isECDSA {
		return a, nil, fmt.Errorf("[unexpected] read the key of the ACME account: %w", err)
	}
	return a, key, nil
}

// setEmail remembers what the authority was told.
func (v *vault) setEmail(ctx context.Context, email string) error {
	var a account
	revision, err := v.read(ctx, accountKeys+v.account, &a)
	if err == nil && revision > 0 {
		a.Email = email
		_, err = v.write(ctx, accountKeys+v.account, a, revision, 0)
	}
	if err != nil {
		return fmt.Errorf("store the ACME account: %w", err)
	}
	return nil
}

func newAccount() (account, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return account{}, fmt.Errorf("make the key of the ACME account: %w", err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return account{}, fmt.Errorf("make the key of the ACME account: %w", err)
	}
	return account{Key: text}, nil
}

// issued is a certificate as it is stored.
type issued struct {
	Chain []byte `json:"chain"` // PEM
	Key   []byte `json:"key"`   // PEM
}

// pair is what TLS needs of it; its Leaf is there.
func (i *issued) pair() (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(i.Chain, i.Key)
	if err != nil {
		return nil, fmt.Errorf("read a certificate of the store: %w", err)
	}
	return &pair, nil
}

// certificate is the newest one for the names, nil if there is none, and its revision.
func (v *vault) certificate(ctx context.Context) (*tls.Certificate, uint64, error) {
	var have issued
	revision, err := v.read(ctx, certificateKeys+v.order, &have)
	if err != nil || revision == 0 {
		return nil, revision, err
	}
	pair, err := have.pair()
	if err != nil {
		return nil, revision, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return pair, revision, nil
}

// other is a certificate for other names, or of another authority, that is good for at
// least one of names: it was used before the settings changed. nil: there is none.
func (v *vault) other(ctx context.Context, names []string) (*tls.Certificate, error) {
	keys, err := v.store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	var best *tls.Certificate
	covered := 0
	for _, key := range keys {
		if !strings.HasPrefix(key, certificateKeys) {
			continue
		}
		var have issued
		if _, err := v.read(ctx, key, &have); err != nil && !errors.Is(err, errUnreadable) {
			return nil, err
		}
		pair, err := have.pair()
		if err != nil {
			continue
		}
		n := 0
		for _, name := range names {
			if pair.Leaf.VerifyHostname(name) == nil {
				n++
			}
		}
		if n > covered && time.Now().Before(pair.Leaf.NotAfter) {
			best, covered = pair, n
		}
	}
	return best, nil
}

// put stores a certificate in the place of that with a revision. It is forgotten, with
// its private key, when it has expired.
func (v *vault) put(ctx context.Context, made *issued, expires time.Time, expected uint64) error {
	_, err := v.write(ctx, certificateKeys+v.order, made, expected, time.Until(expires).Truncate(time.Second))
	if err != nil {
		return fmt.Errorf("store the certificate: %w", err)
	}
	return nil
}

// failing is what the nodes remember of tries that failed, so that no restart, and no
// other node, tries again too soon.
type failing struct {
	// Failures are those in a row of one kind.
	Failures int       `json:"failures"`
	Refused  bool      `json:"refused"` // else the authority was not reached
	Until    time.Time `json:"until"`
}

// forgetFailures is how long after the end of its pause a failure is forgotten.
const forgetFailures = 24 * time.Hour

func (v *vault) pause(ctx context.Context) (f failing, err error) {
	if _, err = v.read(ctx, pauseKeys+v.order, &f); err != nil {
		return f, fmt.Errorf("read when to order again: %w", err)
	}
	return f, nil
}

func (v *vault) setPause(ctx context.Context, f failing) error {
	keep := time.Second
	if f.Failures > 0 {
		keep = time.Until(f.Until).Truncate(time.Second) + forgetFailures
	}
	if _, err := v.write(ctx, pauseKeys+v.order, f, broker.AnyRevision, keep); err != nil {
		return fmt.Errorf("store when to order again: %w", err)
	}
	return nil
}

// challenge is the answer to one of the authority's about a name.
type challenge struct {
	// Token and Answer are those of HTTP-01.
	Token  string `json:"token,omitempty"`
	Answer string `json:"answer,omitempty"`
	// Certificate is that of TLS-ALPN-01.
	Certificate *issued `json:"certificate,omitempty"`
}

func (v *vault) challenge(ctx context.Context, name string) (c challenge, err error) {
	_, err = v.read(ctx, challengeKeys+name, &c)
	return c, err
}

func (v *vault) setChallenge(ctx context.Context, name string, c challenge) error {
	if _, err := v.write(ctx, challengeKeys+name, c, broker.AnyRevision, orderTimeout); err != nil {
		return fmt.Errorf("store the answer to a challenge for %s: %w", name, err)
	}
	return nil
}

// pemOf encodes a certificate chain and its key.
func pemOf(chain [][]byte, key *ecdsa.PrivateKey) (*issued, error) {
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the certificate's key: %w", err)
	}
	made := &issued{Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})}
	for _, der := range chain {
		made.Chain = append(made.Chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return made, nil
}
