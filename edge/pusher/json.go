package pusher

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
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

// unescape decodes a raw string that text has checked. Half of a surrogate pair
// becomes U+FFFD; bytes that are not UTF-8 stay.
func unescape(raw []byte) string {
	at := bytes.IndexByte(raw, '\\')
	if at < 0 {
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
		r, n, _ := unicodeEscape(raw[i+1:])
		i += n
		out = utf8.AppendRune(out, r)
	}
	return string(out)
}

// unicodeEscape decodes the escape whose \u stands before b, with the second
// half of a surrogate pair: n bytes of b. The character is U+FFFD, and whole
// false, if the other half is missing.
func unicodeEscape(b []byte) (r rune, n int, whole bool) {
	r, _ = hex4(b)
	if !utf16.IsSurrogate(r) {
		return r, 4, true
	}
	if len(b) >= 10 && b[4] == '\\' && b[5] == 'u' {
		low, _ := hex4(b[6:])
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return pair, 10, true
		}
	}
	return utf8.RuneError, 4, false
}

// escaped maps the letter of an escape sequence to what it stands for.
var escaped = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// appendCompact appends checked JSON without the space between its tokens, and
// with U+FFFD for what is no text in its strings: strict parsers refuse the
// whole of it otherwise (RFC 8259 §8.2).
func appendCompact(dst, value []byte) []byte {
	start := len(dst)
	inString := false
	for i := 0; i < len(value); i++ {
		c := value[i]
		switch {
		case c == '\\':
			var n int
			dst, n = appendWhole(dst, value[i:])
			i += n - 1
			continue
		case c == '"':
			inString = !inString
		case !inString && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			continue
		}
		dst = append(dst, c)
	}
	if utf8.Valid(dst[start:]) {
		return dst
	}
	return append(dst[:start], bytes.ToValidUTF8(dst[start:], []byte(replacement))...)
}

// appendWhole appends the escape that b begins with, n bytes, or that of U+FFFD
// for half of a surrogate pair.
func appendWhole(dst, b []byte) (out []byte, n int) {
	n = 2
	if b[1] == 'u' {
		_, digits, whole := unicodeEscape(b[2:])
		if n += digits; !whole {
			return append(dst, `\ufffd`...), n
		}
	}
	return append(dst, b[:n]...), n
}

// wholeJSON is a JSON text with U+FFFD for each half of a surrogate pair, and
// otherwise as it is.
func wholeJSON(text string) string {
	if !strings.Contains(text, `\u`) {
		return text
	}
	out := make([]byte, 0, len(text))
	for b := []byte(text); len(b) > 0; {
		n := 1
		if b[0] == '\\' {
			out, n = appendWhole(out, b)
		} else {
			out = append(out, b[0])
		}
		b = b[n:]
	}
	return string(out)
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
// What is no text in it becomes U+FFFD.
func stringValue(value []byte, name string) (string, error) {
	raw, err := rawString(value, name)
	return text(raw), err
}

// nameValue is stringValue of a name, or of something else that must be exact:
// what is no text in it is an error.
func nameValue(value []byte, name string) (string, error) {
	raw, err := rawString(value, name)
	if err == nil {
		err = checkText(raw, name)
	}
	if err != nil {
		return "", err
	}
	return unescape(raw), nil
}

// rawString is the raw value without its quotes.
func rawString(value []byte, name string) ([]byte, error) {
	if isNull(value) {
		return nil, nil
	}
	if value[0] != '"' {
		return nil, fmt.Errorf("%s is not a string", name)
	}
	return value[1 : len(value)-1], nil
}

// replacement stands for what is no text.
const replacement = "\uFFFD"

// text decodes a raw string; what is no text in it becomes U+FFFD.
func text(raw []byte) string { return validText(unescape(raw)) }

func validText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, replacement)
}

// validData is the data of an event as clients get it: valid UTF-8 and, if it is
// a JSON text itself, as most libraries make it, with U+FFFD for halves of
// surrogate pairs in that. Other text may show a \ud83d as it is.
func validData(data string) string {
	data = validText(data)
	if !strings.Contains(data, `\ud`) && !strings.Contains(data, `\uD`) {
		return data
	}
	if s := (scanner{b: []byte(data)}); half(s.b) != nil {
		if _, err := s.value(0); err == nil && s.end() == nil {
			return wholeJSON(data)
		}
	}
	return data
}

// checkText refuses a raw string that is no text.
func checkText(raw []byte, name string) error {
	if !utf8.Valid(raw) {
		return fmt.Errorf("%s is not valid UTF-8", name)
	}
	if escape := half(raw); escape != nil {
		return fmt.Errorf("%s holds half of a character, the lone surrogate %s: text cut between the halves of an emoji?", name, escape)
	}
	return nil
}

// half returns the first escape of half of a surrogate pair, or nil.
func half(raw []byte) []byte {
	for at := bytes.IndexByte(raw, '\\'); at >= 0 && at < len(raw); at++ {
		if raw[at] != '\\' {
			continue
		}
		at++
		if at >= len(raw) || raw[at] != 'u' {
			continue
		}
		_, n, whole := unicodeEscape(raw[at+1:])
		if !whole {
			return raw[at-1 : min(at+5, len(raw))]
		}
		at += n
	}
	return nil
}
