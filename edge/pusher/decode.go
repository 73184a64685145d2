package pusher

import (
	"errors"
	"fmt"
	"slices"
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
	event, err := stringValue(v[0], "event")
	if err != nil {
		return Message{}, err
	}
	channel, err := stringValue(v[1], "channel")
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
		data = []byte(unescape(data[1 : len(data)-1]))
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
	// Replay is nil for a stock client.
	Replay *Replay
}

var subscribeFields = fields{"channel", "auth", "channel_data", "replay"}

// DecodeSubscribe reads the data of pusher:subscribe (PROTOCOL §2.3). An absent
// or null auth is "". The error is fit for the client.
func DecodeSubscribe(data []byte) (Subscribe, error) {
	var v [4][]byte
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
	var texts [3]string
	for i := range texts {
		if texts[i], err = stringValue(v[i], subscribeFields[i]); err != nil {
			return Subscribe{}, err
		}
	}
	return Subscribe{
		Channel: texts[0], Auth: texts[1], ChannelData: texts[2], HasChannelData: !isNull(v[2]), Replay: replay,
	}, nil
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
}

var signinFields = fields{"auth", "user_data"}

// DecodeSignin reads the data of pusher:signin (PROTOCOL §2.7).
func DecodeSignin(data []byte) (Signin, error) {
	var v [2][]byte
	if err := decodeData(data, signinFields, v[:]); err != nil {
		return Signin{}, err
	}
	if isNull(v[1]) {
		return Signin{}, errors.New("user_data is missing")
	}
	auth, err := stringValue(v[0], "auth")
	if err != nil {
		return Signin{}, err
	}
	userData, err := stringValue(v[1], "user_data")
	return Signin{Auth: auth, UserData: userData}, err
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
	if err := decodeObject([]byte(channelData), memberFields, v[:]); err != nil {
		return Member{}, err
	}
	id, err := identity(v[0])
	if err != nil {
		return Member{}, err
	}
	if n := utf8.RuneCountInString(id); n > maxID {
		return Member{}, fmt.Errorf("user_id is %d characters, limit %d", n, maxID)
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
	id := unescape(value[1 : len(value)-1])
	if id == "" {
		return "", errors.New("user_id is empty")
	}
	return id, nil
}

func userInfo(value []byte, maxInfo int) ([]byte, error) {
	if isNull(value) {
		return nil, nil
	}
	info := appendCompact(make([]byte, 0, len(value)), value)
	if len(info) > maxInfo {
		return nil, fmt.Errorf("user_info is %d bytes, limit %d", len(info), maxInfo)
	}
	return info, nil
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
	if err := decodeObject([]byte(userData), userFields, v[:]); err != nil {
		return User{}, err
	}
	if isNull(v[0]) {
		return User{}, errors.New("id is missing")
	}
	id, err := stringValue(v[0], "id")
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
	watchlist, err := stringList(v[2], "watchlist")
	return User{ID: id, Info: info, Watchlist: watchlist}, err
}

// stringList decodes a raw value that must be an array of strings; absent and
// null are nil.
func stringList(value []byte, name string) ([]string, error) {
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
		list = append(list, unescape(element[1:len(element)-1]))
	}
}

// ClientEventData is the text to deliver for the raw data of a client event: a
// string's content as it is, any other value as compact JSON (PROTOCOL §1.5).
// Absent data is "null", which pusher-js decodes to null.
func ClientEventData(raw []byte) string { return dataText(raw) }

func dataText(raw []byte) string {
	switch {
	case raw == nil:
		return "null"
	case raw[0] == '"':
		return unescape(raw[1 : len(raw)-1])
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
