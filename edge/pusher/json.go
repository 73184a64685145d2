package pusher

import (
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of what is decoded, so that hostile input cannot
// use up the stack.
const maxDepth = 64

var (
	errDepth     = fmt.Errorf("JSON is nested deeper than %d levels", maxDepth)
	errEnd       = errors.New("JSON ends too early")
	errTrailing  = errors.New("there is something behind the JSON value")
	errUTF8      = errors.New("JSON text is not valid UTF-8")
	errSurrogate = errors.New(`JSON text has a lone surrogate \u escape`)
	errControl   = errors.New("JSON string holds an unescaped control character")
)

// scanner reads JSON (RFC 8259) once, strictly: valid UTF-8, no lone
// surrogates, bounded depth. It hands out slices of its input. encoding/json
// would accept doubled keys and cost several times as much on paths that every
// client event and publish takes.
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
	ascii := true
	for s.i < len(s.b) {
		if plainText[s.b[s.i]] {
			s.i++
			continue
		}
		switch c := s.b[s.i]; {
		case c == '"':
			raw := s.b[start:s.i]
			s.i++
			if !ascii && !utf8.Valid(raw) {
				return nil, errUTF8
			}
			return raw, nil
		case c == '\\':
			if err := s.escape(); err != nil {
				return nil, err
			}
		case c < ' ':
			return nil, errControl
		default:
			ascii = ascii && c < utf8.RuneSelf
			s.i++
		}
	}
	return nil, errEnd
}

// plainText are the ASCII bytes that stand for themselves in a string.
var plainText = func() (table [256]bool) {
	for c := range utf8.RuneSelf {
		table[c] = !needsEscape[c]
	}
	return table
}()

// escape skips one escape sequence, a surrogate pair as one.
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
	r, ok := hex4(s.b[s.i:])
	if !ok {
		return s.unexpected()
	}
	s.i += 4
	if !utf16.IsSurrogate(r) {
		return nil
	}
	if len(s.b)-s.i < 6 || s.b[s.i] != '\\' || s.b[s.i+1] != 'u' {
		return errSurrogate
	}
	low, ok := hex4(s.b[s.i+2:])
	if !ok || utf16.DecodeRune(r, low) == utf8.RuneError {
		return errSurrogate
	}
	s.i += 6
	return nil
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
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

// unescape decodes a raw string that text has checked.
func unescape(raw []byte) string {
	at := 0
	for at < len(raw) && raw[at] != '\\' {
		at++
	}
	if at == len(raw) {
		return string(raw)
	}
	out := append(make([]byte, 0, len(raw)), raw[:at]...)
	for i := at; i < len(raw); i++ {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			continue
		}
		i++
		if raw[i] != 'u' {
			out = append(out, escaped[raw[i]])
			continue
		}
		r, _ := hex4(raw[i+1:])
		i += 4
		if utf16.IsSurrogate(r) {
			low, _ := hex4(raw[i+3:])
			r = utf16.DecodeRune(r, low)
			i += 6
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out)
}

// escaped maps the letter of an escape sequence to what it stands for.
var escaped = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// appendCompact appends checked JSON without the space between its tokens.
func appendCompact(dst, value []byte) []byte {
	inString := false
	for i := 0; i < len(value); i++ {
		c := value[i]
		switch {
		case inString && c == '\\':
			dst = append(dst, c)
			i++
			c = value[i]
		case c == '"':
			inString = !inString
		case !inString && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			continue
		}
		dst = append(dst, c)
	}
	return dst
}

// fields names the keys that an object is read for, at most 8. Doubled ones
// are an error: a check made on the first and an action taken on the second
// would be an attack.
type fields []string

// object reads one object into values, raw, in the order of keys; nil is
// absent. Other keys are skipped.
func (s *scanner) object(depth int, keys fields, values [][]byte) error {
	for first := true; ; first = false {
		key, more, err := s.member(depth, first)
		if err != nil || !more {
			return err
		}
		value, err := s.value(depth + 1)
		if err != nil {
			return err
		}
		i := keys.index(key)
		if i < 0 {
			continue
		}
		if values[i] != nil {
			return fmt.Errorf("JSON key %q stands twice", keys[i])
		}
		values[i] = value
	}
}

func (f fields) index(raw []byte) int {
	for i, key := range f {
		if string(raw) == key {
			return i
		}
	}
	for _, c := range raw {
		if c == '\\' {
			plain := unescape(raw)
			for i, key := range f {
				if plain == key {
					return i
				}
			}
			break
		}
	}
	return -1
}

// decodeObject reads a text that is one object.
func decodeObject(text []byte, keys fields, values [][]byte) error {
	s := scanner{b: text}
	if err := s.object(0, keys, values); err != nil {
		return err
	}
	return s.end()
}

// isNull reports whether a raw value is absent or null.
func isNull(value []byte) bool { return value == nil || value[0] == 'n' }

// stringValue decodes a raw value that must be a string; absent and null are "".
func stringValue(value []byte, name string) (string, error) {
	if isNull(value) {
		return "", nil
	}
	if value[0] != '"' {
		return "", fmt.Errorf("%s is not a string", name)
	}
	return unescape(value[1 : len(value)-1]), nil
}
