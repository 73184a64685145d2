package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"reecho/broker"
	"reecho/broker/brokertest"
)

// mustKeeper makes one whose authority is never reached.
func mustKeeper(t testing.TB, names ...string) *Keeper {
	t.Helper()
	k, err := New(Config{Domains: names, Directory: "https://127.0.0.1:1/dir"}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

// handshake is what a client gets of a server with cfg.
func handshake(t testing.TB, cfg *tls.Config, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	server := tls.Server(a, cfg)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if server.Handshake() == nil {
			_, _ = server.Read(make([]byte, 1)) // until the client has its tickets
		}
		_ = a.Close()
	}()
	conn := tls.Client(b, client)
	err := conn.Handshake()
	state := conn.ConnectionState()
	_ = b.Close()
	<-done
	return state, err
}

func anyName(name string, protocols ...string) *tls.Config {
	return &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: protocols}
}

func leafOf(t testing.TB, state tls.ConnectionState, err error) *x509.Certificate {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return state.PeerCertificates[0]
}

// A keeper takes what the store has, also what another node puts there while nobody can
// be reached, and shows it whatever it is asked for.
func TestKeeperTakesWhatIsStored(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{})
	k := mustKeeper(t, "a.example.com")
	if _, err := handshake(t, k.TLSConfig(), anyName("a.example.com")); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Fatalf("without a certificate: %v", err)
	}
	k.Start(t.Context(), b, "n1")
	<-k.opened
	v := k.vault
	wait(t, "a failure", func() bool {
		f, err := v.pause(t.Context())
		return err == nil && f.Failures > 0
	})
	made, leaf := mustIssue(t, 7, 90*24*time.Hour, "a.example.com")
	mustPut(t, v, made, leaf)
	wait(t, "the certificate", func() bool { return k.current.Load() != nil })
	for _, name := range []string{"a.example.com", "other.example.com", ""} {
		state, err := handshake(t, k.TLSConfig(), anyName(name, "http/1.1"))
		if got := leafOf(t, state, err); got.SerialNumber.Int64() != 7 {
			t.Errorf("%q: got the certificate %v", name, got.SerialNumber)
		}
	}
}

// With other settings the certificate of before serves until there is a new one, if it has
// one of the names and is valid.
func TestKeeperTakesFormer(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{})
	for serial, names := range map[int64][]string{1: {"b.example.com"}, 2: {"a.example.com"}, 3: {"a.example.com", "b.example.com"}} {
		made, leaf := mustIssue(t, serial, time.Hour, names...)
		mustPut(t, mustVault(t, b, names...), made, leaf)
	}
	k := mustKeeper(t, "b.example.com", "c.example.com", "a.example.com")
	k.Start(t.Context(), b, "n1")
	wait(t, "a certificate", func() bool { return k.current.Load() != nil })
	if got := k.current.Load().Leaf.SerialNumber.Int64(); got != 3 {
		t.Errorf("took the certificate %d, want 3, which has most of the names", got)
	}
	stranger := mustKeeper(t, "c.example.com")
	stranger.Start(t.Context(), b, "n2")
	<-stranger.opened
	v := stranger.vault
	wait(t, "a failure", func() bool {
		f, err := v.pause(t.Context())
		return err == nil && f.Failures > 0
	})
	if c := stranger.current.Load(); c != nil {
		t.Errorf("took the certificate %v of others", c.Leaf.DNSNames)
	}
}

// What is no certificate is none, and is replaced.
func TestKeeperReplacesUnreadable(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{`, `{"chain":"bm8=","key":"bm8="}`} {
		k := mustKeeper(t, "a.example")
		k.use(mustAlone(t, "a.example"))
		revision, err := k.vault.store.Put(t.Context(), certificateKeys+k.vault.order, []byte(text), 0)
		if err != nil {
			t.Fatal(err)
		}
		if wait, err := k.look(t.Context()); wait != 0 || err != nil || k.current.Load() != nil {
			t.Errorf("%s: waits %s with %v: %v", text, wait, k.current.Load(), err)
		}
		have, found, err := k.stored(t.Context())
		if have != nil || found != revision || err != nil {
			t.Errorf("%s: has %v of revision %d, want none of %d: %v", text, have, found, revision, err)
		}
		made, leaf := mustIssue(t, 1, time.Hour, "a.example")
		if err := k.vault.put(t.Context(), made, leaf.NotAfter, found); err != nil {
			t.Fatal(err)
		}
		if _, err := k.look(t.Context()); err != nil || k.current.Load() == nil || !k.current.Load().Leaf.Equal(leaf) {
			t.Errorf("%s: the new one is not in use: %v", text, err)
		}
	}
}

// A certificate is there after a restart, one that has expired is forgotten, and no one
// who does not know it replaces it.
func TestVaultCertificate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	b, stop := brokertest.Open(t, dir, broker.Config{})
	v := mustVault(t, b, "a.example.com")
	if c, revision, err := v.certificate(t.Context()); c != nil || revision != 0 || err != nil {
		t.Fatalf("of an empty store: %v, %d, %v", c, revision, err)
	}
	first, leaf := mustIssue(t, 1, time.Hour, "a.example.com")
	mustPut(t, v, first, leaf)
	second, leaf := mustIssue(t, 2, time.Hour, "a.example.com")
	if err := v.put(t.Context(), second, leaf.NotAfter, 0); !errors.Is(err, broker.ErrConflict) {
		t.Errorf("replaced what it did not know: %v", err)
	}
	a, _, err := v.accountKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := v.setEmail(t.Context(), "admin@example.com"); err != nil {
		t.Fatal(err)
	}
	stop()
	v = mustVault(t, brokertest.StartIn(t, dir, broker.Config{}), "a.example.com")
	if c, _, err := v.certificate(t.Context()); err != nil || c == nil || c.Leaf.SerialNumber.Int64() != 1 {
		t.Errorf("after a restart: %v, %v", c, err)
	}
	again, _, err := v.accountKey(t.Context())
	if err != nil || string(again.Key) != string(a.Key) || again.Email != "admin@example.com" {
		t.Errorf("another account after a restart: %v, %v", again.Email, err)
	}
	short, leaf := mustIssue(t, 3, 2*time.Second, "a.example.com")
	mustPut(t, v, short, leaf)
	wait(t, "the private key to be forgotten", func() bool {
		c, _, err := v.certificate(t.Context())
		return err == nil && c == nil
	})
}

// All nodes make one account.
func TestAccountOfMany(t *testing.T) {
	t.Parallel()
	v := mustAlone(t, "a.example.com")
	keys := make(chan string, 8)
	for range cap(keys) {
		go func() {
			a, _, err := v.accountKey(context.WithoutCancel(t.Context()))
			if err != nil {
				t.Error(err)
			}
			keys <- string(a.Key)
		}()
	}
	seen := map[string]bool{}
	for range cap(keys) {
		seen[<-keys] = true
	}
	if len(seen) != 1 {
		t.Errorf("%d accounts", len(seen))
	}
}

// The authority's handshake gets the answer that another node has stored, and nobody gets
// one for a name that is not of the certificate.
func TestChallengeOverTLS(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{})
	v := mustVault(t, b, "a.example.com")
	k := mustKeeper(t, "a.example.com")
	ask := func(name string, protocols ...string) (tls.ConnectionState, error) {
		return handshake(t, k.TLSConfig(), anyName(name, protocols...))
	}
	// An authority that comes before the store is open waits.
	early := make(chan error, 1)
	go func() {
		_, err := k.find(context.WithoutCancel(t.Context()), "a.example.com")
		early <- err
	}()
	k.use(v)
	if err := <-early; err != nil {
		t.Errorf("before the store was open: %v", err)
	}
	if _, err := ask("a.example.com", acme.ALPNProto); err == nil {
		t.Error("an answer without a challenge")
	}
	made, _ := mustIssue(t, 9, time.Hour, "a.example.com")
	for _, name := range []string{"a.example.com", "b.example.com"} {
		if err := v.setChallenge(t.Context(), name, challenge{Token: "t", Certificate: made}); err != nil {
			t.Fatal(err)
		}
	}
	state, err := ask("A.example.com", acme.ALPNProto)
	if got := leafOf(t, state, err); got.SerialNumber.Int64() != 9 || state.NegotiatedProtocol != acme.ALPNProto {
		t.Errorf("got the certificate %v over %q", got.SerialNumber, state.NegotiatedProtocol)
	}
	if _, err := ask("b.example.com", acme.ALPNProto); err == nil {
		t.Error("an answer for a name of others")
	}
	// A client that offers it beside others is no authority.
	if _, err := ask("a.example.com", acme.ALPNProto, "http/1.1"); err == nil {
		t.Error("an answer to a client")
	}
}

func TestChallengeOverHTTP(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{})
	v := mustVault(t, b, "a.example.com")
	k := mustKeeper(t, "a.example.com")
	k.use(v)
	if err := v.setChallenge(t.Context(), "a.example.com", challenge{Token: "token", Answer: "token.thumb"}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		method, host, path string
		status             int
	}{
		{"GET", "a.example.com", challengePath + "token", 200},
		{"GET", "A.Example.com.:80", challengePath + "token", 200},
		{"GET", "b.example.com", challengePath + "token", 404},
		{"GET", "", challengePath + "token", 404},
		{"GET", "a.example.com", challengePath + "other", 404},
		{"GET", "a.example.com", challengePath, 404},
		{"GET", "a.example.com", "/", 404},
		{"POST", "a.example.com", challengePath + "token", 404},
	} {
		r := httptest.NewRequest(tt.method, "http://x"+tt.path, http.NoBody)
		r.Host = tt.host
		w := httptest.NewRecorder()
		k.serveChallenge(w, r)
		if w.Code != tt.status || tt.status == 200 && w.Body.String() != "token.thumb" {
			t.Errorf("%s %s%s: %d %q, want %d", tt.method, tt.host, tt.path, w.Code, w.Body, tt.status)
		}
	}
}

// What an operator is told fits what went wrong.
func TestAdvice(t *testing.T) {
	t.Parallel()
	k := mustKeeper(t, "a.example.com")
	for says, err := range map[string]error{
		"let port 443 there lead to listen": &acme.AuthorizationError{},
		"set acme_http_listen for HTTP-01":  errNoChallenge,
		"wait: the authority's limits":      refusal(429, "rateLimited", ""),
		"set acme_eab_key_id":               refusal(403, "externalAccountRequired", ""),
		"change what the authority says":    refusal(400, "rejectedIdentifier", ""),
		"whether acme_directory is right":   errors.New("connection refused"),
	} {
		if got := k.advice(err); !strings.Contains(got, says) {
			t.Errorf("%v: got %q, want %q", err, got, says)
		}
	}
}
