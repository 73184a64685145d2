package socket

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestOutbox pushes and takes bytes in all proportions and compares with a
// plain string.
func TestOutbox(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	o, want := &outbox{}, ""
	for i := range 10_000 {
		frame := fmt.Sprintf("<%d %s>", i, strings.Repeat("x", random.IntN(20)))
		skip := 0
		if o.empty() {
			skip = random.IntN(len(frame))
		}
		o.push([]byte(frame), skip, int64(i))
		want += frame[skip:]
		if random.IntN(3) > 0 {
			continue
		}
		if got := string(o.appendBytes(nil, len(want))); got != want {
			t.Fatalf("step %d: got %q, want %q", i, got, want)
		}
		n := random.IntN(len(want) + 1)
		o.advance(n)
		want = want[n:]
		if o.empty() != (want == "") {
			t.Fatalf("step %d: empty is %t with %d bytes left", i, o.empty(), len(want))
		}
	}
	cost := 0
	for _, e := range o.entries[o.head:] {
		cost += frameCost(e.frame)
	}
	if o.cost != cost {
		t.Errorf("cost is %d, want %d", o.cost, cost)
	}
}

// TestOutboxDrop: what has begun stays, because half a frame would make the
// rest unreadable.
func TestOutboxDrop(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		written, busy int
		want          string
	}{
		{0, 0, ""},
		{2, 0, "rst"},
		{0, 2, "firstsecond"},
	} {
		o := &outbox{}
		for i, f := range []string{"first", "second", "third"} {
			o.push([]byte(f), 0, int64(i))
		}
		o.advance(tc.written)
		o.busy = tc.busy
		o.drop()
		if got := string(o.appendBytes(nil, 100)); got != tc.want {
			t.Errorf("%d written, %d busy: got %q, want %q", tc.written, tc.busy, got, tc.want)
		}
	}
}
