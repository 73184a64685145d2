package broker

import (
	"errors"
	"strconv"
)

// Roots of the subjects: {root}.{lane}.{app}.{channel} of events, nudge.{lane},
// store.{name}.{key}.
const (
	storedRoot = "h"
	liveRoot   = "l"
	nudgeRoot  = "nudge"
	storeRoot  = "store"
)

var errToken = errors.New("not a subject token of a name")

// Token maps any name to exactly one subject token, and different names to
// different tokens. The characters of Pusher names stay as they
// are, except that '.' becomes ':', which is not among them; every other byte
// becomes %XX. NATS takes a literal '*' or '>' in a publish, so a name that
// went in as it is could subscribe to everything.
func Token(name string) string {
	if name == "" {
		// A token must not be empty, and no other name gives a lone %.
		return "%"
	}
	plain := true
	for i := range len(name) {
		// The byte 0 is its own entry because it has none.
		if tokenBytes[name[i]] != name[i] || name[i] == 0 {
			plain = false
			break
		}
	}
	if plain {
		return name
	}
	const hex = "0123456789ABCDEF"
	token := make([]byte, 0, len(name)+16)
	for i := range len(name) {
		c := name[i]
		if t := tokenBytes[c]; t != 0 {
			token = append(token, t)
		} else {
			token = append(token, '%', hex[c>>4], hex[c&0xf])
		}
	}
	return string(token)
}

// tokenBytes maps a byte to what stands for it, 0 when that is an escape.
var tokenBytes = func() (table [256]byte) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-=@,;#") {
		table[c] = c
	}
	table['.'] = ':'
	return table
}()

// Untoken is the inverse of Token. It returns an error for text that Token
// never returns.
func Untoken(token string) (string, error) {
	if token == "%" {
		return "", nil
	}
	name := make([]byte, 0, len(token))
	for i := 0; i < len(token); i++ {
		switch c := token[i]; {
		case c == ':':
			name = append(name, '.')
		case c == '%' && i+2 < len(token):
			n, err := strconv.ParseUint(token[i+1:i+3], 16, 8)
			if err != nil {
				return "", errToken
			}
			name = append(name, byte(n))
			i += 2
		default:
			name = append(name, c)
		}
	}
	// Only the canonical spelling is a token: %41 is not A.
	if len(name) == 0 || Token(string(name)) != token {
		return "", errToken
	}
	return string(name), nil
}
