package socket

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // RFC 6455 §4.2.2 demands it; it protects nothing
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// tlsHandshakeByte is the first byte of a TLS connection; no HTTP method
// begins with it.
const tlsHandshakeByte = 0x16

// headReadBytes is what a connection's first bytes are read into; it grows up
// to Config.MaxHeaderBytes.
const headReadBytes = 2 << 10

// acceptGUID is appended to the key (RFC 6455 §1.3).
const acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// opening is the scratch memory of one connection's first request.
type opening struct {
	buf    []byte
	fields []field
	out    []byte
}

var openings = sync.Pool{New: func() any {
	return &opening{buf: make([]byte, 0, headReadBytes), fields: make([]field, 0, 32), out: make([]byte, 0, 256)}
}}

func (o *opening) release() {
	if cap(o.buf) > 8*headReadBytes {
		return
	}
	clear(o.fields[:cap(o.fields)])
	openings.Put(o)
}

// fill reads more, up to limit bytes in all.
func (o *opening) fill(conn net.Conn, limit int) error {
	if len(o.buf) >= limit {
		return reject(http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("request head is larger than %d bytes", limit))
	}
	if len(o.buf) == cap(o.buf) {
		grown := make([]byte, len(o.buf), 2*cap(o.buf))
		copy(grown, o.buf)
		o.buf = grown
	}
	n, err := conn.Read(o.buf[len(o.buf):min(cap(o.buf), limit)])
	o.buf = o.buf[:len(o.buf)+n]
	if n > 0 {
		return nil
	}
	return err
}

// open finds out what a new connection is: TLS, a client's upgrade or other
// HTTP, and hands it on. The connection is closed or owned by somebody else on
// return.
func (s *Server) open(raw net.Conn, tuned bool) {
	if err := raw.SetDeadline(time.Now().Add(s.cfg.HandshakeTimeout)); err != nil {
		s.drop(raw)
		return
	}
	o, _ := openings.Get().(*opening)
	o.buf = o.buf[:0]
	if err := o.fill(raw, headReadBytes); err != nil {
		o.release()
		s.drop(raw)
		return
	}
	in := &incoming{conn: raw, raw: raw, tuned: tuned}
	if o.buf[0] == tlsHandshakeByte {
		if in.conn = s.secure(raw, o); in.conn == nil {
			s.drop(raw)
			return
		}
		o, _ = openings.Get().(*opening)
		o.buf = o.buf[:0]
	}
	s.route(in, o)
}

// secure does the TLS handshake, of which o has the beginning. It releases o.
// nil: it failed.
func (s *Server) secure(raw net.Conn, o *opening) net.Conn {
	if s.cfg.TLS == nil {
		o.release()
		return nil
	}
	conn := tls.Server(&replayConn{Conn: raw, o: o}, s.cfg.TLS)
	if err := conn.Handshake(); err != nil { //nolint:noctx // raw has a deadline, and Shutdown closes it
		s.log.Debug("TLS handshake failed", slog.Any("remote", raw.RemoteAddr()), slog.Any("error", err))
		return nil
	}
	return conn
}

// incoming is a connection whose first request is being read.
type incoming struct {
	conn  net.Conn // speaks plaintext: raw, or TLS over it
	raw   net.Conn
	tuned bool // the listener has set our socket options
}

// route reads the first request head as far as needed and hands the
// connection on, together with o.
func (s *Server) route(in *incoming, o *opening) {
	size, err := s.readHead(in, o)
	var h head
	if err == nil && size > 0 {
		h, err = parseHead(o.buf[:size], o.fields)
	}
	var key []byte
	if err == nil {
		if !h.isUpgrade() {
			s.serveHTTP(in, o)
			return
		}
		key, err = h.checkUpgrade()
	}
	if err != nil {
		s.refuse(in, o, err)
		return
	}
	s.upgrade(&upgrade{incoming: in, opening: o, request: newRequest(in, &h), rest: o.buf[size:]}, &h, key)
}

// readHead returns the size of the head of a request for a path of the
// acceptor, 0 for any other: that is read no further than its request line.
func (s *Server) readHead(in *incoming, o *opening) (size int, err error) {
	served, checked := false, 0
	for {
		if !served && bytes.IndexByte(o.buf[checked:], '\n') >= 0 {
			line, _ := cutLine(o.buf)
			if served = s.serves(line); !served {
				return 0, nil
			}
			checked = 0
		}
		if served {
			if size = headEnd(o.buf, checked); size > 0 {
				return size, nil
			}
		}
		checked = len(o.buf)
		if !served && checked >= s.cfg.MaxHeaderBytes {
			return 0, nil // net/http has its own limit for such a request line
		}
		if err := o.fill(in.conn, s.cfg.MaxHeaderBytes); err != nil {
			return 0, err
		}
	}
}

// serves reports whether a request line may be that of a client's upgrade.
func (s *Server) serves(line []byte) bool {
	h, ok := parseRequestLine(line)
	if !ok || string(h.method) != http.MethodGet {
		return false
	}
	path, _, ok := splitTarget(h.target)
	return ok && s.acceptor.Serves(path)
}

// upgrade is a client's connection on its way to a transport.
type upgrade struct {
	*incoming
	*opening
	request *Request // its Header needs the opening
	rest    []byte   // what came behind the request; part of the opening
}

// upgrade answers the opening handshake and gives the connection to a
// transport.
func (s *Server) upgrade(u *upgrade, h *head, key []byte) {
	u.out = appendSwitching(u.out[:0], key, h.subprotocol())
	if _, err := u.conn.Write(u.out); err != nil {
		u.release()
		s.drop(u.raw)
		return
	}
	s.forget(u.raw)
	if u.conn != u.raw || s.pollers == nil || !s.pollers.adopt(u) {
		s.serveStream(u)
	}
}

func newRequest(in *incoming, h *head) *Request {
	path, query, _ := splitTarget(h.target)
	remote := remoteAddr(in.raw)
	return &Request{
		Path: path, RawQuery: query,
		Host: h.text("Host"), Origin: h.text("Origin"), UserAgent: h.text("User-Agent"),
		Header: h.text, Remote: remote, Client: remote.Addr(), TLS: in.conn != in.raw,
	}
}

func remoteAddr(conn net.Conn) netip.AddrPort {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		a := tcp.AddrPort()
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	return netip.AddrPort{}
}

// appendSwitching appends the 101 response.
func appendSwitching(dst, key, subprotocol []byte) []byte {
	var text [24 + len(acceptGUID)]byte
	sum := sha1.Sum(append(append(text[:0], key...), acceptGUID...)) //nolint:gosec // see the import
	dst = append(dst, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	dst = base64.StdEncoding.AppendEncode(dst, sum[:])
	if subprotocol != nil {
		dst = append(dst, "\r\nSec-WebSocket-Protocol: "...)
		dst = append(dst, subprotocol...)
	}
	return append(dst, "\r\n\r\n"...)
}

// refuse answers a request that cannot be served and closes the connection.
func (s *Server) refuse(in *incoming, o *opening, err error) {
	defer s.drop(in.raw)
	defer o.release()
	var r *rejection
	if !errors.As(err, &r) {
		return // the peer went away or took too long
	}
	out := append(o.out[:0], "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(r.status), 10)
	out = append(append(out, ' '), http.StatusText(r.status)...)
	out = append(out, "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"...)
	if r.status == http.StatusUpgradeRequired {
		out = append(out, "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n"...)
	}
	out = append(out, "Content-Length: "...)
	out = strconv.AppendInt(out, int64(len(r.text)+1), 10)
	out = append(append(append(out, "\r\n\r\n"...), r.text...), '\n')
	o.out = out
	if _, err := in.conn.Write(out); err == nil {
		lingeringClose(in)
	}
}

// lingeringClose says that nothing more will come and reads what the peer is
// still sending: closing with unread bytes would reset the connection, and the
// answer might never be seen. It is bounded by the handshake's deadline.
func lingeringClose(in *incoming) {
	half, ok := in.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	var scratch [512]byte
	for range 128 {
		if _, err := in.conn.Read(scratch[:]); err != nil {
			return
		}
	}
}
