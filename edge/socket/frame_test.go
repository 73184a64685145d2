package socket

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// Joined frames come apart as what they were, at every size of header, and a
// buffer that ends in the middle gives what is whole.
func TestMessages(t *testing.T) {
	t.Parallel()
	texts := []string{"", "a", strings.Repeat("b", 125), strings.Repeat("c", 126), strings.Repeat("d", 0xffff), strings.Repeat("e", 0x10000), "f"}
	var joined []byte
	var ends []int
	for _, text := range texts {
		joined = append(joined, Frame([]byte(text))...)
		ends = append(ends, len(joined))
	}
	for whole, end := range ends {
		for _, cut := range []int{end - 1, end, end + 1} {
			cut = min(cut, len(joined))
			var got []string
			for m := range Messages(joined[:cut]) {
				got = append(got, string(m))
			}
			want := texts[:whole+1]
			if cut < end {
				want = texts[:whole]
			}
			if !slices.Equal(got, want) {
				t.Errorf("cut at %d: %d messages, want %d", cut, len(got), len(want))
			}
		}
	}
	for m := range Messages(joined) {
		if !bytes.Equal(m, nil) {
			t.Errorf("the first message is %q", m)
		}
		break
	}
	for range Messages([]byte{textByte, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0}) {
		t.Error("a length beyond all was taken")
	}
}
