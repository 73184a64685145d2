package pusher

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// maxDepth bounds the nesting of what is decoded, so that hostile input cannot
// use up the stack.
const maxDepth = 64

var (
	errDepth    = fmt.Errorf("JSON is nested deeper than %d levels", maxDepth)
	errEnd      = errors.New("JSON ends too early")
	errTrailing = errors.New("there is something behind the JSON value")
	errControl  = errors.New("JSON string holds an unescaped control character")
)

// scanner reads JSON (RFC 8259) once, strictly in its grammar and with bounded
// depth. It hands out slices of its input. What is no text inside strings (half
// of a surrogate pair, bytes that are not UTF-8) passes here: whoever takes a
// string decides, because such a name is refused and such a value is mended.
// encoding/json would accept doubled keys and cost several times as much on
// paths that every client event and publish takes.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) unexpected() error {
	if s.i >= len(s.b) {
		return errEnd
	}
	r, _ := utf8.DecodeRune(s.b[s.i:])
	return fmt.Errorf("JSON has an unexpected %q at byte %d", r, s.i)
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// peek returns the first byte of the next token, 0 at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

// end checks that nothing but space is left.
func (s *scanner) end() error {
	if s.peek() != 0 || s.i < len(s.b) {
		return errTrailing
	}
	return nil
}

// value skips one value and returns its text.
func (s *scanner) value(depth int) ([]byte, error) {
	c := s.peek()
	start := s.i
	var err error
	switch {
	case c == '"':
		_, err = s.text()
	case c == '{':
		err = s.skipObject(depth)
	case c == '[':
		err = s.skipArray(depth)
	case c == '-' || c >= '0' && c <= '9':
		err = s.number()
	case c == 't':
		err = s.literal("true")
	case c == 'f':
		err = s.literal("false")
	case c == 'n':
		err = s.literal("null")
	default:
		err = s.unexpected()
	}
	return s.b[start:s.i], err
}

func (s *scanner) literal(word string) error {
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		return s.unexpected()
	}
	s.i += len(word)
	return nil
}

func (s *scanner) number() error {
	if s.i < len(s.b) && s.b[s.i] == '-' {
		s.i++
	}
	if s.i < len(s.b) && s.b[s.i] == '0' {
		s.i++
	} else if !s.digits() {
		return s.unexpected()
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		if !s.digits() {
			return s.unexpected()
		}
	}
	if s.i < len(s.b) && (s.b[s.i] == 'e' || s.b[s.i] == 'E') {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		if !s.digits() {
			return s.unexpected()
		}
	}
	return nil
}

func (s *scanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > start
}

// text reads a string and returns it raw, without its quotes.
func (s *scanner) text() ([]byte, error) {
	if s.peek() != '"' {
		return nil, s.unexpected()
	}
	s.i++
	start := s.i
	for s.i < len(s.b) {
		if !needsEscape[s.b[s.i]] {
			s.i++
			continue
		}
		switch s.b[s.i] {
		case '"':
			s.i++
			return s.b[start : s.i-1], nil
		case '\\':
			if err := s.escape(); err != nil {
				return nil, err
			}
		default:
			return nil, errControl
		}
	}
	return nil, errEnd
}

// escape skips one escape sequence.
func (s *scanner) escape() error {
	s.i++
	if s.i >= len(s.b) {
		return errEnd
	}
	switch s.b[s.i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i++
		return nil
	case 'u':
		s.i++
	default:
		return s.unexpected()
	}
	if _, ok := hex4(s.b[s.i:]); !ok {
		return s.unexpected()
	}
	s.i += 4
	return nil
}

func (s *scanner) skipObject(depth int) error {
	for first := true; ; first = false {
		_, more, err := s.member(depth, first)
		if err != nil || !more {
			return err
		}
		if _, err := s.value(depth + 1); err != nil {
			return err
		}
	}
}

func (s *scanner) skipArray(depth int) error {
	for first := true; ; first = false {
		more, err := s.element(depth, first)
		if err != nil || !more {
			return err
		}
		if _, err := s.value(depth + 1); err != nil {
			return err
		}
	}
}

// member goes to the next member of an object, before its opening brace when
// first. It returns the raw key with the scanner at the value, or more false
// behind the closing brace.
func (s *scanner) member(depth int, first bool) (key []byte, more bool, err error) {
	more, err = s.next(depth, first, '{', '}')
	if err != nil || !more {
		return nil, false, err
	}
	if key, err = s.text(); err != nil {
		return nil, false, err
	}
	if s.peek() != ':' {
		return nil, false, s.unexpected()
	}
	s.i++
	return key, true, nil
}

// element goes to the next element of an array like member.
func (s *scanner) element(depth int, first bool) (more bool, err error) {
	return s.next(depth, first, '[', ']')
}

func (s *scanner) next(depth int, first bool, opening, closing byte) (more bool, err error) {
	if depth >= maxDepth {
		return false, errDepth
	}
	c := s.peek()
	if first {
		if c != opening {
			return false, s.unexpected()
		}
		s.i++
		if s.peek() == closing {
			s.i++
			return false, nil
		}
		return true, nil
	}
	switch c {
	case closing:
		s.i++
		return false, nil
	case ',':
		s.i++
		return true, nil
	}
	return false, s.unexpected()
}
