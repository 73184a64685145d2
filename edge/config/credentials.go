package config

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"reecho/edge/app"
)

// Characters that an id or a key cannot have: they stand in paths, and a key
// before a colon in auth strings.
const (
	notInID  = "/?#%\\"
	notInKey = notInID + ":"
)

// maxCredentialBytes bounds an id, a key and a secret: a longer one is a file
// that got into the wrong place.
const maxCredentialBytes = 1024

// validateCredentials looks for what can only be a slip, such as the carriage
// return of a file with Windows line ends: every signature would be wrong, and
// nothing would tell why. What Laravel itself signs with is only warned of.
func (c *Config) validateCredentials(where string, a *app.App) error {
	problems := []error{credentialProblem(where, "id", a.ID, notInID)}
	for i, pair := range a.Credentials {
		at := where
		if len(a.Credentials) > 1 {
			at = fmt.Sprintf("%s, pair %d", where, i+1)
		}
		problems = append(problems, credentialProblem(at, "key", pair.Key, notInKey))
		err := credentialProblem(at, "secret", pair.Secret, "")
		if err != nil && c.asLaravel[a] {
			c.Warnings = append(c.Warnings, err.Error()+" (it is used as it is, for Laravel reads the same)")
			continue
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// credentialProblem says what is wrong with a credential, and nothing of it: where
// key and secret were exchanged, the key is the secret, and logs are read by many.
func credentialProblem(where, what, text, forbidden string) error {
	rule := textRule(text)
	if rule == "" {
		rule = nameRule(text, forbidden)
	}
	if rule == "" {
		return nil
	}
	return fmt.Errorf("%s: the %s %s", where, what, rule)
}

// textRule says what no credential can have been meant to hold, "" for nothing.
func textRule(text string) string {
	if len(text) > maxCredentialBytes {
		return fmt.Sprintf("is %d bytes long: at most %d", len(text), maxCredentialBytes)
	}
	if !utf8.ValidString(text) {
		return "is not UTF-8"
	}
	runes := []rune(text)
	for i, r := range runes {
		// Cf: zero-width characters and byte order marks, as a web page leaves them
		// in what is copied from it.
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return fmt.Sprintf("%s %s: take it out", place(i, len(runes)), nameOf(r))
		}
	}
	if n := len(runes); n > 0 {
		first, last := runes[0], runes[n-1]
		switch {
		case unicode.IsSpace(last):
			return "ends with a blank: take it out"
		case unicode.IsSpace(first):
			return "begins with a blank: take it out"
		// docker run --env-file takes quotes as a part of the value.
		case n > 1 && first == last && (first == '"' || first == '\''):
			return "stands in quotes that are part of it: take them out"
		}
	}
	return ""
}

func place(i, n int) string {
	switch i {
	case n - 1:
		return "ends with"
	case 0:
		return "begins with"
	}
	return "holds"
}

// nameOf names a character that cannot be seen.
func nameOf(r rune) string {
	switch r {
	case '\r':
		return "a carriage return (control character)"
	case '\n':
		return "a line feed (control character)"
	case '\t':
		return "a tab (control character)"
	}
	if unicode.IsControl(r) {
		return fmt.Sprintf("the control character %U", r)
	}
	return fmt.Sprintf("the invisible character %U", r)
}

// nameRule is for what stands in paths. Clients and proxies take a dot or two out
// of them (RFC 3986 §5.2.4), and what is signed is another path then.
func nameRule(text, forbidden string) string {
	if forbidden == "" {
		return ""
	}
	if i := strings.IndexAny(text, forbidden); i >= 0 {
		return fmt.Sprintf("holds a character that has a meaning in URLs or signatures: %q", text[i])
	}
	if strings.ContainsFunc(text, unicode.IsSpace) {
		return "holds a character that has a meaning in URLs or signatures: a blank"
	}
	if text == "." || text == ".." {
		return "is a dot or two, which have a meaning in URLs"
	}
	return ""
}
