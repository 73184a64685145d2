package socket

import (
	"encoding/binary"
	"errors"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// maxFragments bounds the fragments of one message: empty ones cost a client
// six bytes and are not caught by the limit of the message's size.
const maxFragments = 1024

// message is what the parser finds: a whole text or binary message, or a
// control frame. The zero message (a continuation) is none.
type message struct {
	op      ws.OpCode
	payload []byte
	packed  bool // the payload is compressed
}

// isData reports whether it is a text or a binary message.
func (m *message) isData() bool { return m.op == ws.OpText || m.op == ws.OpBinary }

// parser turns the bytes of a client into messages, by the rules of RFC 6455
// for a server without extensions, or with permessage-deflate (RFC 7692 §6). It
// does no I/O, inflates nothing and buffers only the fragments of an unfinished
// message. The zero value is ready.
type parser struct {
	fragments []byte
	op        ws.OpCode // of the unfinished message; 0 when there is none
	packed    bool      // it is compressed
	deflated  bool      // messages may be
	count     int
}

// rsv1 is the bit of a header that says that the message is compressed.
const rsv1 = 0x4

var errNotUTF8 = violation(codeInvalidText, "text is not valid UTF-8")

// next takes the first message off data and says how many bytes it took, which
// may be some even when there is no whole message. The payload is unmasked in
// place and aliases data or the parser's buffer; the buffer is the caller's.
// The result depends on the bytes only, not on how they arrive in pieces. An
// error is a *CloseError for the peer and the parser must not be used again.
func (p *parser) next(data []byte, limit int) (m message, n int, err error) {
	for {
		h, size, err := parseHeader(data[n:])
		if err != nil {
			return message{}, n, err
		}
		if size == 0 {
			return message{}, n, nil
		}
		if err := p.check(h, limit); err != nil {
			return message{}, n, err
		}
		end := n + size + int(h.Length)
		if end > len(data) {
			return message{}, n, nil
		}
		payload := data[n+size : end : end]
		n = end
		ws.Cipher(payload, h.Mask, 0)
		m, err := p.take(h, payload)
		if err != nil || m.op != 0 {
			return m, n, err
		}
	}
}

// parseHeader reads a frame header. size is 0 when it is incomplete.
func parseHeader(data []byte) (h ws.Header, size int, err error) {
	if len(data) < 2 {
		return h, 0, nil
	}
	h.Fin = data[0]&0x80 != 0
	h.Rsv = data[0] & 0x70 >> 4
	h.OpCode = ws.OpCode(data[0] & 0x0f)
	h.Masked = data[1]&0x80 != 0
	length := data[1] & 0x7f
	size = headerSize(length, h.Masked)
	if len(data) < size {
		return h, 0, nil
	}
	minimal := uint64(0)
	wide := uint64(length)
	switch length {
	case 126:
		wide, minimal = uint64(binary.BigEndian.Uint16(data[2:])), 126
	case 127:
		wide, minimal = binary.BigEndian.Uint64(data[2:]), 1<<16
	}
	if wide < minimal || wide>>63 != 0 {
		return h, size, violation(codeProtocol, "frame length is not in its shortest form")
	}
	h.Length = int64(wide)
	if h.Masked {
		copy(h.Mask[:], data[size-4:size])
	}
	return h, size, nil
}

func headerSize(length byte, masked bool) int {
	size := 2
	switch length {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if masked {
		size += 4
	}
	return size
}

// check judges a header before its payload has arrived.
func (p *parser) check(h ws.Header, limit int) error {
	state := ws.StateServerSide
	if p.op != 0 {
		state = state.Set(ws.StateFragmented)
	}
	if p.deflated && (h.OpCode == ws.OpText || h.OpCode == ws.OpBinary) {
		h.Rsv &^= rsv1
	}
	if err := ws.CheckHeader(h, state); err != nil {
		return violation(codeProtocol, err.Error())
	}
	if h.OpCode.IsControl() {
		return nil
	}
	if h.Length > int64(limit-len(p.fragments)) {
		return violation(codeTooBig, "message is too big")
	}
	if p.count >= maxFragments {
		return violation(codePolicy, "message has too many fragments")
	}
	return nil
}

// take handles one unmasked frame. It returns the zero message for a fragment
// that is not the last.
func (p *parser) take(h ws.Header, payload []byte) (message, error) {
	if h.OpCode.IsControl() {
		if h.OpCode == ws.OpClose {
			return message{op: h.OpCode, payload: payload}, checkClose(payload)
		}
		return message{op: h.OpCode, payload: payload}, nil
	}
	m := message{h.OpCode, payload, h.Rsv&rsv1 != 0}
	if !h.Fin || p.op != 0 {
		if p.op == 0 {
			p.op, p.packed = h.OpCode, m.packed
		}
		p.fragments = append(p.fragments, payload...)
		p.count++
		if !h.Fin {
			return message{}, nil
		}
		m = message{p.op, p.fragments, p.packed}
		*p = parser{deflated: p.deflated}
	}
	if m.op == ws.OpText && !m.packed && !utf8.Valid(m.payload) {
		return message{}, errNotUTF8
	}
	return m, nil
}

// checkClose judges the payload of a close frame (RFC 6455 §5.5.1, §7.4).
func checkClose(payload []byte) error {
	if len(payload) == 0 {
		return nil
	}
	if len(payload) == 1 {
		return violation(codeProtocol, "close code is cut off")
	}
	code, reason := ws.ParseCloseFrameData(payload)
	if code >= 5000 {
		return violation(codeProtocol, "close code is out of range")
	}
	err := ws.CheckCloseFrameData(code, reason)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ws.ErrProtocolInvalidUTF8):
		return violation(codeInvalidText, err.Error())
	default:
		return violation(codeProtocol, err.Error())
	}
}

func violation(code int, reason string) error {
	return &CloseError{Code: code, Reason: reason}
}
