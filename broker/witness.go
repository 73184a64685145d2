package broker

import (
	"fmt"
	"log/slog"
)

// Witness is a Dialer whose server remembers of its streams what they could not
// tell if they had lost something while it did not run.
type Witness interface {
	Dialer
	// Acknowledged is the newest sequence that a stream had promised when the server
	// started, as far as it is known.
	Acknowledged(stream string) uint64
	// Damaged says of a stream whose files are not as the server left them what is
	// wrong, else "".
	Damaged(stream string) string
	// Copied reports that the data is a copy, which may be older than what was used
	// last.
	Copied() bool
	// Watch begins to look after a stream, which has been compared with what was
	// kept before; last is its newest sequence. What it promises from now on is to be
	// given to acknowledge before anybody hears of it.
	Watch(stream string, last uint64) (acknowledge func(sequence uint64), err error)
}

// watchLane has what a lane promises kept, from now on.
func (b *Broker) watchLane(l *lane) error {
	if b.witness == nil || !l.onDisk() {
		return nil
	}
	acknowledge, err := b.witness.Watch(l.stream, l.found)
	if err != nil {
		return fmt.Errorf("look after stream %s: %w", l.stream, err)
	}
	l.acknowledge = acknowledge
	return nil
}

// loss is what is known to be missing of a stream.
type loss struct {
	stream             string
	last, acknowledged uint64
	files              string // what is wrong with them
}

// lossOf compares a stream that ends with a sequence with what w, which may be nil,
// has kept.
func lossOf(w Witness, stream string, last uint64) (l loss, lost bool) {
	if w == nil {
		return l, false
	}
	l = loss{stream, last, w.Acknowledged(stream), w.Damaged(stream)}
	return l, l.acknowledged > last || l.files != ""
}

// attributes are for the log.
func (l loss) attributes() []any {
	attributes := []any{slog.String("stream", l.stream), slog.Uint64("last", l.last)}
	if l.acknowledged > l.last {
		attributes = append(attributes, slog.Uint64("acknowledged", l.acknowledged), slog.Uint64("lost_at_least", l.acknowledged-l.last))
	}
	return append(attributes, slog.String("files", l.files))
}
