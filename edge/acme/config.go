// Package acme has a certificate authority issue the TLS certificate of a node, or the
// one of all nodes of a cluster, and renews it in time (RFC 8555). One of the nodes
// orders; what it gets is in a store that all of them read, and so are the answers to
// the authority's challenges, which may reach any of them.
package acme

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/acme"
	"golang.org/x/net/idna"
)

// DefaultDirectory is that of Let's Encrypt, for certificates that browsers trust.
const DefaultDirectory = acme.LetsEncryptURL

// MaxDomains is how many names Let's Encrypt puts into one certificate.
const MaxDomains = 100

// hostNames are those that DNS can have (RFC 5891 §5, RFC 1035 §2.3.4).
var hostNames = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(true), idna.VerifyDNSLength(true))

// Config of a Keeper. Without Domains there is none.
type Config struct {
	// Domains are the names that the certificate is for. Who names them accepts the
	// authority's terms of service.
	Domains []string
	// Email is where the authority may write to about the account; "": nowhere.
	Email string
	// Directory is the authority's address, an https URL; "" is DefaultDirectory.
	Directory string
	// Authority is a file with the root certificates (PEM) by which the directory's own
	// certificate is known, in the place of the system's; "": those.
	Authority string
	// HTTPListen is the HOST:PORT that answers challenges of the kind HTTP-01, to which
	// port 80 of all domains has to lead; "": challenges are of the kind TLS-ALPN-01 and
	// are answered where TLS is, to which port 443 has to lead.
	HTTPListen string
	// BindingID and BindingKey, base64url, bind the account to one that the authority's
	// operator has made (RFC 8555 §7.3.4); "" for most authorities.
	BindingID, BindingKey string
}

// Domain is a name of a host as certificates have it: lower case, with no dot at the
// end, and in ASCII. The error says what is wrong with it.
func Domain(name string) (string, error) {
	if strings.Contains(name, "*") {
		return "", fmt.Errorf("%.80q has a wildcard: name each host, wildcards need DNS-01, which is not spoken here", name)
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return "", fmt.Errorf("%.80q is an address: should be a name like ws.example.com", name)
	}
	ascii, err := hostNames.ToASCII(strings.TrimSuffix(name, "."))
	// What is no text, or punycode of nothing, becomes something that is no name.
	if again, wrong := hostNames.ToASCII(ascii); err != nil || wrong != nil || again != ascii || strings.HasSuffix(ascii, ".") || !utf8.ValidString(name) {
		return "", fmt.Errorf("%.80q is no name of a host: should be like ws.example.com", name)
	}
	return ascii, nil
}

// Validate reports every problem at once, by the names of settings. It reads no file.
func (c *Config) Validate() error {
	if len(c.Domains) == 0 {
		return c.validateUnused()
	}
	var problems []error
	add := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	seen := make(map[string]bool)
	for _, name := range c.Domains {
		ascii, err := Domain(name)
		switch {
		case err != nil:
			add("acme_domains: %w", err)
		case seen[ascii]:
			add("acme_domains has %.80q twice", name)
		}
		seen[ascii] = true
	}
	if len(c.Domains) > MaxDomains {
		add("acme_domains has %d names: at most %d fit into a certificate", len(c.Domains), MaxDomains)
	}
	if u, err := url.Parse(c.directory()); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		add("acme_directory should be the https URL of an ACME directory, like %s", DefaultDirectory)
	}
	if c.Email != "" && (!strings.Contains(c.Email, "@") || strings.ContainsAny(c.Email, " ,?\r\n")) {
		add("acme_email is %.80q: should be one address, like admin@example.com", c.Email)
	}
	if c.HTTPListen != "" {
		_, port, err := net.SplitHostPort(c.HTTPListen)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			add("acme_http_listen is %.80q: should be HOST:PORT or :80", c.HTTPListen)
		}
	}
	if (c.BindingID == "") != (c.BindingKey == "") {
		add("acme_eab_key_id and acme_eab_key belong together: set both or none")
	}
	if _, err := c.bindingKey(); err != nil {
		add("acme_eab_key is not base64url: take it as the authority shows it")
	}
	return errors.Join(problems...)
}

// validateUnused refuses what means nothing without domains.
func (c *Config) validateUnused() error {
	unused := map[string]string{
		"acme_email": c.Email, "acme_ca": c.Authority, "acme_http_listen": c.HTTPListen,
		"acme_eab_key_id": c.BindingID, "acme_eab_key": c.BindingKey,
	}
	if c.directory() != DefaultDirectory {
		unused["acme_directory"] = c.Directory
	}
	var problems []error
	for key, value := range unused {
		if value != "" {
			problems = append(problems, fmt.Errorf("%s is set and acme_domains is empty: name the hosts that the certificate is for", key))
		}
	}
	return errors.Join(problems...)
}

func (c *Config) directory() string {
	if c.Directory == "" {
		return DefaultDirectory
	}
	return c.Directory
}

// domains are those of a valid c, as certificates have them, in their order.
func (c *Config) domains() []string {
	names := make([]string, len(c.Domains))
	for i, name := range c.Domains {
		names[i], _ = Domain(name)
	}
	return names
}

// bindingKey is BindingKey's value. Some authorities show it with padding.
func (c *Config) bindingKey() ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(c.BindingKey, "=")) //nolint:wrapcheck // the caller says what it is
}

// roots are those of Authority, nil for the system's.
func (c *Config) roots() (*x509.CertPool, error) {
	if c.Authority == "" {
		return nil, nil //nolint:nilnil // nil stands for the system's, as in tls.Config
	}
	text, err := os.ReadFile(c.Authority)
	if err != nil {
		return nil, fmt.Errorf("read acme_ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read acme_ca: %s has no certificate (PEM)", c.Authority)
	}
	return pool, nil
}
