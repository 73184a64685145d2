package pusher

import (
	"fmt"
)

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
