package dotenv

import (
	"regexp"
	"strings"
)

// value is a parsed value: its text, and where in it a $ may begin a variable.
type value struct {
	text strings.Builder
	vars []int
}

// state is where in a value the parser is.
type state int

const (
	initial state = iota
	unquoted
	singleQuoted
	doubleQuoted
	escape
	behind // whatever ended the value, only a comment may come
	comment
)

// Rules that a value can break.
const (
	ruleBehind = "something stands behind the value: put a value with blanks into double quotes"
	ruleEscape = `a \ in double quotes can stand before " \ $ f n r t v alone: write \\ for a \ itself`
	ruleQuote  = "the closing quote is missing"
)

// parseValue takes quotes, escapes and comments away. text is trimmed.
func parseValue(text string) (*value, string) {
	v, at := &value{}, initial
	for text != "" {
		token := nextToken(text)
		text = text[len(token):]
		var rule string
		if at, rule = v.take(at, token); rule != "" {
			return nil, rule
		}
	}
	if at == singleQuoted || at == doubleQuoted || at == escape {
		return nil, ruleQuote
	}
	return v, ""
}

// marks are tokens of their own.
const marks = `\'"#$`

// nextToken returns a mark, a run of spaces, or a run of anything else.
func nextToken(text string) string {
	if strings.IndexByte(marks, text[0]) >= 0 {
		return text[:1]
	}
	end := len(text)
	if isSpace(text[:1]) {
		end -= len(strings.TrimLeft(text, spaces))
	} else if i := strings.IndexAny(text, marks+spaces); i >= 0 {
		end = i
	}
	return text[:end]
}

// take is a step of the automaton; it returns the next state, or the rule that
// the token breaks.
func (v *value) take(at state, token string) (state, string) {
	switch at {
	case initial, unquoted:
		return v.takeUnquoted(at, token), ""
	case singleQuoted:
		if token == "'" {
			return behind, ""
		}
		v.text.WriteString(token)
		return singleQuoted, ""
	case doubleQuoted:
		return v.takeQuoted(token), ""
	case escape:
		return v.takeEscape(token)
	case behind:
		switch {
		case token == "#":
			return comment, ""
		case !isSpace(token):
			return behind, ruleBehind
		}
	}
	return at, ""
}

func (v *value) takeUnquoted(at state, token string) state {
	first := at == initial
	switch {
	case first && token == "'":
		return singleQuoted
	case first && token == `"`:
		return doubleQuoted
	case token == "#": // also right behind a character, unlike in other dialects
		return comment
	case !first && isSpace(token):
		return behind
	case token == "$":
		v.vars = append(v.vars, v.text.Len())
	}
	v.text.WriteString(token)
	return unquoted
}

func (v *value) takeQuoted(token string) state {
	switch token {
	case `"`:
		return behind
	case `\`:
		return escape
	case "$":
		v.vars = append(v.vars, v.text.Len())
	}
	v.text.WriteString(token)
	return doubleQuoted
}

// escapes are the letters that mean something behind a backslash.
var escapes = map[byte]byte{'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}

func (v *value) takeEscape(token string) (state, string) {
	if token == `"` || token == `\` || token == "$" {
		v.text.WriteString(token)
		return doubleQuoted, ""
	}
	c, found := escapes[token[0]]
	if !found {
		return escape, ruleEscape
	}
	v.text.WriteByte(c)
	v.text.WriteString(token[1:])
	return doubleQuoted, ""
}

var variable = regexp.MustCompile(`^\$\{([a-zA-Z0-9_.]+)\}`)

// resolve puts in variables, the last first, so that ${A${B}} works. One that
// is not known stays as it is written.
func (v *value) resolve(lookup func(name string) (string, bool)) string {
	text := v.text.String()
	for i := len(v.vars) - 1; i >= 0; i-- {
		at := v.vars[i]
		m := variable.FindStringSubmatch(text[at:])
		if m == nil {
			continue
		}
		if with, found := lookup(m[1]); found {
			text = text[:at] + with + text[at+len(m[0]):]
		}
	}
	return text
}
