// Package pusher is the Pusher Channels protocol without any I/O: names,
// frames, strict decoding, error codes and signatures. It uses the standard
// library only. What comments cite as PROTOCOL is PROTOCOL.md beside it.
package pusher

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Kind is what a channel's name says about it; 0 is a public channel.
type Kind uint8

// The properties of a Kind (PROTOCOL §3).
const (
	Private      Kind = 1 << iota // subscriptions need authorisation
	Presence                      // subscribers are members
	Encrypted                     // the server does not see the data
	Cache                         // new subscribers get the last event
	ServerToUser                  // events for one signed-in user
)

// userChannelPrefix begins the names of the only internal channels clients see.
const userChannelPrefix = "#server-to-user-"

// kindPrefixes are tried in order, longest match first (PROTOCOL §3).
var kindPrefixes = [...]struct {
	prefix string
	kind   Kind
}{
	{"private-encrypted-cache-", Private | Encrypted | Cache},
	{"private-encrypted-", Private | Encrypted},
	{"private-cache-", Private | Cache},
	{"private-", Private},
	{"presence-cache-", Private | Presence | Cache},
	{"presence-", Private | Presence},
	{"cache-", Cache},
	{userChannelPrefix, ServerToUser},
}

// KindOf derives the kind from a channel's name. It is case-sensitive and does
// not check the name.
func KindOf(channel string) Kind {
	for i := range kindPrefixes {
		if strings.HasPrefix(channel, kindPrefixes[i].prefix) {
			return kindPrefixes[i].kind
		}
	}
	return 0
}

// Has reports whether k has every property of f.
func (k Kind) Has(f Kind) bool { return k&f == f }

// nameCharacters are the ASCII characters of channel names and user ids.
var nameCharacters = characterSet("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-=@,.;")

func characterSet(characters string) (set [256]bool) {
	for _, c := range []byte(characters) {
		set[c] = true
	}
	return set
}

// outside returns the first character of s that is not in nameCharacters.
func outside(s string) (r rune, found bool) {
	for i := range len(s) {
		if !nameCharacters[s[i]] {
			r, _ = utf8.DecodeRuneInString(s[i:])
			return r, true
		}
	}
	return 0, false
}

// CheckChannel returns an error, fit for the client, if channel is not a name
// that can be subscribed to or published on: empty, longer than maxLength
// characters, or with characters outside the protocol's set. A '#' may only
// begin #server-to-user-{id}.
func CheckChannel(channel string, maxLength int) error {
	if channel == "" {
		return errEmptyChannel
	}
	if n := utf8.RuneCountInString(channel); n > maxLength {
		return over("channel_name_length", "%s is %d characters, limit %d", Quote(channel), n, maxLength)
	}
	rest := channel
	if channel[0] == '#' {
		user, ok := strings.CutPrefix(channel, userChannelPrefix)
		if !ok || user == "" {
			return fmt.Errorf("%s is reserved, a # may only begin %s{user id}", Quote(channel), userChannelPrefix)
		}
		rest = user
	}
	if r, found := outside(rest); found {
		return fmt.Errorf("%s contains %q: letters, digits and any of _-=@,.; are allowed", Quote(channel), r)
	}
	return nil
}

// CheckEvent returns an error if an event's name is empty, not valid UTF-8 or
// longer than maxLength characters. Any character is allowed: Laravel publishes
// class names with backslashes.
func CheckEvent(name string, maxLength int) error {
	if name == "" {
		return errEmptyEvent
	}
	if !utf8.ValidString(name) {
		return errEventText
	}
	if n := utf8.RuneCountInString(name); n > maxLength {
		return over("event_name_length", "event name is %d characters, limit %d", n, maxLength)
	}
	return nil
}

// CheckPublishable returns an error for event names that only the server may
// send (PROTOCOL §3).
func CheckPublishable(event string) error {
	if strings.HasPrefix(event, "pusher:") || strings.HasPrefix(event, "pusher_internal:") {
		return fmt.Errorf("event name %s is reserved: names that begin with pusher: or pusher_internal: are the server's", Quote(event))
	}
	return nil
}

// IsClientEvent reports whether event is one that clients may send: its name
// begins with client-.
func IsClientEvent(event string) bool { return strings.HasPrefix(event, "client-") }

// CheckUserID returns an error if id is not a user id of the sign-in: empty,
// longer than maxLength characters, or with other characters than letters,
// digits and _-=@,.; (PROTOCOL §2.7).
func CheckUserID(id string, maxLength int) error {
	if id == "" {
		return errEmptyUserID
	}
	if n := utf8.RuneCountInString(id); n > maxLength {
		return over("user_id_length", "user id is %d characters, limit %d", n, maxLength)
	}
	if r, found := outside(id); found {
		return fmt.Errorf("user id %s contains %q: letters, digits and any of _-=@,.; are allowed", Quote(id), r)
	}
	return nil
}

// UserChannel is the channel of the events for one user.
func UserChannel(userID string) string { return userChannelPrefix + userID }

// UserOfChannel is the inverse of UserChannel; ok is false for other channels.
func UserOfChannel(channel string) (userID string, ok bool) {
	return strings.CutPrefix(channel, userChannelPrefix)
}
