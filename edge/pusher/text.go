package pusher

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

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
