package pusher

import (
	"errors"
	"fmt"
	"strings"
)

// Publish is one event of the HTTP API.
type Publish struct {
	Name     string
	Data     string // the data text, as subscribers get it
	Channels []string
	SocketID string // who does not get it, "" nobody; not checked
	Info     string // comma-separated attributes, "" none; not checked
}

var publishFields = fields{"name", "data", "channels", "channel", "socket_id", "info"}

// DecodePublish reads the body of POST /events (PROTOCOL §5.3). Data that is
// not a string becomes its compact JSON text. Both channels, a list or one
// name, and channel are read; channels wins. Limits are the caller's. The
// error is fit for the caller of the API.
func DecodePublish(body []byte) (Publish, error) { return DecodePublishQuery(body, nil) }

// DecodePublishQuery is DecodePublish with parameters that the body lacks
// taken from a decoded query. The body may be empty then.
func DecodePublishQuery(body []byte, query map[string][]string) (Publish, error) {
	var v [6][]byte
	if len(body) > 0 || len(query) == 0 {
		if err := checkObject(body); err != nil {
			return Publish{}, err
		}
		if err := decodeObject(body, publishFields, v[:]); err != nil {
			return Publish{}, fmt.Errorf("the body is not valid: %w", err)
		}
	}
	for i, name := range publishFields {
		if v[i] == nil && len(query[name]) > 0 {
			v[i] = quoted(query[name], name == "channels")
		}
	}
	return publish(v[:])
}

// quoted makes the JSON value of a query parameter.
func quoted(values []string, list bool) []byte {
	if !list {
		return AppendString(nil, strings.ToValidUTF8(values[len(values)-1], "\uFFFD"))
	}
	out := []byte{'['}
	for i, value := range values {
		if i > 0 {
			out = append(out, ',')
		}
		out = AppendString(out, strings.ToValidUTF8(value, "\uFFFD"))
	}
	return append(out, ']')
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
	if p.Name, err = stringValue(v[0], "name"); err != nil {
		return Publish{}, err
	}
	if v[1] == nil {
		return Publish{}, errors.New("data is missing")
	}
	p.Data = dataText(v[1])
	if p.Channels, err = channelList(v[2], v[3]); err != nil {
		return Publish{}, err
	}
	if p.SocketID, err = stringValue(v[4], "socket_id"); err != nil {
		return Publish{}, err
	}
	if !isNull(v[5]) && v[5][0] == '[' {
		list, err := stringList(v[5], "info")
		p.Info = strings.Join(list, ",")
		return p, err
	}
	p.Info, err = stringValue(v[5], "info")
	return p, err
}

func channelList(channels, channel []byte) ([]string, error) {
	if isNull(channels) {
		if isNull(channel) {
			return nil, errors.New("channels is missing")
		}
		name, err := stringValue(channel, "channel")
		return []string{name}, err
	}
	if channels[0] == '"' {
		name, err := stringValue(channels, "channels")
		return []string{name}, err
	}
	return stringList(channels, "channels")
}

// DecodeBatch reads the body of POST /batch_events: {"batch":[…]}, each element
// like POST /events with exactly one channel. How many there may be is the
// caller's to check.
func DecodeBatch(body []byte) ([]Publish, error) {
	if err := checkObject(body); err != nil {
		return nil, err
	}
	var v [1][]byte
	if err := decodeObject(body, fields{"batch"}, v[:]); err != nil {
		return nil, fmt.Errorf("the body is not valid: %w", err)
	}
	if isNull(v[0]) || v[0][0] != '[' {
		return nil, errors.New("batch is missing or not a list")
	}
	var batch []Publish
	s := scanner{b: v[0]}
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
	var v [6][]byte
	if err := s.object(1, publishFields, v[:]); err != nil {
		return Publish{}, err
	}
	p, err := publish(v[:])
	if err == nil && len(p.Channels) != 1 {
		err = fmt.Errorf("it names %d channels, should be one", len(p.Channels))
	}
	return p, err
}
