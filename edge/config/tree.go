package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// tree is a value of a file: a map, a list, or a single value as it is written.
// It knows no numbers: an id of 0123 or a secret of 1e5 is text, and what is
// a number is told by the setting.
type tree struct {
	line   int  // from 1; 0 where it is not known
	null   bool // null, ~ or nothing at all
	text   string
	kind   kind
	keys   []string // of a map, in the file's order
	fields map[string]*tree
	list   []*tree
}

type kind int

const (
	single kind = iota
	mapping
	sequence
)

// maxNesting bounds what is read of a file of nothing but brackets.
const maxNesting = 100

// syntaxError is a mistake in a file, without the file's content: the lines
// around it may hold a secret.
type syntaxError struct {
	line int
	rule string
}

func (e *syntaxError) Error() string {
	if e.line == 0 {
		return e.rule
	}
	return fmt.Sprintf("line %d: %s", e.line, e.rule)
}

// parseTree reads YAML or JSON. An empty text is an empty map.
func parseTree(text []byte) (*tree, error) {
	// Editors on Windows begin a file with a byte order mark.
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if !utf8.Valid(text) {
		return nil, &syntaxError{line: invalidLine(text), rule: "there are bytes that are not UTF-8"}
	}
	if json.Valid(text) {
		// Not by way of YAML, which does not take all of JSON: tabs, for one.
		return parseJSON(text)
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, withoutContent(err)
	}
	r := &yamlReader{anchors: map[string]*tree{}}
	var found *tree
	for _, d := range file.Docs {
		if d.Body == nil || d.Body.Type() == ast.CommentType || d.Body.Type() == ast.DirectiveType {
			continue
		}
		// What stands in another one would be left out without a word.
		if found != nil {
			return nil, &syntaxError{line: d.Body.GetToken().Position.Line, rule: "there is a second document (---), where one is read"}
		}
		if found, err = r.node(d.Body, 0); err != nil {
			return nil, err
		}
	}
	if found == nil {
		found = &tree{kind: mapping}
	}
	return found, nil
}

// invalidLine is the line of the first bytes that are not UTF-8.
func invalidLine(text []byte) int {
	line := 1
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			break
		}
		if r == '\n' {
			line++
		}
		text = text[size:]
	}
	return line
}

// withoutContent keeps line and rule of an error of the YAML parser, whose
// Error has the lines around.
func withoutContent(err error) error {
	var e yaml.Error
	if !errors.As(err, &e) {
		return &syntaxError{rule: "it cannot be read"}
	}
	rule := e.GetMessage()
	switch {
	case strings.HasPrefix(rule, "mapping key "):
		rule = "a key is given twice"
	case strings.HasPrefix(rule, "found unknown escape"):
		rule = `a \ in double quotes stands before a character that it has no meaning with`
	case strings.HasSuffix(rule, "is a reserved character"):
		rule = "a value begins with a character that has a meaning of its own in YAML: put it into quotes"
	default:
		// What the parser quotes is the file's.
		rule, _, _ = strings.Cut(rule, `"`)
		rule = strings.TrimRight(rule, " :")
	}
	found := &syntaxError{rule: rule}
	if t := e.GetToken(); t != nil && t.Position != nil {
		found.line = t.Position.Line
	}
	return found
}

// yamlReader makes a tree of YAML nodes.
type yamlReader struct {
	// anchors are the values that aliases stand for. They are shared and not
	// copied: ten lines of aliases of aliases would else be billions of values.
	anchors map[string]*tree
}

// node reads a value. An anchor is known behind its value only, so that none can
// hold itself. Tags that are not YAML's own have a meaning in other programs
// (!secret, !vault, !Ref), and their text is not what was meant.
func (r *yamlReader) node(n ast.Node, depth int) (*tree, error) {
	line := n.GetToken().Position.Line
	if depth > maxNesting {
		return nil, &syntaxError{line: line, rule: "too many lists and maps in each other"}
	}
	switch v := n.(type) {
	case *ast.MappingNode:
		return r.mapping(line, v.Values, depth)
	case *ast.MappingValueNode:
		return r.mapping(line, []*ast.MappingValueNode{v}, depth)
	case *ast.SequenceNode:
		t := &tree{line: line, kind: sequence}
		for _, element := range v.Values {
			child, err := r.node(element, depth+1)
			if err != nil {
				return nil, err
			}
			t.list = append(t.list, child)
		}
		return t, nil
	case *ast.AnchorNode:
		t, err := r.node(v.Value, depth+1)
		if err == nil {
			r.anchors[v.Name.GetToken().Value] = t
		}
		return t, err
	case *ast.AliasNode:
		t, found := r.anchors[v.Value.GetToken().Value]
		if !found {
			return nil, &syntaxError{line: line, rule: "an alias (*) names no anchor (&) above it"}
		}
		return t, nil
	case *ast.TagNode:
		if !slices.Contains([]string{"!!str", "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq", "!"}, v.Start.Value) {
			return nil, &syntaxError{line: line, rule: "a tag (!) has no meaning here: put a value that begins with ! into quotes"}
		}
		return r.node(v.Value, depth+1)
	}
	return scalarNode(n, line)
}

// scalarNode takes a single value as it is written. The parser's numbers and
// booleans are not looked at: it has read 0123 as 83 by then.
func scalarNode(n ast.Node, line int) (*tree, error) {
	t := &tree{line: line}
	switch v := n.(type) {
	case *ast.LiteralNode:
		t.text = v.Value.Value
	case *ast.StringNode:
		t.text = v.Value
	case *ast.NullNode:
		t.null = true
		// Written as nothing at all, it is no text either.
		if v.Token.Type != token.ImplicitNullType {
			t.text = v.Token.Value
		}
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		t.text = n.GetToken().Value
	default:
		return nil, &syntaxError{line: line, rule: "it cannot be read"}
	}
	return t, nil
}

// mapping reads a map. What it has itself goes before what a merge key (<<) brings,
// wherever that stands, so merging comes last.
func (r *yamlReader) mapping(line int, values []*ast.MappingValueNode, depth int) (*tree, error) {
	t := &tree{line: line, kind: mapping, fields: map[string]*tree{}}
	var merged []*tree
	for _, pair := range values {
		child, err := r.node(pair.Value, depth+1)
		if err != nil {
			return nil, err
		}
		if pair.Key.IsMergeKey() {
			merged = append(merged, child)
			continue
		}
		key, err := keyText(pair.Key)
		if err == nil {
			err = t.add(key, child, pair.Key.GetToken().Position.Line)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, m := range merged {
		t.merge(m)
		for _, element := range m.list {
			t.merge(element)
		}
	}
	return t, nil
}

// keyText returns a key as it is written: 1 and true are names here.
func keyText(key ast.MapKeyNode) (string, error) {
	if explicit, is := key.(*ast.MappingKeyNode); is {
		return explicit.Value.GetToken().Value, nil
	}
	t, err := scalarNode(key, key.GetToken().Position.Line)
	if err != nil {
		return "", err
	}
	return t.text, nil
}

// add puts a field in. A key that is given twice is refused, in JSON too, where
// RFC 8259 §4 leaves it open: one of the two values would be ignored.
func (t *tree) add(key string, child *tree, line int) error {
	if _, twice := t.fields[key]; twice {
		return &syntaxError{line: line, rule: "a key is given twice"}
	}
	t.fields[key] = child
	t.keys = append(t.keys, key)
	return nil
}

// merge puts in the fields of a map that a merge key (<<) brings, for keys that
// are not there.
func (t *tree) merge(from *tree) {
	for _, key := range from.keys {
		if _, own := t.fields[key]; !own {
			t.fields[key] = from.fields[key]
			t.keys = append(t.keys, key)
		}
	}
}

// parseJSON reads valid JSON, numbers as they are written: as a float, an id of
// 12345678901234567890 would end in zeros.
func parseJSON(text []byte) (*tree, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	r := &jsonReader{decoder: d, text: text}
	return r.value(0)
}

// jsonReader makes a tree of the tokens of a decoder. Decoding into a map would
// lose the order of keys, their lines, and those that are given twice.
type jsonReader struct {
	decoder *json.Decoder
	text    []byte
}

// line is where the decoder is.
func (r *jsonReader) line() int {
	return 1 + bytes.Count(r.text[:r.decoder.InputOffset()], []byte("\n"))
}

func (r *jsonReader) value(depth int) (*tree, error) {
	next, err := r.decoder.Token()
	if err != nil || depth > maxNesting {
		return nil, &syntaxError{line: r.line(), rule: "it cannot be read as JSON"}
	}
	t := &tree{line: r.line()}
	switch v := next.(type) {
	case json.Delim:
		return t, r.nested(t, v, depth)
	case nil:
		t.null, t.text = true, "null"
	default:
		t.text = fmt.Sprint(v)
	}
	return t, nil
}

func (r *jsonReader) nested(t *tree, opening json.Delim, depth int) error {
	if opening == '[' {
		t.kind = sequence
	} else {
		t.kind, t.fields = mapping, map[string]*tree{}
	}
	for r.decoder.More() {
		key := ""
		if t.kind == mapping {
			name, err := r.decoder.Token()
			if err != nil {
				return &syntaxError{line: r.line(), rule: "it cannot be read as JSON"}
			}
			key = fmt.Sprint(name)
		}
		child, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		if t.kind == sequence {
			t.list = append(t.list, child)
		} else if err := t.add(key, child, child.line); err != nil {
			return err
		}
	}
	_, err := r.decoder.Token()
	return err
}

// value returns a single value as a setting takes it: false for one that is
// not set. A list of single values is joined by commas, as flags and variables
// have it, so that a setting has one way of being read.
func (t *tree) value() (string, bool, error) {
	if t == nil || t.null {
		return "", false, nil
	}
	switch t.kind {
	case mapping:
		return "", false, errors.New("should be a single value, not a map")
	case sequence:
		parts := make([]string, len(t.list))
		for i, element := range t.list {
			if element.kind != single {
				return "", false, errors.New("should be a list of single values")
			}
			parts[i] = element.text
		}
		return strings.Join(parts, ","), true, nil
	}
	return t.text, true, nil
}

// field returns what a map has under a key, or nil. t may be nil: no file was
// read, or a map is not there.
func (t *tree) field(key string) *tree {
	if t == nil {
		return nil
	}
	return t.fields[key]
}
