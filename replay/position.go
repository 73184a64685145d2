package replay

import (
	"hash/fnv"
	"strconv"
	"strings"
)

// Positions makes and reads the positions of one channel. On the wire a
// position is <epoch>-<tag>-<sequence>, opaque to applications: the epoch says
// which life of the stream the sequence is of, the tag which channel, so that a
// position that strayed to another channel or app is noticed. It is no secret
// and grants nothing.
type Positions struct {
	prefix string // epoch-tag-
	epoch  string
	tag    string
}

// NewPositions returns the positions of a channel whose stream is in the epoch
// given.
func NewPositions(epoch, app, channel string) Positions {
	prefix := epoch + "-" + ChannelTag(app, channel) + "-"
	return Positions{prefix: prefix, epoch: prefix[:len(epoch)], tag: prefix[len(epoch)+1 : len(prefix)-1]}
}

// ChannelTag is the tag of the positions of a channel.
func ChannelTag(app, channel string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(app))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(channel))
	return strconv.FormatUint(uint64(h.Sum32()), 36)
}

// PositionTag is the tag in a position, "" if it has none.
func PositionTag(position string) string {
	_, tag, _, _ := splitPosition(position)
	return tag
}

// Append appends the position of an event.
func (p Positions) Append(dst []byte, sequence uint64) []byte {
	return strconv.AppendUint(append(dst, p.prefix...), sequence, 10)
}

// Parse reads a position of this channel. Reason is "" or why the position
// says nothing here.
func (p Positions) Parse(text string) (sequence uint64, reason Reason) {
	epoch, tag, digits, ok := splitPosition(text)
	if !ok {
		return 0, UnknownPosition
	}
	sequence, err := strconv.ParseUint(digits, 10, 64)
	switch {
	case err != nil:
		return 0, UnknownPosition
	case tag != p.tag:
		return 0, ForeignPosition
	case epoch != p.epoch:
		return 0, EpochChanged
	}
	return sequence, ""
}

func splitPosition(text string) (epoch, tag, digits string, ok bool) {
	epoch, rest, ok := strings.Cut(text, "-")
	if !ok {
		return "", "", "", false
	}
	tag, digits, ok = strings.Cut(rest, "-")
	return epoch, tag, digits, ok
}

// Prefix is what all positions of the channel begin with; the sequence follows.
func (p Positions) Prefix() string { return p.prefix }
