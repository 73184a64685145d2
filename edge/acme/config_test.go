package acme

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDomain(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"ws.example.com": "ws.example.com", "WS.Example.com.": "ws.example.com", "bücher.example": "xn--bcher-kva.example",
		"localhost": "localhost", "xn--bcher-kva.example": "xn--bcher-kva.example",
	} {
		if got, err := Domain(name); got != want || err != nil {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, want)
		}
	}
	for name, says := range map[string]string{
		"*.example.com": "wildcard", "192.0.2.1": "an address", "[2001:db8::1]": "an address", "https://example.com": "no name", "example.com:443": "no name",
		"a b.example": "no name", "": "no name", ".": "no name", "a..example.com": "no name", strings.Repeat("a", 64) + ".example": "no name",
		strings.Repeat("a.", 150) + "example": "no name", "a/b": "no name", "-a.example": "no name",
	} {
		if got, err := Domain(name); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %s, %v, want a word on %q", name, got, err, says)
		}
	}
}

func FuzzDomain(f *testing.F) {
	for _, s := range []string{"a.example.com", "*.a", "BÜCHER.example.", "::1", "a..b", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		ascii, err := Domain(name)
		if err != nil {
			return
		}
		if again, err := Domain(ascii); again != ascii || err != nil {
			t.Errorf("%q is %q, which is %q, %v", name, ascii, again, err)
		}
	})
}

func TestValidate(t *testing.T) {
	t.Parallel()
	many := make([]string, MaxDomains+1)
	for i := range many {
		many[i] = fmt.Sprintf("n%d.example.com", i)
	}
	good := []string{"a.example.com"}
	for _, tt := range []struct {
		cfg  Config
		says string // "" is valid
	}{
		{Config{}, ""},
		{Config{Directory: DefaultDirectory}, ""},
		{Config{Domains: good}, ""},
		{Config{Domains: many[:MaxDomains], Email: "admin@example.com", HTTPListen: ":80", Directory: "https://ca.example.com/dir", BindingID: "x", BindingKey: "a2V5"}, ""},
		{Config{Domains: good, BindingID: "x", BindingKey: "a2V5MQ=="}, ""},
		{Config{Domains: many}, "101 names: at most 100"},
		{Config{Domains: []string{"a.example.com", "A.example.com."}}, "twice"},
		{Config{Domains: []string{"*.example.com"}}, "wildcard"},
		{Config{Domains: good, Directory: "http://ca.example.com/dir"}, "acme_directory should be the https URL"},
		{Config{Domains: good, Directory: "ca.example.com"}, "acme_directory should be the https URL"},
		{Config{Domains: good, Email: "admin"}, "acme_email"},
		{Config{Domains: good, Email: "a@example.com, b@example.com"}, "should be one address"},
		{Config{Domains: good, HTTPListen: "80"}, "acme_http_listen"},
		{Config{Domains: good, HTTPListen: ":http"}, "acme_http_listen"},
		{Config{Domains: good, BindingID: "x"}, "belong together"},
		{Config{Domains: good, BindingID: "x", BindingKey: "hunter2!"}, "not base64url"},
		{Config{Email: "admin@example.com"}, "acme_email is set and acme_domains is empty"},
		{Config{HTTPListen: ":80"}, "acme_http_listen is set and acme_domains is empty"},
		{Config{Directory: "https://ca.example.com/dir"}, "acme_directory is set and acme_domains is empty"},
	} {
		err := tt.cfg.Validate()
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%.200v: got %v, want %q", tt.cfg, err, tt.says)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("shows the key: %v", err)
		}
	}
}

// A file without a root is refused at the start.
func TestNewOfAuthority(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ca.pem")
	cfg := Config{Domains: []string{"a.example.com"}, Authority: file}
	if _, err := New(cfg, quiet); err == nil || !strings.Contains(err.Error(), "read acme_ca") {
		t.Errorf("no file: got %v", err)
	}
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg, quiet); err == nil || !strings.Contains(err.Error(), "has no certificate") {
		t.Errorf("no certificate: got %v", err)
	}
}
