package broker

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// numbered is an event that a consumer delivers under a number.
type numbered struct {
	jetstream.Msg
	number uint64
}

// Metadata implements jetstream.Msg.
func (m numbered) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Sequence: jetstream.SequencePair{Consumer: m.number, Stream: 100 + m.number}}, nil
}

// A pass of which an event was lost on the way told every client that waited for it of
// a gap, as if it could not be read; it is read again.
func TestTornPassIsReadAgain(t *testing.T) {
	t.Parallel()
	if err := new(scanner).takeOne(numbered{number: 2}); !errors.Is(err, errTorn) || !errors.Is(err, ErrUnavailable) {
		t.Errorf("the first event is numbered 2: error %v, want %v", err, ErrUnavailable)
	}
}
