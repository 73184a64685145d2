package pusher

import (
	"errors"
	"fmt"
	"strings"
)

// Publish is one event to publish. Whatever made it, Check is for names and
// sizes.
type Publish struct {
	Name     string
	Data     string // the data text, as subscribers get it
	Channels []string
	SocketID string // who does not get it, "" nobody
	Info     string // comma-separated attributes, "" none; not checked
	// IdempotencyKey is what tries of the same publish have in common, "" none; it is
	// one that CheckIdempotencyKey takes. An event of a batch has none of its own.
	IdempotencyKey string
}

// PublishLimits bound one event.
type PublishLimits struct {
	EventNameLength   int // characters
	ChannelNameLength int // characters
	EventDataBytes    int // bytes of the data text, as subscribers get it
	Channels          int
}

// PublishError says why an event is not published. Nothing of the call it came with
// was stored. Its text is fit for the caller.
type PublishError struct {
	Event    int  // which of the events of the call, from 0
	TooLarge bool // it is a limit in bytes
	Reason   string
	Limit    string // see Error.Limit
}

// Error implements error.
func (r *PublishError) Error() string { return r.Reason }

func refuse(format string, args ...any) *PublishError {
	return &PublishError{Reason: Sentence(format, args...), Limit: LimitOf(args...)}
}

// TooLarge is a PublishError for the limit of an event's data, or what the store takes
// of it.
func TooLarge(format string, args ...any) *PublishError {
	return &PublishError{TooLarge: true, Reason: Sentence(format, args...), Limit: "event_data_bytes"}
}

// Check applies names and limits (PROTOCOL §3, §5.2), for every way an event
// comes in. It leaves the event as it is stored: each channel once, data as valid
// UTF-8, and as SocketID one that a connection of this server can have.
func (p *Publish) Check(l PublishLimits) *PublishError {
	if err := CheckEvent(p.Name, l.EventNameLength); err != nil {
		return refuse("%v", err)
	}
	if err := CheckPublishable(p.Name); err != nil {
		return refuse("%v", err)
	}
	p.Data = validData(p.Data)
	if len(p.Data) > l.EventDataBytes {
		return TooLarge("The data content of this event exceeds the allowed maximum (%d bytes)", l.EventDataBytes)
	}
	if refusal := p.checkChannels(l); refusal != nil {
		return refusal
	}
	return p.checkSocketID()
}

func (p *Publish) checkChannels(l PublishLimits) *PublishError {
	if n := len(p.Channels); n == 0 || n > l.Channels {
		refusal := refuse("An event goes to 1 to %d channels, got %d", l.Channels, n)
		if n > 0 {
			refusal.Limit = "channels_per_publish"
		}
		return refusal
	}
	encrypted := false
	for _, name := range p.Channels {
		if err := CheckChannel(name, l.ChannelNameLength); err != nil {
			return refuse("Invalid channel name: %v", err)
		}
		encrypted = encrypted || KindOf(name).Has(Encrypted)
	}
	if encrypted && len(p.Channels) > 1 {
		return refuse("An event for an encrypted channel goes to that channel alone")
	}
	p.Channels = unique(p.Channels)
	return nil
}

// maxSocketID is longer than any id that was ever given out, in bytes.
const maxSocketID = 100

func (p *Publish) checkSocketID() *PublishError {
	if p.SocketID == "" {
		return nil
	}
	if len(p.SocketID) > maxSocketID {
		return refuse("socket_id %s is %d bytes, limit %d", Quote(p.SocketID), len(p.SocketID), maxSocketID)
	}
	id, known, err := ParseSocketID(p.SocketID)
	if err != nil {
		return refuse("%v", err)
	}
	// The text goes no further: it is compared with what ids print.
	p.SocketID = ""
	if known {
		p.SocketID = id.String()
	}
	return nil
}

// FrameSize is how many bytes AppendEvent makes of an event without a user id.
func FrameSize(channel, event, data string) int {
	const syntax = len(`{"event":"","channel":"","data":""}`)
	return syntax + escapedSize(channel) + escapedSize(event) + escapedSize(data)
}

// maxIdempotencyKey is the length of a key, in characters.
const maxIdempotencyKey = 128

// CheckIdempotencyKey refuses what cannot stand in a header as it is. name is where it
// came from.
func CheckIdempotencyKey(key, name string) error {
	if key == "" {
		return fmt.Errorf("%s is empty, it should have 1 to %d characters", name, maxIdempotencyKey)
	}
	if len(key) > maxIdempotencyKey {
		return fmt.Errorf("%s %s is %d characters, limit %d", name, Quote(key), len(key), maxIdempotencyKey)
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return fmt.Errorf("%s %s has a character that is not visible ASCII", name, Quote(key))
		}
	}
	return nil
}

var publishFields = fields{"name", "data", "channels", "channel", "socket_id", "info", "idempotency_key"}

// DecodePublish reads the body of POST /events (PROTOCOL §5.3). Data that is
// not a string becomes its compact JSON text. Both channels, a list or one
// name, and channel are read; channels wins. Limits are the caller's. The
// error is fit for the caller of the API.
func DecodePublish(body []byte) (Publish, error) { return DecodePublishQuery(body, nil) }

// DecodePublishQuery is DecodePublish with parameters that the body lacks
// taken from a decoded query. The body may be empty then. Names in the query must
// be valid UTF-8, its data becomes that.
func DecodePublishQuery(body []byte, query map[string][]string) (Publish, error) {
	var v [7][]byte
	if len(body) > 0 || len(query) == 0 {
		if err := checkObject(body); err != nil {
			return Publish{}, err
		}
		if err := decodeObject(body, publishFields, v[:]); err != nil {
			return Publish{}, fmt.Errorf("the body is not valid: %w", err)
		}
	}
	for i, name := range publishFields {
		if v[i] != nil || len(query[name]) == 0 {
			continue
		}
		var err error
		if v[i], err = fromQuery(name, query[name]); err != nil {
			return Publish{}, err
		}
	}
	return publish(v[:])
}

// fromQuery makes the JSON value of a query parameter, which may stand there
// several times if it is a list.
func fromQuery(name string, values []string) ([]byte, error) {
	if name == "channels" || name == "info" {
		out := []byte{'['}
		for i, value := range values {
			if i > 0 {
				out = append(out, ',')
			}
			out = AppendString(out, value)
		}
		return append(out, ']'), nil
	}
	if len(values) > 1 {
		return nil, fmt.Errorf("%s stands %d times in the query", name, len(values))
	}
	return AppendString(nil, values[0]), nil
}

func checkObject(body []byte) error {
	s := scanner{b: body}
	switch s.peek() {
	case '{':
		return nil
	case 0:
		return errors.New("the body is empty, it should be a JSON object")
	}
	return errors.New("the body is not a JSON object")
}

// publish makes a Publish of the raw values of publishFields.
func publish(v [][]byte) (Publish, error) {
	var p Publish
	var err error
	if isNull(v[0]) {
		return Publish{}, errors.New("name is missing")
	}
	if p.Name, err = nameValue(v[0], "name"); err != nil {
		return Publish{}, err
	}
	if v[1] == nil {
		return Publish{}, errors.New("data is missing")
	}
	p.Data = dataText(v[1])
	if p.Channels, err = channelList(v[2], v[3]); err != nil {
		return Publish{}, err
	}
	if p.SocketID, err = nameValue(v[4], "socket_id"); err != nil {
		return Publish{}, err
	}
	if p.IdempotencyKey, err = keyValue(v[6]); err != nil {
		return Publish{}, err
	}
	if !isNull(v[5]) && v[5][0] == '[' {
		list, err := nameList(v[5], "info")
		p.Info = strings.Join(list, ",")
		return p, err
	}
	p.Info, err = nameValue(v[5], "info")
	return p, err
}

// keyValue reads an idempotency_key, "" if there is none.
func keyValue(value []byte) (string, error) {
	if isNull(value) {
		return "", nil
	}
	key, err := nameValue(value, "idempotency_key")
	if err == nil {
		err = CheckIdempotencyKey(key, "idempotency_key")
	}
	return key, err
}

func channelList(channels, channel []byte) ([]string, error) {
	if isNull(channels) {
		if isNull(channel) {
			return nil, errors.New("channels is missing")
		}
		name, err := nameValue(channel, "channel")
		return []string{name}, err
	}
	if channels[0] == '"' {
		name, err := nameValue(channels, "channels")
		return []string{name}, err
	}
	return nameList(channels, "channels")
}

// DecodeBatch reads the body of POST /batch_events: {"batch":[…]}, each element
// like POST /events with exactly one channel, and the idempotency_key of all of it, ""
// if there is none. How many there may be is the caller's to check.
func DecodeBatch(body []byte) (batch []Publish, key string, err error) {
	if err := checkObject(body); err != nil {
		return nil, "", err
	}
	var v [2][]byte
	if err := decodeObject(body, fields{"batch", "idempotency_key"}, v[:]); err != nil {
		return nil, "", fmt.Errorf("the body is not valid: %w", err)
	}
	if isNull(v[0]) || v[0][0] != '[' {
		return nil, "", errors.New("batch is missing or not a list")
	}
	if key, err = keyValue(v[1]); err != nil {
		return nil, "", err
	}
	batch, err = batchList(v[0])
	return batch, key, err
}

func batchList(list []byte) (batch []Publish, err error) {
	s := scanner{b: list}
	for first := true; ; first = false {
		more, err := s.element(0, first)
		if err != nil || !more {
			return batch, err
		}
		p, err := batchItem(&s)
		if err != nil {
			return nil, fmt.Errorf("batch event %d: %w", len(batch)+1, err)
		}
		batch = append(batch, p)
	}
}

func batchItem(s *scanner) (Publish, error) {
	if s.peek() != '{' {
		return Publish{}, errors.New("it is not an object")
	}
	var v [7][]byte
	if err := s.object(1, publishFields, v[:]); err != nil {
		return Publish{}, err
	}
	p, err := publish(v[:])
	if err == nil && len(p.Channels) != 1 {
		err = fmt.Errorf("it names %d channels, should be one", len(p.Channels))
	}
	if err == nil && p.IdempotencyKey != "" {
		err = errors.New("idempotency_key is for all of a batch and stands beside it, or in the header")
	}
	return p, err
}
