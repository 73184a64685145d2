package socket

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
)

// Sizes of the PROXY protocol, versions 1 and 2.
const (
	maxProxyLine    = 107
	proxyPreamble   = 16 // of version 2; its last two bytes are the length of the rest
	maxProxyPayload = 4 << 10
)

var (
	errNoProxyHeader  = errors.New("a trusted proxy sent no PROXY protocol header, which proxy_protocol asks for")
	errBadProxyHeader = errors.New("malformed PROXY protocol header")
)

// readProxyHeader takes the header of the PROXY protocol off the beginning of
// a connection of which o has the first bytes. It returns who the proxy speaks
// for: from, when that is the proxy itself (LOCAL, UNKNOWN: a health check).
func readProxyHeader(conn net.Conn, o *opening, from origin) (origin, error) {
	size, err := proxyHeaderSize(conn, o)
	if err != nil {
		return from, err
	}
	header, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(o.buf[:size])))
	if err != nil {
		return from, fmt.Errorf("%w: %w", errBadProxyHeader, err)
	}
	o.discard(size)
	if header.Command.IsLocal() {
		return from, nil
	}
	source := origin{secure: usedTLS(header)}
	switch a := header.SourceAddr.(type) {
	case *net.TCPAddr:
		addr, _ := netip.AddrFromSlice(a.IP)
		source.addr = addr.Unmap()
	case *net.UnixAddr: // a client without an address
	default:
		return from, fmt.Errorf("%w: it is not for a TCP connection", errBadProxyHeader)
	}
	return source, nil
}

// proxyHeaderSize reads until all of the header is there.
func proxyHeaderSize(conn net.Conn, o *opening) (int, error) {
	for {
		size, err := proxyHeaderEnd(o.buf)
		if err != nil {
			return 0, err
		}
		if size > 0 && size <= len(o.buf) {
			return size, nil
		}
		if err := o.fill(conn, proxyPreamble+maxProxyPayload); err != nil {
			return 0, err
		}
	}
}

// proxyHeaderEnd returns the size of the header at the beginning of data, 0
// when it is not known yet.
func proxyHeaderEnd(data []byte) (int, error) {
	switch {
	case begins(data, proxyproto.SIGV1):
		end := bytes.IndexByte(data[:min(len(data), maxProxyLine)], '\n')
		if end < 0 && len(data) >= maxProxyLine {
			return 0, errBadProxyHeader
		}
		return end + 1, nil
	case begins(data, proxyproto.SIGV2):
		if len(data) < proxyPreamble {
			return 0, nil
		}
		payload := int(binary.BigEndian.Uint16(data[proxyPreamble-2:]))
		if payload > maxProxyPayload {
			return 0, fmt.Errorf("%w: it is larger than %d bytes", errBadProxyHeader, maxProxyPayload)
		}
		return proxyPreamble + payload, nil
	}
	return 0, errNoProxyHeader
}

// begins reports whether data may begin with a signature: as much of it as
// there is does.
func begins(data, signature []byte) bool {
	n := min(len(data), len(signature))
	return bytes.Equal(data[:n], signature[:n])
}

// usedTLS reports whether the proxy says that its client speaks TLS with it.
func usedTLS(header *proxyproto.Header) bool {
	if header.Version != 2 {
		return false
	}
	values, err := header.TLVs()
	if err != nil {
		return false
	}
	for _, v := range values {
		if tlvparse.IsSSL(v) && v.Value[0]&tlvparse.PP2_BITFIELD_CLIENT_SSL != 0 {
			return true
		}
	}
	return false
}
