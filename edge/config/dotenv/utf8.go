package dotenv

import (
	"strings"
	"unicode/utf8"
)

// validUTF8 puts a ? for what is not UTF-8, as PHP's mb_convert_encoding does:
// one for each run of bytes that could have become a character.
func validUTF8(text []byte) string {
	if utf8.Valid(text) {
		return string(text)
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			size = brokenRun(text)
			b.WriteByte('?')
		} else {
			b.Write(text[:size])
		}
		text = text[size:]
	}
	return b.String()
}

// brokenRun is the length of the longest beginning of a character at the
// beginning of text, at least 1.
func brokenRun(text []byte) int {
	n := 1
	// FullRune is false for what more bytes could complete.
	for n < len(text) && !utf8.FullRune(text[:n]) && !utf8.FullRune(text[:n+1]) {
		n++
	}
	return n
}
