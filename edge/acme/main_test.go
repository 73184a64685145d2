package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"testing"
	"time"

	"go.uber.org/goleak"

	"reecho/broker"
	"reecho/broker/brokertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// patience bounds what a test waits for.
const patience = 60 * time.Second

func mustVault(t testing.TB, b *broker.Broker, names ...string) *vault {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	v, err := openVault(ctx, b, &Config{Domains: names})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mustAlone(t testing.TB, names ...string) *vault {
	t.Helper()
	return mustVault(t, brokertest.Start(t, broker.Config{}), names...)
}

// mustIssue makes a certificate for names that is valid for some time from now on.
func mustIssue(t testing.TB, serial int64, life time.Duration, names ...string) (*issued, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, DNSNames: names,
		NotBefore: time.Now(), NotAfter: time.Now().Add(life),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	made, err := pemOf([][]byte{der}, key)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := made.pair()
	if err != nil {
		t.Fatal(err)
	}
	return made, pair.Leaf
}

// mustPut stores a certificate in the place of the one that is there.
func mustPut(t testing.TB, v *vault, made *issued, leaf *x509.Certificate) {
	t.Helper()
	_, revision, err := v.certificate(t.Context())
	if err == nil {
		err = v.put(t.Context(), made, leaf.NotAfter, revision)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// wait polls until test is true.
func wait(t testing.TB, what string, test func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !test() {
		if broker.Pause(ctx, 10*time.Millisecond) != nil {
			t.Fatalf("gave up waiting for %s", what)
		}
	}
}
