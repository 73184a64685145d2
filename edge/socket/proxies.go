package socket

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Names of sets of proxies beside addresses and networks.
var proxySets = map[string][]string{
	"loopback": {"127.0.0.0/8", "::1/128"},
	"private":  {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "169.254.0.0/16", "fe80::/10"},
}

// unixProxies is the name of whoever connects to a Unix socket.
const unixProxies = "unix"

// maxForwards bounds how many proxies before one another are followed.
const maxForwards = 32

// Proxies are the peers whose word on a client is taken. The zero value is
// none.
type Proxies struct {
	networks []netip.Prefix
	unix     bool
}

// ParseProxies reads addresses (192.0.2.7), networks (10.0.0.0/8) and the
// names loopback, private and unix. It reports every problem at once.
func ParseProxies(list []string) (Proxies, error) {
	var p Proxies
	var problems []error
	for _, text := range list {
		if text == unixProxies {
			p.unix = true
			continue
		}
		members, named := proxySets[text]
		if !named {
			members = []string{text}
		}
		for _, member := range members {
			network, err := parseNetwork(member)
			if err != nil {
				problems = append(problems, fmt.Errorf("%.100q should be an address like 192.0.2.7, a network like 10.0.0.0/8, or one of loopback, private and unix", text))
				continue
			}
			p.networks = append(p.networks, network)
		}
	}
	return p, errors.Join(problems...)
}

func parseNetwork(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("read an address: %w", err)
		}
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("read a network: %w", err)
	}
	if a := network.Addr(); a.Is4In6() && network.Bits() >= 96 {
		return netip.PrefixFrom(a.Unmap(), network.Bits()-96), nil
	}
	return network, nil
}

// trust reports whether the word of a peer is taken; the zero Addr is one at a
// Unix socket.
func (p *Proxies) trust(a netip.Addr) bool {
	if !a.IsValid() {
		return p.unix
	}
	a = a.Unmap().WithZone("")
	for _, network := range p.networks {
		if network.Contains(a) {
			return true
		}
	}
	return false
}

// origin is who is at the other end: the peer of the TCP connection, who the
// PROXY protocol says it is, or who a trusted proxy says it forwards for.
type origin struct {
	addr   netip.Addr
	secure bool // speaks TLS with us, or did with the proxy
}

// client finds the client behind trusted proxies. from is the one that sent
// the request; fields returns all values of a header.
//
// Each proxy appends the address that it saw, so the list is read from its end,
// and only as far as trusted proxies wrote it: the rest is what the client says.
func (p *Proxies) client(from origin, fields func(name string) []string) origin {
	if len(p.networks) == 0 && !p.unix || !p.trust(from.addr) {
		return from
	}
	list, standard := fields("X-Forwarded-For"), fields("Forwarded")
	switch {
	case len(list) > 0:
		// A proxy that adds this one does not know Forwarded: what that says would
		// be the client's word.
		return p.byXForwarded(from, list, fields("X-Forwarded-Proto"))
	case len(standard) > 0:
		return p.byForwarded(from, standard)
	}
	if protos := splitLists(fields("X-Forwarded-Proto")); len(protos) > 0 {
		from.secure = isSecure(protos[len(protos)-1])
	}
	return from
}

func (p *Proxies) byXForwarded(from origin, list, protos []string) origin {
	nodes, hops := splitLists(list), 0
	client := from
	for len(nodes) > 0 && hops < maxForwards && p.trust(client.addr) {
		a, ok := parseNode(nodes[len(nodes)-1])
		if !ok {
			break
		}
		client.addr, nodes = a, nodes[:len(nodes)-1]
		hops++
	}
	if protos = splitLists(protos); len(protos) > 0 {
		// One for each proxy, or one by the last proxy for all.
		client.secure = isSecure(protos[max(0, len(protos)-max(1, hops))])
	}
	return client
}

func (p *Proxies) byForwarded(from origin, list []string) origin {
	elements := splitQuoted(strings.Join(list, ","), ',')
	client, hops := from, 0
	for i := len(elements) - 1; i >= 0 && hops < maxForwards && p.trust(client.addr); i-- {
		node, proto := forwardedElement(elements[i])
		client.secure = isSecure(proto) || proto == "" && client.secure
		a, ok := parseNode(node)
		if !ok {
			break
		}
		client.addr = a
		hops++
	}
	return client
}

// forwardedElement returns the for and proto of an element (RFC 7239 §4).
func forwardedElement(element string) (node, proto string) {
	for _, pair := range splitQuoted(element, ';') {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "for":
			node = unquote(value)
		case "proto":
			proto = unquote(value)
		}
	}
	return node, proto
}

// parseNode reads the address of 192.0.2.7, 192.0.2.7:80, 2001:db8::1,
// [2001:db8::1] or [2001:db8::1]:80. It reports false for unknown and for names
// that a proxy made up (RFC 7239 §6).
func parseNode(text string) (netip.Addr, bool) {
	text = unquote(text)
	if inner, ok := strings.CutPrefix(text, "["); ok {
		inner, port, closed := strings.Cut(inner, "]")
		a, err := netip.ParseAddr(inner)
		return a.Unmap().WithZone(""), closed && err == nil && (port == "" || port[0] == ':')
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Unmap().WithZone(""), true
	}
	host, _, _ := strings.Cut(text, ":")
	a, err := netip.ParseAddr(host)
	return a, err == nil && a.Is4()
}

func isSecure(proto string) bool {
	proto = strings.ToLower(proto)
	return proto == "https" || proto == "wss"
}

// splitLists returns the elements of comma-separated lists.
func splitLists(lists []string) []string {
	var all []string
	for _, list := range lists {
		for _, element := range strings.Split(list, ",") {
			if element = strings.TrimSpace(element); element != "" {
				all = append(all, element)
			}
		}
	}
	return all
}

// splitQuoted splits at a separator that does not stand between quotes.
func splitQuoted(text string, separator byte) []string {
	var parts []string
	quoted, begin := false, 0
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '"':
			quoted = !quoted
		case quoted && text[i] == '\\':
			i++
		case !quoted && text[i] == separator:
			parts = append(parts, text[begin:i])
			begin = i + 1
		}
	}
	return append(parts, text[begin:])
}

// unquote returns what stands between quotes, or text without blanks around.
func unquote(text string) string {
	text = strings.TrimSpace(text)
	if len(text) < 2 || text[0] != '"' || text[len(text)-1] != '"' {
		return text
	}
	inner := text[1 : len(text)-1]
	if !strings.Contains(inner, `\`) {
		return inner
	}
	plain := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); i++ {
		if inner[i] == '\\' && i+1 < len(inner) {
			i++
		}
		plain = append(plain, inner[i])
	}
	return string(plain)
}
