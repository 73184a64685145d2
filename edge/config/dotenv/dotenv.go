// Package dotenv reads files of environment variables in the dialect of
// phpdotenv 5, which is what Laravel reads its .env with. The dialects of other
// readers differ in quotes, escapes, comments and variables, so a secret that
// Laravel signs with would be another text here. It does no I/O.
package dotenv

import (
	"fmt"
	"regexp"
	"strings"
)

// LineError is an entry of a file that could not be read, without any of its
// content: that may be a password.
type LineError struct {
	Line int    // the entry's first line, from 1
	Last int    // its last line
	Rule string // what the entry breaks, and what to write
	// Names are what the lines of the entry look as if they set.
	Names []string
}

// Error says line and rule.
func (e *LineError) Error() string {
	if e.Last > e.Line {
		return fmt.Sprintf("lines %d to %d: %s", e.Line, e.Last, e.Rule)
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Rule)
}

// Parse reads the text of a file. env is the real environment: it is what
// ${NAME} means where it has NAME, even empty; else what the file said before
// counts. Values holds what the file sets, also where env has the name; of a
// name that is set twice, the last; lines has where each of them begins, from 1. An
// entry that cannot be read is skipped: phpdotenv refuses the whole file then.
func Parse(text []byte, env func(name string) (string, bool)) (values map[string]string, lines map[string]int, problems []*LineError) {
	p := &parser{env: env, values: map[string]string{}, lines: map[string]int{}}
	p.read(splitLines(validUTF8(text)))
	return p.values, p.lines, p.problems
}

type parser struct {
	env      func(name string) (string, bool)
	values   map[string]string
	lines    map[string]int
	problems []*LineError
}

// lineEnd is also what a lone carriage return is.
var lineEnd = regexp.MustCompile(`\r\n|\n|\r`)

func splitLines(text string) []string {
	return lineEnd.Split(strings.TrimPrefix(text, "\ufeff"), -1)
}

// read gathers lines to entries. Whether an entry goes on in the next line is
// told by double quotes alone, before comments are looked at, as in phpdotenv:
// a comment with an opening ="… swallows lines, too.
func (p *parser) read(lines []string) {
	for i := 0; i < len(lines); i++ {
		last, complete := entryEnd(lines, i)
		if !complete {
			p.swallow(lines, i)
			return
		}
		raw := strings.Join(lines[i:last+1], "\n")
		if t := trim(raw); t == "" || t[0] == '#' {
			i = last
			continue
		}
		if rule := p.entry(raw, i+1); rule != "" {
			// Only the first line is given up: what a stray quote drew into
			// its value may be good lines.
			p.problems = append(p.problems, &LineError{Line: i + 1, Last: i + 1, Rule: rule, Names: names(lines[i : i+1])})
			continue
		}
		i = last
	}
}

// swallow is for a value that no quote ends. phpdotenv ignores it and all
// behind it, without a word.
func (p *parser) swallow(lines []string, i int) {
	last := len(lines)
	for last > i+1 && lines[last-1] == "" {
		last--
	}
	p.problems = append(p.problems, &LineError{
		Line: i + 1, Last: last, Names: names(lines[i:]),
		Rule: `a value that begins with " has no closing ", so that this line and all behind it are ignored; Laravel ignores them, too`,
	})
}

// entryEnd returns the last line of the entry that begins at line i, and false
// if it never ends.
func entryEnd(lines []string, i int) (int, bool) {
	if !opensQuote(lines[i]) {
		return i, true
	}
	for i++; i < len(lines); i++ {
		if closesQuote(lines[i], opensQuote(lines[i])) {
			return i, true
		}
	}
	return 0, false
}

// opensQuote tells whether the value of a line goes on in the next one.
func opensQuote(line string) bool {
	return strings.Contains(line, `="`) && !closesQuote(line, true)
}

// closesQuote counts the quotes that are not escaped. One at the very beginning
// of a line does not count, unless it stands alone: phpdotenv looks at pairs of
// bytes.
func closesQuote(line string, opened bool) bool {
	if line == `"` {
		return true
	}
	line = strings.ReplaceAll(line, `\\`, "")
	count := 0
	for i := 1; i < len(line); i++ {
		if line[i] == '"' && line[i-1] != '\\' {
			count++
		}
	}
	if opened {
		return count > 1
	}
	return count >= 1
}

// entry reads one entry that begins at a line and returns the rule that it breaks.
func (p *parser) entry(raw string, line int) string {
	name, text, hasValue := strings.Cut(raw, "=")
	if hasValue {
		if name = trim(name); name == "" {
			return "nothing stands before the ="
		}
	}
	name, ok := parseName(name)
	if !ok {
		return "a name is made of letters, digits, _ and . alone, with nothing but = behind it"
	}
	if !hasValue {
		delete(p.values, name)
		delete(p.lines, name)
		return ""
	}
	v, rule := parseValue(trim(text))
	if rule == "" {
		p.values[name], p.lines[name] = v.resolve(p.lookup), line
	}
	return rule
}

func (p *parser) lookup(name string) (string, bool) {
	if text, found := p.env(name); found {
		return text, true
	}
	text, found := p.values[name]
	return text, found
}

// parseName drops quotes and a leading export.
func parseName(name string) (string, bool) {
	// phpdotenv does not see an export before a name of one character.
	if rest, found := strings.CutPrefix(name, "export"); found && len([]rune(name)) > 8 && isSpace(rest[:1]) {
		name = strings.TrimLeft(rest, blanks)
	}
	if n := len(name); len([]rune(name)) >= 3 && (name[0] == '"' || name[0] == '\'') && name[n-1] == name[0] {
		name = name[1 : n-1]
	}
	return name, name != "" && strings.Trim(name, nameCharacters) == ""
}

const nameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_."

// lineName is what a line looks as if it sets, whether it can be read or not.
var lineName = regexp.MustCompile(`^\s*(?:export\s+)?['"]?([a-zA-Z0-9_.]+)`)

func names(lines []string) []string {
	var found []string
	for _, line := range lines {
		if m := lineName.FindStringSubmatch(line); m != nil {
			found = append(found, m[1])
		}
	}
	return found
}

// blanks are what PHP's trim drops; spaces are what its \s and ctype_space
// mean.
const (
	blanks = " \n\r\t\v\x00"
	spaces = " \n\r\t\v\f"
)

func trim(text string) string { return strings.Trim(text, blanks) }

// isSpace tells whether a text is spaces and nothing else.
func isSpace(text string) bool { return strings.Trim(text, spaces) == "" }
