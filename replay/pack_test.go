package replay

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"reecho/broker"
)

func same(frame []byte) []byte { return frame }

func TestUnpackEvents(t *testing.T) {
	t.Parallel()
	entries := []Entry{{Sequence: 7, Frame: []byte("seven")}, {Sequence: 9, Exclude: "1.2", Frame: []byte{}}, {Sequence: 1 << 40, Frame: []byte("far")}}
	packed := packEntries(entries, 5, same)
	for _, tt := range []struct {
		name        string
		packed      []byte
		after, upTo uint64
		want        int // events, -1: an error
	}{
		{"all", packed, 5, 1 << 40, 3},
		{"none", packEntries(nil, 5, same), 5, 9, 0},
		{"nothing", nil, 5, 9, -1},
		{"another version", append([]byte{packVersion + 1}, packed[1:]...), 5, 1 << 40, -1},
		{"above the range", packed, 5, 1<<40 - 1, -1},
		{"cut off", packed[:len(packed)-1], 5, 1 << 40, -1},
		{"something left", append(bytes.Clone(packed), 0), 5, 1 << 40, -1},
		{"twice", packEntries([]Entry{{Sequence: 7}, {Sequence: 7}}, 5, same), 5, 9, -1},
		{"descending", packEntries([]Entry{{Sequence: 7}, {Sequence: 6}}, 5, same), 5, 9, -1},
	} {
		events, err := unpackEvents(tt.packed, tt.after, tt.upTo)
		switch {
		case tt.want < 0 && !errors.Is(err, errPacked):
			t.Errorf("%s: error %v, want %v", tt.name, err, errPacked)
		case tt.want >= 0 && (err != nil || !sameEvents(events, entries[:tt.want])):
			t.Errorf("%s: %v, %v", tt.name, events, err)
		}
	}
}

func sameEvents(events []broker.Event, entries []Entry) bool {
	for i, e := range entries {
		if i >= len(events) || events[i].Sequence != e.Sequence || events[i].Exclude != e.Exclude || !bytes.Equal(events[i].Frame, e.Frame) {
			return false
		}
	}
	return len(events) == len(entries)
}

// What can be unpacked is within its range, ascending, and the same when it is packed
// again.
func FuzzUnpackEvents(f *testing.F) {
	f.Add(packEntries([]Entry{{Sequence: 7, Frame: []byte("seven")}, {Sequence: 9, Exclude: "1.2"}}, 5, same), uint64(5), uint64(9))
	f.Add([]byte{packVersion, 0xff, 0xff, 0xff, 0xff, 0x0f, 1}, uint64(0), uint64(math.MaxUint64))
	f.Fuzz(func(t *testing.T, packed []byte, after, upTo uint64) {
		if upTo < after {
			return // nobody asks for that
		}
		events, err := unpackEvents(packed, after, upTo)
		if err != nil {
			return
		}
		var entries []Entry
		before := after
		for _, ev := range events {
			if ev.Sequence <= before || ev.Sequence > upTo {
				t.Fatalf("%d behind %d, of a range up to %d", ev.Sequence, before, upTo)
			}
			before = ev.Sequence
			entries = append(entries, Entry{Sequence: ev.Sequence, Exclude: ev.Exclude, Frame: ev.Frame})
		}
		again, err := unpackEvents(packEntries(entries, after, same), after, upTo)
		if err != nil || !sameEvents(again, entries) {
			t.Fatalf("%v, %v; want %v", again, err, entries)
		}
	})
}
