package config

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
)

// platformPort is the variable by which hosting platforms say where a program is to
// listen. It is looked for in the real environment alone: in a file it is another
// program's.
const platformPort = "PORT"

// candidate is what may say where to listen: variables of a host and a port, and the
// names of those that are there, with what goes with them.
type candidate struct {
	host, port string
	names      []string
}

// listen finds the address to listen on: that of a product's own server; the port of
// the platform; the one that the application talks to, if that is here; the one that
// the product listens on without being told.
func (f *foreign) listen() {
	all := append(f.servers(), f.platform()...)
	ways, fallback := f.ways()
	own := f.own["listen"]
	var host, port string
	var names []string
	for _, c := range append(all, ways...) {
		var h, p string
		if own == "" && host == "" && port == "" {
			h = f.readWith(c.host, readHost)
		}
		if own == "" && port == "" {
			p = f.readWith(c.port, readPort)
		}
		if h == "" && p == "" {
			f.passFor(cmp.Or(own, strings.Join(names, ", ")), c.names...)
			continue
		}
		host, port, names = cmp.Or(h, host), cmp.Or(p, port), append(names, c.names...)
	}
	defaultHost, defaultPort, _ := net.SplitHostPort(DefaultListen)
	if fallback != nil && port == "" && fallback.defaultPort != defaultPort {
		port = fallback.defaultPort
		names = append(names, "as "+fallback.name+" does without "+fallback.port)
	}
	if own != "" || len(names) == 0 {
		return
	}
	f.c.Listen = net.JoinHostPort(cmp.Or(host, defaultHost), cmp.Or(port, defaultPort))
	f.use("listen="+quoteOdd(f.c.Listen), names...)
}

// passFor is pass for variables in whose place something else counts; nothing, if what
// they say is a problem.
func (f *foreign) passFor(instead string, names ...string) {
	if instead != "" {
		instead += " says it"
	}
	f.pass(instead, names...)
}

// servers is the address of the first product that names one for its server: half of
// it and half of another one's would be nobody's.
func (f *foreign) servers() []candidate {
	var first []candidate
	for i := range products {
		p := &products[i]
		names := f.seen(p.host, p.port)
		switch out := f.outOfUse(p); {
		case len(names) == 0:
		case out != "":
			f.pass(out, names...)
		case len(first) > 0:
			f.passFor(cmp.Or(f.own["listen"], strings.Join(first[0].names, ", ")), names...)
		default:
			first = []candidate{{p.host, p.port, names}}
		}
	}
	return first
}

func (f *foreign) platform() []candidate {
	text, found := f.realEnv(platformPort)
	if !found {
		return nil
	}
	if _, err := readPort(text); err != nil {
		// Anybody may have meant anything by it.
		f.pass("it is no number of a port", platformPort)
		return nil
	}
	return []candidate{{port: platformPort, names: []string{platformPort}}}
}

// ways are the addresses here that applications talk to, and the first product with an
// app.
func (f *foreign) ways() (here []candidate, fallback *product) {
	for i := range products {
		p := &products[i]
		names := f.seen(p.away.host, p.away.port, p.away.scheme)
		switch out := f.outOfUse(p); {
		case p.away.host == "":
			continue
		case out != "":
			f.pass(out, names...)
			continue
		case f.appOf(p) == nil:
			f.pass(f.noApp(p), names...)
			continue
		}
		fallback = cmp.Or(fallback, p)
		if why := f.notHere(p); why != "" {
			f.pass(why, names...)
		} else {
			here = append(here, candidate{port: p.away.port, names: names})
		}
	}
	return here, fallback
}

// notHere is why the address that the application talks to is not the one to listen
// on, "" if it is.
func (f *foreign) notHere(p *product) string {
	host, _ := f.foreignEnv(p.away.host)
	port, named := f.foreignEnv(p.away.port)
	certified := f.given[slot{setting: "tls_cert"}] == p.away.host
	switch {
	case host == "" || !named:
		return p.away.host + " and " + p.away.port + " are not both there"
	case !certified && !isHere(host):
		return "the application's way to another machine, or to a proxy"
	case f.scheme(p) == "https" && f.c.TLSCert == "" && len(f.c.ACME.Domains) == 0:
		return "the application speaks TLS and there is no certificate here, so a proxy must be at port " + quoteOdd(port)
	}
	return ""
}

// scheme is that with which the application talks, with Laravel's default.
func (f *foreign) scheme(p *product) string {
	text, _ := f.foreignEnv(p.away.scheme)
	return strings.ToLower(cmp.Or(text, "https"))
}

// readWith reads a variable that may be missing; "" if it is wrong, which is a problem.
func (f *foreign) readWith(name string, read func(string) (string, error)) string {
	if len(f.seen(name)) == 0 {
		return ""
	}
	text, _ := f.foreignEnv(name)
	value, err := read(text)
	if err != nil {
		f.problem("%s is %s: %w", f.where(name), quote(text), err)
	}
	return value
}

// hostCharacters are those of names of hosts.
const hostCharacters = "abcdefghijklmnopqrstuvwxyz0123456789-_."

// readHost reads an address, in brackets or not, or a name.
func readHost(text string) (string, error) {
	host := strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	if _, err := netip.ParseAddr(host); err != nil && strings.Trim(strings.ToLower(host), hostCharacters) != "" {
		return "", errHost
	}
	return host, nil
}

var errHost = errors.New("should be an address or a name of this machine, like 0.0.0.0")

// isHere tells whether a name or an address is this machine's. It asks nobody: a name
// that others know as this machine is most often that of a proxy on it.
func isHere(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		own, err := os.Hostname()
		return err == nil && strings.EqualFold(own, host)
	}
	if ip = ip.Unmap(); ip.IsLoopback() || ip.IsUnspecified() {
		return true
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range all {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Unmap() == ip {
			return true
		}
	}
	return false
}
