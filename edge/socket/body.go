package socket

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
)

// Bounds of the parts of a chunked body that are no data.
const (
	maxChunkLine    = 1 << 10 // a chunk's size with its extensions
	maxTrailerBytes = 4 << 10
)

var errChunk = errors.New("malformed chunked body")

// bodyLength tells how long the body of a request is (RFC 9112 §6). What two
// readers could understand in two ways is refused: a proxy in front would see
// another request behind the body than we do (request smuggling).
func (h *head) bodyLength() (length int64, chunked bool, err error) {
	_, codings := h.get("Transfer-Encoding")
	text, lengths := h.get("Content-Length")
	switch {
	case codings > 0 && lengths > 0:
		return 0, false, reject(http.StatusBadRequest, "Content-Length and Transfer-Encoding must not stand together")
	case codings > 0:
		return 0, true, h.checkCoding()
	case lengths > 1:
		return 0, false, reject(http.StatusBadRequest, "There must be one Content-Length at most")
	case lengths == 0:
		return 0, false, nil
	}
	n, err := strconv.ParseUint(string(text), 10, 63)
	if err != nil || text[0] == '+' {
		return 0, false, reject(http.StatusBadRequest, "Content-Length is not a number of bytes")
	}
	return int64(n), false, nil
}

// checkCoding judges Transfer-Encoding: chunked, once, is all there is.
func (h *head) checkCoding() error {
	if string(h.proto) != "HTTP/1.1" {
		return reject(http.StatusBadRequest, "Transfer-Encoding needs HTTP/1.1")
	}
	count, chunked, last := 0, 0, false
	h.eachToken("Transfer-Encoding", func(coding []byte) bool {
		count++
		if last = strings.EqualFold(string(coding), "chunked"); last {
			chunked++
		}
		return true
	})
	switch {
	case chunked != 1 || !last:
		return reject(http.StatusBadRequest, "Transfer-Encoding must end with chunked and name it once: the end of the body is not known")
	case count > 1:
		return reject(http.StatusNotImplemented, "The only Transfer-Encoding that is understood is chunked")
	}
	return nil
}

// bodyState is what comes next of a body.
type bodyState uint8

const (
	bodyNone      bodyState = iota
	bodyLength              // left bytes
	chunkSize               // digits of a chunk's size
	chunkExt                // what follows them
	chunkLineEnd            // the LF of that line
	chunkData               // left bytes
	chunkDataCR             // the CR and
	chunkDataLF             // LF behind them
	trailerStart            // a line behind the last chunk
	trailerLine             // the rest of such a line
	trailerLineLF           // its LF
	bodyEndLF               // the LF of the empty line
)

// body follows the body of a request to find its end. The zero value is a body
// of no bytes. Where it is stricter than net/http, net/http does not get to see
// the end, and gives up the connection.
type body struct {
	state  bodyState
	digits uint8
	left   int64
	line   int // bytes of the current line, or of all trailers
}

func newBody(length int64, chunked bool) body {
	switch {
	case chunked:
		return body{state: chunkSize}
	case length > 0:
		return body{state: bodyLength, left: length}
	}
	return body{}
}

// scan takes what follows of a body that has not ended and returns how many
// bytes of data belong to it: all of them unless it ends.
func (b *body) scan(data []byte) (n int, err error) {
	for n < len(data) && b.state != bodyNone {
		if b.state == bodyLength || b.state == chunkData {
			n += b.skip(len(data) - n)
			continue
		}
		if err := b.step(data[n]); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// skip takes up to n bytes of data.
func (b *body) skip(n int) int {
	n = int(min(int64(n), b.left))
	if b.left -= int64(n); b.left > 0 {
		return n
	}
	if b.state == bodyLength {
		b.state = bodyNone
	} else {
		b.state = chunkDataCR
	}
	return n
}

// step takes one byte of what is no data.
func (b *body) step(c byte) error {
	switch b.state {
	case chunkSize, chunkExt:
		return b.stepSize(c)
	case chunkLineEnd:
		if c != '\n' {
			return errChunk
		}
		b.state, b.line, b.digits = chunkData, 0, 0
		if b.left == 0 {
			b.state = trailerStart
		}
		return nil
	case chunkDataCR:
		return b.want(c, '\r', chunkDataLF)
	case chunkDataLF:
		return b.want(c, '\n', chunkSize)
	case bodyEndLF:
		return b.want(c, '\n', bodyNone)
	default:
		return b.stepTrailer(c)
	}
}

func (b *body) want(c, wanted byte, next bodyState) error {
	if c != wanted {
		return errChunk
	}
	b.state = next
	return nil
}

func (b *body) stepSize(c byte) error {
	if b.line++; b.line > maxChunkLine {
		return errChunk
	}
	digit, hex := hexDigit(c)
	switch {
	case b.state == chunkSize && hex:
		if b.digits++; b.digits > 15 { // more would not fit into left
			return errChunk
		}
		b.left = b.left<<4 | int64(digit)
	case b.digits == 0:
		return errChunk
	case c == '\r':
		b.state = chunkLineEnd
	case b.state == chunkExt && (c >= ' ' && c != 0x7f || c == '\t'):
	case c == ';' || c == ' ' || c == '\t':
		b.state = chunkExt
	default:
		return errChunk
	}
	return nil
}

func (b *body) stepTrailer(c byte) error {
	if b.line++; b.line > maxTrailerBytes {
		return errChunk
	}
	switch {
	case b.state == trailerLineLF:
		return b.want(c, '\n', trailerStart)
	case c == '\r' && b.state == trailerStart:
		b.state = bodyEndLF
	case c == '\r':
		b.state = trailerLineLF
	case c < ' ' && c != '\t', c == 0x7f:
		return errChunk
	default:
		b.state = trailerLine
	}
	return nil
}

func hexDigit(c byte) (value byte, ok bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
