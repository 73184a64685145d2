package socket

import (
	"encoding/binary"
	"iter"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// Close codes that the transport itself sends.
const (
	codeNoStatus     = int(ws.StatusNoStatusRcvd)            // 1005: never on the wire
	codeProtocol     = int(ws.StatusProtocolError)           // 1002
	codeInvalidText  = int(ws.StatusInvalidFramePayloadData) // 1007
	codePolicy       = int(ws.StatusPolicyViolation)         // 1008
	codeTooBig       = int(ws.StatusMessageTooBig)           // 1009
	codeOverCapacity = 4100                                  // Pusher: come back after a pause
)

// maxReason is what a close frame has left for the reason: control frames are
// at most 125 bytes long (RFC 6455 §5.5), the code takes two.
const maxReason = ws.MaxControlFramePayloadSize - 2

// First bytes of the frames we send: final, and the opcode.
const (
	textByte  = 0x80 | byte(ws.OpText)
	closeByte = 0x80 | byte(ws.OpClose)
	pingByte  = 0x80 | byte(ws.OpPing)
	pongByte  = 0x80 | byte(ws.OpPong)
)

// pingFrames is a Send of one empty ping. It is never changed.
var pingFrames = [][]byte{{pingByte, 0}}

// Frame returns payload as one finished frame of a server: text, final,
// unmasked. payload is copied.
func Frame(payload []byte) []byte {
	frame := make([]byte, 0, ws.MaxHeaderSize-4+len(payload))
	return append(AppendFrameHeader(frame, len(payload)), payload...)
}

// Payload is the payload of a frame made by Frame.
func Payload(frame []byte) []byte {
	switch frame[1] {
	case 126:
		return frame[4:]
	case 127:
		return frame[10:]
	}
	return frame[2:]
}

// Messages yields the payloads of a buffer of frames made by Frame, of which
// there may be any number behind each other: writers join what goes to many
// connections. What is cut off at the end is left out. The payloads are slices
// of the buffer.
func Messages(frames []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(frames) > 0 {
			header, size := frameSize(frames)
			if header == 0 || size > uint64(len(frames)) || header+int(size) > len(frames) {
				return
			}
			end := header + int(size)
			if !yield(frames[header:end:end]) {
				return
			}
			frames = frames[end:]
		}
	}
}

// frameSize is how long the header and the payload of the first frame are;
// header is 0 if it is not whole.
func frameSize(frames []byte) (header int, size uint64) {
	switch {
	case len(frames) < 2:
	case frames[1] < 126:
		return 2, uint64(frames[1])
	case frames[1] == 126 && len(frames) >= 4:
		return 4, uint64(binary.BigEndian.Uint16(frames[2:]))
	case frames[1] == 127 && len(frames) >= 10:
		return 10, binary.BigEndian.Uint64(frames[2:])
	}
	return 0, 0
}

// AppendFrameHeader appends the header of a text frame with n bytes of
// payload, which the caller appends next.
func AppendFrameHeader(dst []byte, n int) []byte {
	switch {
	case n < 126:
		return append(dst, textByte, byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, textByte, 126), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(dst, textByte, 127), uint64(n))
	}
}

// closeFrame returns a close frame. codeNoStatus makes an empty one.
func closeFrame(code int, reason string) []byte {
	if code == codeNoStatus {
		return []byte{closeByte, 0}
	}
	reason = cutReason(reason)
	frame := make([]byte, 0, 4+len(reason))
	frame = append(frame, closeByte, byte(2+len(reason)))      // at most 125
	frame = binary.BigEndian.AppendUint16(frame, uint16(code)) // close codes have 16 bits
	return append(frame, reason...)
}

// cutReason shortens reason to what fits, without cutting a character in two.
// Invalid UTF-8 is replaced: a peer would have to fail the connection for it.
func cutReason(reason string) string {
	if !utf8.ValidString(reason) {
		reason = string([]rune(reason))
	}
	if len(reason) <= maxReason {
		return reason
	}
	end := maxReason
	for !utf8.RuneStart(reason[end]) {
		end--
	}
	return reason[:end]
}

// appendPong appends a pong frame that answers a ping with payload, which is
// at most 125 bytes long.
func appendPong(dst, payload []byte) []byte {
	dst = append(dst, pongByte, byte(len(payload))) // at most 125
	return append(dst, payload...)
}
