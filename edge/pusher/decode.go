package pusher

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Message is what a client sent.
type Message struct {
	Event   string
	Channel string
	// Data is the raw JSON value, nil when absent. It aliases the input.
	Data []byte
}

var messageFields = fields{"event", "channel", "data"}

// DecodeMessage reads a client's text message (PROTOCOL §1.4): an object with a
// string event and, if present, a string channel; other keys are ignored. The
// error is fit for the client.
func DecodeMessage(frame []byte) (Message, error) {
	var v [3][]byte
	if err := decodeObject(frame, messageFields, v[:]); err != nil {
		return Message{}, err
	}
	if isNull(v[0]) {
		return Message{}, errors.New("event is missing")
	}
	event, err := nameValue(v[0], "event")
	if err != nil {
		return Message{}, err
	}
	channel, err := nameValue(v[1], "channel")
	if err != nil {
		return Message{}, err
	}
	return Message{Event: event, Channel: channel, Data: v[2]}, nil
}

// decodeData reads the data of a pusher: command, an object or a string that
// holds one (PROTOCOL §1.4).
func decodeData(data []byte, keys fields, values [][]byte) error {
	if isNull(data) {
		return errors.New("data is missing")
	}
	if data[0] == '"' {
		data = []byte(text(data[1 : len(data)-1]))
	}
	s := scanner{b: data}
	if s.peek() != '{' {
		return errors.New("data is not an object")
	}
	return decodeObject(data, keys, values)
}

// Subscribe is the data of pusher:subscribe.
type Subscribe struct {
	Channel     string
	Auth        string
	ChannelData string
	// HasChannelData distinguishes an empty channel_data from none.
	HasChannelData bool
	// Replay and Grant are nil for a stock client.
	Replay *Replay
	Grant  *Claim
}

var subscribeFields = fields{"channel", "auth", "channel_data", "replay", "grant"}

// DecodeSubscribe reads the data of pusher:subscribe (PROTOCOL §2.3). An absent
// or null auth is "". The error is fit for the client.
func DecodeSubscribe(data []byte) (Subscribe, error) {
	var v [5][]byte
	if err := decodeData(data, subscribeFields, v[:]); err != nil {
		return Subscribe{}, err
	}
	if isNull(v[0]) {
		return Subscribe{}, errors.New("channel is missing")
	}
	replay, err := decodeReplay(v[3])
	if err != nil {
		return Subscribe{}, err
	}
	grant, err := decodeClaim(v[4])
	if err != nil {
		return Subscribe{}, err
	}
	in := Subscribe{HasChannelData: !isNull(v[2]), Replay: replay, Grant: grant}
	if in.Channel, err = nameValue(v[0], "channel"); err != nil {
		return Subscribe{}, err
	}
	if in.Auth, err = nameValue(v[1], "auth"); err != nil {
		return Subscribe{}, err
	}
	if in.ChannelData, err = stringValue(v[2], "channel_data"); err != nil {
		return Subscribe{}, err
	}
	return in, nil
}

// DecodeUnsubscribe reads the data of pusher:unsubscribe.
func DecodeUnsubscribe(data []byte) (channel string, err error) {
	in, err := DecodeSubscribe(data)
	return in.Channel, err
}

// Signin is the data of pusher:signin.
type Signin struct {
	Auth     string
	UserData string
	Grant    *Claim // nil for a stock client
}

var signinFields = fields{"auth", "user_data", "grant"}

// DecodeSignin reads the data of pusher:signin (PROTOCOL §2.7).
func DecodeSignin(data []byte) (Signin, error) {
	var v [3][]byte
	if err := decodeData(data, signinFields, v[:]); err != nil {
		return Signin{}, err
	}
	if isNull(v[1]) {
		return Signin{}, errors.New("user_data is missing")
	}
	auth, err := nameValue(v[0], "auth")
	if err != nil {
		return Signin{}, err
	}
	grant, err := decodeClaim(v[2])
	if err != nil {
		return Signin{}, err
	}
	userData, err := stringValue(v[1], "user_data")
	return Signin{Auth: auth, UserData: userData, Grant: grant}, err
}

// Member is who a client is on a presence channel.
type Member struct {
	// ID is the user id as a string; the number 42 and "42" are the same.
	ID string
	// Info is compact JSON, nil when absent or null.
	Info []byte
}

var memberFields = fields{"user_id", "user_info"}

// DecodeChannelData reads channel_data (PROTOCOL §2.5). maxID is in
// characters, maxInfo in bytes.
func DecodeChannelData(channelData string, maxID, maxInfo int) (Member, error) {
	var v [2][]byte
	if err := decodeInner(channelData, memberFields, v[:]); err != nil {
		return Member{}, err
	}
	id, err := identity(v[0])
	if err != nil {
		return Member{}, err
	}
	if n := utf8.RuneCountInString(id); n > maxID {
		return Member{}, over("user_id_length", "user_id is %d characters, limit %d", n, maxID)
	}
	info, err := userInfo(v[1], maxInfo)
	return Member{ID: id, Info: info}, err
}

// identity is the canonical form of a user_id, a string or an integer.
func identity(value []byte) (string, error) {
	if isNull(value) {
		return "", errors.New("user_id is missing")
	}
	if value[0] != '"' {
		if !slices.ContainsFunc(value, func(c byte) bool { return c != '-' && (c < '0' || c > '9') }) {
			return string(value), nil
		}
		return "", errors.New("user_id is neither a string nor an integer")
	}
	id, err := nameValue(value, "user_id")
	if err == nil && id == "" {
		err = errors.New("user_id is empty")
	}
	return id, err
}

// memberDepth is how deep the data of a presence channel's success nests what it
// says of a member.
const memberDepth = 3

// decodeInner is decodeObject of a text of which the parts end up that much
// deeper in a frame: they must not make the whole deeper than what clients read.
func decodeInner(text string, keys fields, values [][]byte) error {
	s := scanner{b: []byte(text)}
	if err := s.object(memberDepth, keys, values); err != nil {
		return err
	}
	return s.end()
}

func userInfo(value []byte, maxInfo int) ([]byte, error) {
	if isNull(value) {
		return nil, nil
	}
	info := appendCompact(make([]byte, 0, len(value)), value)
	if len(info) > maxInfo {
		return nil, over("user_info_bytes", "user_info is %d bytes, limit %d", len(info), maxInfo)
	}
	// It goes to all members within one JSON text, which would be lost to those
	// whose parser refuses the number.
	if number := hugeNumber(info); number != "" {
		return nil, fmt.Errorf("user_info holds a number that is too large for JSON clients: %s", Cut(number))
	}
	return info, nil
}

// hugeNumber returns the first number in checked JSON that no float64 can hold.
func hugeNumber(value []byte) string {
	s := scanner{b: value}
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			_, _ = s.text() // checked
		case c == '-' || c >= '0' && c <= '9':
			start := s.i
			_ = s.number() // checked
			number := string(s.b[start:s.i])
			if _, err := strconv.ParseFloat(number, 64); err != nil {
				return number
			}
		default:
			s.i++
		}
	}
	return ""
}

// User is a signed-in user.
type User struct {
	ID        string
	Info      []byte // compact JSON, nil when absent or null
	Watchlist []string
}

var userFields = fields{"id", "user_info", "watchlist"}

// DecodeUserData reads user_data (PROTOCOL §2.7): the id must be a non-empty
// string, because pusher-js gives up on any other.
func DecodeUserData(userData string, maxID, maxInfo int) (User, error) {
	var v [3][]byte
	if err := decodeInner(userData, userFields, v[:]); err != nil {
		return User{}, err
	}
	if isNull(v[0]) {
		return User{}, errors.New("id is missing")
	}
	id, err := nameValue(v[0], "id")
	if err != nil {
		return User{}, err
	}
	if err := CheckUserID(id, maxID); err != nil {
		return User{}, err
	}
	info, err := userInfo(v[1], maxInfo)
	if err != nil {
		return User{}, err
	}
	watchlist, err := watchlist(v[2], maxID)
	return User{ID: id, Info: info, Watchlist: watchlist}, err
}

// watchlist decodes the users to watch, each once.
func watchlist(value []byte, maxID int) ([]string, error) {
	list, err := nameList(value, "watchlist")
	if err != nil {
		return nil, err
	}
	for _, id := range list {
		if err := CheckUserID(id, maxID); err != nil {
			return nil, fmt.Errorf("watchlist: %w", err)
		}
	}
	return unique(list), nil
}

// unique drops from list, in place, what stands in it before.
func unique(list []string) []string {
	const few = 8
	if len(list) <= few {
		kept := list[:0]
		for _, s := range list {
			if !slices.Contains(kept, s) {
				kept = append(kept, s)
			}
		}
		return kept
	}
	seen := make(map[string]struct{}, len(list))
	return slices.DeleteFunc(list, func(s string) bool {
		_, again := seen[s]
		seen[s] = struct{}{}
		return again
	})
}

// nameList decodes a raw value that must be an array of strings; absent and
// null are nil.
func nameList(value []byte, name string) ([]string, error) {
	if isNull(value) {
		return nil, nil
	}
	if value[0] != '[' {
		return nil, fmt.Errorf("%s is not a list", name)
	}
	list := []string{}
	s := scanner{b: value}
	for first := true; ; first = false {
		more, err := s.element(0, first)
		if err != nil || !more {
			return list, err
		}
		element, err := s.value(1)
		if err != nil {
			return nil, err
		}
		if element[0] != '"' {
			return nil, fmt.Errorf("%s holds something that is not a string", name)
		}
		text, err := nameValue(element, name)
		if err != nil {
			return nil, err
		}
		list = append(list, text)
	}
}

// ClientEventData is the text to deliver for the raw data of a client event: a
// string's content as it is, any other value as compact JSON (PROTOCOL §1.5).
// It is valid UTF-8, with U+FFFD for what was no text, also inside of a string
// that is JSON. Absent data is "null", which pusher-js decodes to null.
func ClientEventData(raw []byte) string { return validData(dataText(raw)) }

func dataText(raw []byte) string {
	switch {
	case raw == nil:
		return "null"
	case raw[0] == '"':
		return text(raw[1 : len(raw)-1])
	}
	return string(appendCompact(make([]byte, 0, len(raw)), raw))
}

// EventData returns the data of a frame made by AppendEvent.
func EventData(frame []byte) (string, error) {
	m, err := DecodeMessage(frame)
	if err != nil {
		return "", err
	}
	return dataText(m.Data), nil
}
