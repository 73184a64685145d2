package replay

import (
	"hash/fnv"
	"strconv"
	"strings"

	"reecho/broker"
)

// Position is a place in the log of one channel: whoever has it has every event
// of the channel up to it. On the wire it is <epoch>-<tag>-<sequence>, opaque to
// applications: the epoch says which life of the stream the sequence is of, and
// which run of the server it was given in, the tag which channel, so that a position that strayed to another channel or app is
// noticed. It is no secret and grants nothing.
type Position struct {
	// Line is <epoch>-<tag>, the same for all positions of a channel in one
	// run of the server.
	Line     string
	Sequence uint64
}

// ParsePosition reads a position of any channel, ok false if text is none.
func ParsePosition(text string) (p Position, ok bool) {
	epoch, tag, digits, ok := splitPosition(text)
	if !ok {
		return Position{}, false
	}
	sequence, err := strconv.ParseUint(digits, 10, 64)
	return Position{Line: text[:len(epoch)+1+len(tag)], Sequence: sequence}, err == nil
}

// AppendTo appends p as it is on the wire.
func (p Position) AppendTo(dst []byte) []byte {
	return strconv.AppendUint(append(append(dst, p.Line...), '-'), p.Sequence, 10)
}

// String is p as it is on the wire.
func (p Position) String() string { return string(p.AppendTo(nil)) }

// Tag names the channel of p, see ChannelTag.
func (p Position) Tag() string {
	_, tag, _ := strings.Cut(p.Line, "-")
	return tag
}

// ChannelTag is the tag in all positions of a channel.
func ChannelTag(app, channel string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(app))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(channel))
	return strconv.FormatUint(uint64(h.Sum32()), 36)
}

// PositionTag is the tag in text, which need not be a position that can be
// parsed; "" if there is none.
func PositionTag(text string) string {
	_, tag, _, _ := splitPosition(text)
	return tag
}

// Line is what the positions of one channel have in common in one life of its
// stream. Those that are made in one run of the server differ from those of other
// runs, and tell of a sequence only if that run can have given it.
type Line struct {
	epoch, tag string
	text       string // <epoch>-<tag>, the epoch with the current run
	runs       broker.Runs
}

// LineOf returns the line of the channel of a log. On the wire the run follows the
// epoch without anything between.
func LineOf(log Log) Line {
	ref, runs := log.Ref(), log.Runs()
	l := NewLine(log.Epoch()+runs.Current(), ref.App, ref.Channel)
	l.epoch, l.runs = log.Epoch(), runs
	return l
}

// NewLine returns the line of a channel whose stream is in the epoch given and
// knows no runs.
func NewLine(epoch, app, channel string) Line {
	text := epoch + "-" + ChannelTag(app, channel)
	return Line{epoch: text[:len(epoch)], tag: text[len(epoch)+1:], text: text}
}

// At is the position of the event of a sequence.
func (l Line) At(sequence uint64) Position { return Position{Line: l.text, Sequence: sequence} }

// Parse reads a position of this line. Reason is "" or why text says nothing
// here: UnknownPosition, ForeignPosition, EpochChanged.
func (l Line) Parse(text string) (sequence uint64, reason Reason) {
	p, ok := ParsePosition(text)
	if !ok {
		return 0, UnknownPosition
	}
	return l.Check(p)
}

// Check is Parse for a position that was read before.
func (l Line) Check(p Position) (sequence uint64, reason Reason) {
	switch {
	case p.Line == l.text:
		return p.Sequence, ""
	case p.Tag() != l.tag:
		return 0, ForeignPosition
	case l.gave(p):
		return p.Sequence, ""
	}
	return 0, EpochChanged
}

// gave reports whether a run of this epoch, the current one or one before, can
// have made a position.
func (l Line) gave(p Position) bool {
	epoch, _, _ := strings.Cut(p.Line, "-")
	run, same := strings.CutPrefix(epoch, l.epoch)
	return same && l.runs.Gave(run, p.Sequence)
}

func splitPosition(text string) (epoch, tag, digits string, ok bool) {
	epoch, rest, ok := strings.Cut(text, "-")
	if !ok {
		return "", "", "", false
	}
	tag, digits, ok = strings.Cut(rest, "-")
	return epoch, tag, digits, ok
}
