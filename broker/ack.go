package broker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
)

// ack is what a stream says of a stored event.
type ack struct {
	sequence  uint64
	duplicate bool // it had the event already, from an earlier try
	// passing: the error that comes with it is about now, and not for good.
	passing bool
}

// parseAck reads {"stream":"…","seq":n[,"duplicate":true]} without
// encoding/json, which costs as much as the rest of an acknowledgement.
// Anything else, above all an error, goes the slow way.
func parseAck(data []byte) (ack, error) {
	_, rest, found := bytes.Cut(data, []byte(`"seq":`))
	if !found || !bytes.HasPrefix(data, []byte(`{"stream":`)) {
		return parseRareAck(data)
	}
	n := 0
	for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
		n++
	}
	sequence, err := strconv.ParseUint(string(rest[:n]), 10, 64)
	if err != nil {
		return parseRareAck(data)
	}
	return ack{sequence: sequence, duplicate: bytes.Contains(rest[n:], []byte(`"duplicate":true`))}, nil
}

// Codes of answers that are about the event and not about the stream
// (nats-server, errors.json).
const (
	codeMessageTooLarge = 10054
	codeHeaderTooLarge  = 10097
)

// parseRareAck reads an answer of any form. Its errors are ErrTooLarge, which is
// about the event, and ErrUnavailable, about the stream: trying again may help.
func parseRareAck(data []byte) (ack, error) {
	var answer struct {
		Sequence  uint64 `json:"seq"`
		Duplicate bool   `json:"duplicate"`
		Error     *struct {
			ErrorCode   jetstream.ErrorCode `json:"err_code"`
			Description string              `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return ack{}, fmt.Errorf("%w: read its answer: %w", ErrUnavailable, err)
	}
	switch e := answer.Error; {
	case e != nil && (e.ErrorCode == codeMessageTooLarge || e.ErrorCode == codeHeaderTooLarge):
		return ack{}, fmt.Errorf("%w: %s", ErrTooLarge, e.Description)
	case e != nil:
		return ack{passing: passingCodes[e.ErrorCode]},
			fmt.Errorf("%w: it refused the event: %s (code %d)", ErrUnavailable, e.Description, e.ErrorCode)
	case answer.Sequence == 0:
		return ack{}, fmt.Errorf("%w: [unexpected] answer: %.100s", ErrUnavailable, data)
	}
	return ack{sequence: answer.Sequence, duplicate: answer.Duplicate}, nil
}
