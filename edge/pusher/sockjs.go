package pusher

import (
	"errors"
	"fmt"
	"strconv"
)

// The frames of the fallback transports (PROTOCOL §7), each but a line's end:
// "o{}" opens, "h" is a heartbeat, "a[…]" holds messages, "c[…]" closes.

// AppendMessage appends a message, which must be valid UTF-8, to an a frame that is
// not closed yet, or to a part of one: behind a comma if there is one before it.
func AppendMessage(dst, message []byte) []byte {
	dst = append(AppendComma(dst), '"')
	start := 0
	for i, c := range message {
		if needsEscape[c] {
			dst = appendEscape(append(dst, message[start:i]...), c)
			start = i + 1
		}
	}
	return append(append(dst, message[start:]...), '"')
}

// AppendComma appends a comma to what AppendMessage adds to, if that has a message.
func AppendComma(dst []byte) []byte {
	if len(dst) > 0 && dst[len(dst)-1] == '"' {
		return append(dst, ',')
	}
	return dst
}

// AppendClose appends the frame that closes a transport session.
func AppendClose(dst []byte, code int, reason string) []byte {
	dst = append(dst, "c["...)
	dst = strconv.AppendInt(dst, int64(code), 10)
	dst = AppendString(append(dst, ','), validText(reason))
	return append(dst, ']')
}

// maxMessages bounds the messages of one body: each costs more than its bytes.
const maxMessages = 1000

// DecodeMessages reads what a client of a fallback transport sends, a JSON array of
// strings of which each is a message; an empty one is a sign of life. The messages
// are the caller's. The error is fit for the client.
func DecodeMessages(body []byte) ([][]byte, error) {
	s := scanner{b: body}
	if s.peek() != '[' {
		return nil, errors.New("the body is not a JSON array of strings")
	}
	var messages [][]byte
	for first := true; ; first = false {
		more, err := s.element(0, first)
		if err != nil {
			return nil, err
		}
		if !more {
			return messages, s.end()
		}
		if len(messages) == maxMessages {
			return nil, fmt.Errorf("the body has more than %d messages", maxMessages)
		}
		if s.peek() != '"' {
			return nil, errors.New("a message is not a string")
		}
		raw, err := s.text()
		if err == nil {
			err = checkText(raw, "a message")
		}
		if err != nil {
			return nil, err
		}
		messages = append(messages, []byte(unescape(raw)))
	}
}
