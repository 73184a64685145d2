package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// checkACME reports every problem of certificates from an authority, and what else has to
// be known of where their keys go.
func checkACME(c *Config) error {
	a := &c.ACME
	problems := []error{a.Validate(), checkPath("acme_ca", a.Authority)}
	if len(a.Domains) == 0 {
		return errors.Join(problems...)
	}
	if c.TLSCert != "" || c.TLSKey != "" {
		problems = append(problems, errors.New("acme_domains and tls_cert are set: there is one certificate, leave one of them away"))
	}
	if a.HTTPListen != "" && a.HTTPListen == c.Listen {
		problems = append(problems, fmt.Errorf("acme_http_listen and listen are both %s: give acme_http_listen port 80, or leave it away if port 443 leads to listen", quote(c.Listen)))
	}
	if c.Cluster.Cluster != "" && c.ClusterTLSCert == "" {
		c.warnOnce("acme_domains is set and cluster_tls_cert is not: the certificate's private key goes from server to server in the clear")
	}
	for _, u := range c.NATS.URLs {
		if strings.HasPrefix(u, "nats://") {
			c.warnOnce("acme_domains and nats_url are set: whoever can read the streams of that NATS server has the certificate's private key, and without TLS who sees its network")
			break
		}
	}
	return errors.Join(problems...)
}

// warnOnce makes a warning: what has no app is validated twice.
func (c *Config) warnOnce(warning string) {
	if !slices.Contains(c.Warnings, warning) {
		c.Warnings = append(c.Warnings, warning)
	}
}

// certificates takes the certificate that a product's variables name, else the one
// that Herd or Valet made for the host to which the application speaks TLS.
func (f *foreign) certificates() {
	for i := range products {
		p := &products[i]
		names := f.seen(p.cert, p.key)
		switch out, by := f.outOfUse(p), f.certified(); {
		case len(names) == 0:
		case out != "":
			f.pass(out, names...)
		case by != "":
			f.passFor(by, names...)
		default:
			f.namedCertificate(p, names)
		}
	}
	for i := range products {
		if p := &products[i]; f.outOfUse(p) == "" && f.appOf(p) != nil && f.certified() == "" {
			f.madeCertificate(p)
		}
	}
}

// certified is what has named a certificate already, "" for nothing.
func (f *foreign) certified() string {
	for _, key := range []string{"tls_cert", "tls_key", "acme_domains"} {
		if where, own := f.own[key]; own {
			return where
		}
	}
	return f.given[slot{setting: "tls_cert"}]
}

func (f *foreign) namedCertificate(p *product, names []string) {
	cert, _ := f.foreignEnv(p.cert)
	key, found := f.foreignEnv(p.key)
	if cert == "" {
		f.problem("%s: %s is missing, the certificate's file", f.where(p.key), p.cert)
		return
	}
	if !found {
		key = cert // PHP takes a file with both
	}
	f.c.TLSCert, f.c.TLSKey = cert, key
	f.given[slot{setting: "tls_cert"}] = p.cert
	f.use("tls_cert="+quoteOdd(cert), names...)
}

// maker is a program that makes certificates for hosts of a development machine, and
// where it keeps them below the home folder.
type maker struct {
	name   string
	folder string
}

// makers are those that Reverb knows, and Valet for Linux.
var makers = []maker{
	{"Herd", "Library/Application Support/Herd/config/valet/Certificates"},
	{"Herd", ".config/herd/config/valet/Certificates"},
	{"Valet", ".config/valet/Certificates"},
	{"Valet", ".valet/Certificates"},
}

// madeCertificate takes the certificate that Herd or Valet made for the host that the
// application talks to, if it speaks TLS.
func (f *foreign) madeCertificate(p *product) {
	host, found := f.foreignEnv(p.away.host)
	host = strings.ToLower(host)
	// Nothing but a name may come into the path.
	if p.away.host == "" || !found || f.scheme(p) != "https" || strings.Trim(host, hostCharacters) != "" {
		return
	}
	for _, variable := range []string{"HOME", "USERPROFILE"} {
		home, found := f.realEnv(variable)
		for _, m := range makers {
			base := filepath.Join(home, filepath.FromSlash(m.folder), host)
			if !found || !isFile(base+".crt") || !isFile(base+".key") {
				continue
			}
			f.c.TLSCert, f.c.TLSKey = base+".crt", base+".key"
			f.given[slot{setting: "tls_cert"}] = p.away.host
			f.use(fmt.Sprintf("tls_cert=%q of %s", f.c.TLSCert, m.name), f.seen(p.away.host, p.away.scheme)...)
			return
		}
	}
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
