package config

import (
	"maps"
	"strings"
	"testing"
)

// Certificates of an authority: from where they are set, what contradicts them, and what
// is said of where their keys go.
func TestACME(t *testing.T) {
	t.Parallel()
	file := mustWrite(t, "reecho.yaml", "acme_domains: [a.example.com, b.example.com]\nacme_email: admin@example.com\n")
	c, err := Load(source(map[string]string{"config": file}, oneApp(map[string]string{"REECHO_ACME_HTTP_LISTEN": ":80"})))
	if err != nil || strings.Join(c.ACME.Domains, " ") != "a.example.com b.example.com" || c.ACME.Email != "admin@example.com" || c.ACME.HTTPListen != ":80" {
		t.Errorf("got %+v, %v", c.ACME, err)
	}
	const clear = "goes from server to server in the clear"
	for _, tt := range []struct {
		flags       map[string]string
		says, warns string // "": nothing
	}{
		{flags: map[string]string{"acme-domains": "a.example.com"}},
		{flags: map[string]string{"acme-domains": "a.example.com", "tls-cert": "a.pem", "tls-key": "a.pem"}, says: "acme_domains and tls_cert are set"},
		{flags: map[string]string{"acme-domains": "*.example.com"}, says: "wildcard"},
		{flags: map[string]string{"acme-email": "a@example.com"}, says: "acme_email is set and acme_domains is empty"},
		{flags: map[string]string{"acme-domains": "a.example.com", "listen": ":80", "acme-http-listen": ":80"}, says: "acme_http_listen and listen are both"},
		{flags: map[string]string{"acme-domains": "a.example.com", "acme-ca": "-----BEGIN CERTIFICATE-----"}, says: "acme_ca should be the name of a file"},
		{flags: map[string]string{"acme-domains": "a.example.com", "acme-directory": "http://ca/dir"}, says: "acme_directory should be the https URL"},
		{flags: with(cluster, "acme-domains", "a.example.com")},
		{flags: without(with(cluster, "acme-domains", "a.example.com"), "cluster-tls-cert", "cluster-tls-key", "cluster-tls-ca"), warns: clear},
		{flags: map[string]string{"node-name": "n1", "nats-url": "nats://old:4222", "acme-domains": "a.example.com"}, warns: "that NATS server has the certificate's private key"},
	} {
		c, err := Load(source(tt.flags, oneApp(nil)))
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%v: got %v, want %q", tt.flags, err, tt.says)
		}
		if warnings := strings.Join(c.Warnings, "\n"); (warnings == "") != (tt.warns == "") || !strings.Contains(warnings, tt.warns) {
			t.Errorf("%v: warnings %q, want %q", tt.flags, warnings, tt.warns)
		}
	}
}

// An authority's certificate is one: what Herd or Valet have made is left alone then.
func TestACMEBeforeMadeCertificates(t *testing.T) {
	t.Parallel()
	c, err := Load(source(map[string]string{"acme-domains": "ws.example.com"}, map[string]string{
		"REVERB_APP_ID": "1", "REVERB_APP_KEY": "k", "REVERB_APP_SECRET": "s", "REVERB_HOST": "localhost", "REVERB_PORT": "8443", "REVERB_SCHEME": "https",
	}))
	if err != nil || !strings.HasSuffix(c.Listen, ":8443") {
		t.Errorf("listens on %s, %v: the application's port is served here, with TLS", c.Listen, err)
	}
}

func with(flags map[string]string, name, value string) map[string]string {
	flags = maps.Clone(flags)
	flags[name] = value
	return flags
}

func without(flags map[string]string, names ...string) map[string]string {
	flags = maps.Clone(flags)
	for _, name := range names {
		delete(flags, name)
	}
	return flags
}
