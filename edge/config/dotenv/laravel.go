package dotenv

import "strings"

// Kind is what Laravel's env() makes of a variable.
type Kind int

// Kinds of variables.
const (
	Text  Kind = iota
	Unset      // null: env() returns its default
	True       // a boolean and not a text
	False
)

// Laravel returns what Laravel's env() makes of the value of a variable: some
// words are no text, and quotes that are left around a value are dropped.
func Laravel(text string) (string, Kind) {
	switch strings.ToLower(text) {
	case "true", "(true)":
		return "", True
	case "false", "(false)":
		return "", False
	case "empty", "(empty)":
		return "", Text
	case "null", "(null)":
		return "", Unset
	}
	if n := len(text); n >= 2 && (text[0] == '"' || text[0] == '\'') && text[n-1] == text[0] && !strings.Contains(text, "\n") {
		return text[1 : n-1], Text
	}
	return text, Text
}
