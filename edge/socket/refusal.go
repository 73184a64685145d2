package socket

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"

	"reecho/edge/limit"
)

// rejection is the HTTP answer to a request that is not served. Its text is
// fit for the client.
type rejection struct {
	status int
	text   string
}

// Error implements error.
func (r *rejection) Error() string { return r.text }

func reject(status int, text string) error { return &rejection{status: status, text: text} }

func tooLarge(limit int) error {
	return reject(http.StatusRequestHeaderFieldsTooLarge,
		fmt.Sprintf("The request line and headers are larger than %d bytes, the server's max_header_bytes", limit))
}

// refuse answers a request that is not served and closes the connection.
func (s *Server) refuse(in *incoming, o *opening, err error) {
	defer s.drop(in.raw)
	defer o.release()
	s.countRefusal(err)
	if answer(in, o, err, true) {
		lingeringClose(in)
	}
}

// countRefusal counts which limit ended a request before it was one, if any.
func (s *Server) countRefusal(err error) {
	var r *rejection
	switch {
	case errors.As(err, &r) && r.status == http.StatusRequestHeaderFieldsTooLarge:
		s.cfg.Ledger.Count(limit.HeaderSize)
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.cfg.Ledger.Count(limit.HandshakeTimeout)
	}
}

// answer writes the answer to a request that is not served. It reports false
// when there is nobody to answer.
func answer(in *incoming, o *opening, err error, closing bool) bool {
	var r *rejection
	if !errors.As(err, &r) {
		return false // the peer went away or took too long
	}
	out := append(o.out[:0], "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(r.status), 10)
	out = append(append(out, ' '), http.StatusText(r.status)...)
	out = append(out, "\r\nContent-Type: text/plain; charset=utf-8\r\n"...)
	switch r.status {
	case http.StatusUpgradeRequired:
		out = append(out, "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n"...)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		out = append(out, "Retry-After: 1\r\n"...)
	}
	switch {
	case closing:
		out = append(out, "Connection: close\r\n"...)
	case r.status == http.StatusUpgradeRequired:
		out = append(out, "Connection: Upgrade\r\n"...)
	}
	out = append(out, "Content-Length: "...)
	out = strconv.AppendInt(out, int64(len(r.text)+1), 10)
	out = append(append(append(out, "\r\n\r\n"...), r.text...), '\n')
	o.out = out
	_, err = in.conn.Write(out)
	return err == nil
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
