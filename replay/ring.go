package replay

import (
	"math"
	"sort"
)

// entryOverhead is what an entry costs beside its frames, about.
const entryOverhead = 112

// Entry is a stored event of a channel, ready to be sent.
type Entry struct {
	Sequence uint64
	Exclude  string // the socket id that does not get the event, "" none
	// Frame is finished for the wire and shared by all who get it. Positioned
	// is the same with the position; it is made when somebody wants it.
	Frame      []byte
	Positioned []byte
}

func (e *Entry) cost() int { return entryOverhead + len(e.Frame) + len(e.Positioned) }

// unknownBase is the base of a ring of which nothing is known: it covers no
// position.
const unknownBase = math.MaxUint64

// Ring holds the newest events of a channel without a hole: all of them above
// its base. It is pure; its owner locks it. The zero value must be started.
type Ring struct {
	base    uint64
	entries []Entry
	bytes   int
}

// Start empties the ring; it goes on behind the sequence of the newest event
// stored of the channel, or 0 if none is retained, in which case events that are
// gone may have been there.
func (r *Ring) Start(newest uint64) {
	*r = Ring{base: newest}
	if newest == 0 {
		r.Break()
	}
}

// Known reports whether any position is covered.
func (r *Ring) Known() bool { return r.base != unknownBase }

// Found says that the channel has no event up to sequence, for a ring that is
// not Known.
func (r *Ring) Found(sequence uint64) {
	if !r.Known() {
		r.base = sequence
	}
}

// Break forgets everything: events are missing behind the newest. The next event
// starts the ring anew.
func (r *Ring) Break() { *r = Ring{base: unknownBase} }

// Base is the lowest position that is covered.
func (r *Ring) Base() uint64 { return r.base }

// Bytes is the memory the events take, about.
func (r *Ring) Bytes() int { return r.bytes }

// Append adds the next event, which must be above all that are there.
func (r *Ring) Append(e Entry) {
	if !r.Known() {
		r.base = e.Sequence - 1
	}
	r.entries = append(r.entries, e)
	r.bytes += e.cost()
}

// Prepend adds the events after base and up to the ring's own base, which is
// upTo or below. It reports false, with nothing changed, if the ring has moved
// on so that events between would be missing.
func (r *Ring) Prepend(base, upTo uint64, entries []Entry) bool {
	if !r.Known() || r.base > upTo {
		return false
	}
	for len(entries) > 0 && entries[len(entries)-1].Sequence > r.base {
		entries = entries[:len(entries)-1]
	}
	if base >= r.base {
		return true
	}
	all := make([]Entry, 0, len(entries)+len(r.entries)+len(r.entries)/4)
	all = append(append(all, entries...), r.entries...)
	for i := range entries {
		r.bytes += entries[i].cost()
	}
	r.entries, r.base = all, base
	return true
}

// Covers reports whether After has every event between a position and end, the
// end of the channel.
func (r *Ring) Covers(position, end uint64) bool {
	return r.Known() && r.base <= position && position <= end
}

// After returns the events above a position that is covered. The slice is valid
// until the ring changes; its frames are for ever.
func (r *Ring) After(position uint64) []Entry {
	at := sort.Search(len(r.entries), func(i int) bool { return r.entries[i].Sequence > position })
	return r.entries[at:]
}

// All returns all events, as After does.
func (r *Ring) All() []Entry { return r.entries }

// Position makes sure that the entries of a slice of After have their
// positioned frames.
func (r *Ring) Position(entries []Entry, frame func(*Entry) []byte) {
	for i := range entries {
		if entries[i].Positioned == nil {
			entries[i].Positioned = frame(&entries[i])
			r.bytes += len(entries[i].Positioned)
		}
	}
}

// Trim drops the oldest events until at most events are left of at most bytes.
func (r *Ring) Trim(events, bytes int) {
	n := 0
	for left := len(r.entries); left > events || r.bytes > bytes && left > 0; left-- {
		e := &r.entries[n]
		r.bytes -= e.cost()
		r.base = e.Sequence
		*e = Entry{}
		n++
	}
	r.entries = r.entries[n:]
	if len(r.entries) == 0 {
		r.entries = nil
	}
}
