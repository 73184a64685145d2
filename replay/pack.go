package replay

import (
	"encoding/binary"
	"errors"
	"fmt"

	"reecho/broker"
)

// packVersion is the first byte of packed events. A node that packs in another way
// is not understood, and those who ask it read the stream.
const packVersion = 1

// errPacked means that an answer is not what was asked for.
var errPacked = errors.New("not the packed events of a range")

// packEntries packs the events above a sequence: the version, how many there are, and
// for each how far its sequence is above the one before it, the length of Exclude
// and that, the length of the text and that. Numbers are varints.
func packEntries(entries []Entry, after uint64, text func(frame []byte) []byte) []byte {
	size := 1 + binary.MaxVarintLen64
	for i := range entries {
		size += 3*binary.MaxVarintLen32 + len(entries[i].Exclude) + len(entries[i].Frame)
	}
	b := binary.AppendUvarint(append(make([]byte, 0, size), packVersion), uint64(len(entries)))
	for i := range entries {
		e := &entries[i]
		b = binary.AppendUvarint(b, e.Sequence-after)
		after = e.Sequence
		b = append(binary.AppendUvarint(b, uint64(len(e.Exclude))), e.Exclude...)
		t := text(e.Frame)
		b = append(binary.AppendUvarint(b, uint64(len(t))), t...)
	}
	return b
}

// unpackEvents reads what packEntries made of a range. The frames are parts of b.
func unpackEvents(b []byte, after, upTo uint64) ([]broker.Event, error) {
	if len(b) == 0 || b[0] != packVersion {
		return nil, fmt.Errorf("%w: its version is not %d", errPacked, packVersion)
	}
	u := unpacker{rest: b[1:]}
	var events []broker.Event
	for range u.number() {
		step := u.number()
		ev := broker.Event{Sequence: after + step, Exclude: string(u.bytes()), Frame: u.bytes()}
		if u.short || step == 0 || step > upTo-after {
			return nil, fmt.Errorf("%w: event %d of those above %d is out of order or cut off", errPacked, len(events), after)
		}
		after = ev.Sequence
		events = append(events, ev)
	}
	if u.short || len(u.rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes are left", errPacked, len(u.rest))
	}
	return events, nil
}

// unpacker takes things off the front of packed ones.
type unpacker struct {
	rest  []byte
	short bool // something was not there
}

func (u *unpacker) number() uint64 {
	n, size := binary.Uvarint(u.rest)
	if size <= 0 {
		u.rest, u.short = nil, true
		return 0
	}
	u.rest = u.rest[size:]
	return n
}

func (u *unpacker) bytes() []byte {
	n := u.number()
	if n > uint64(len(u.rest)) {
		u.rest, u.short = nil, true
		return nil
	}
	b := u.rest[:n:n]
	u.rest = u.rest[n:]
	return b
}
