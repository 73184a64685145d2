package socket

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// nobodyElse is an owner that is never asked.
type nobodyElse struct{}

func (nobodyElse) Shed() bool { return false }

func newQueue(b *Budget) *Queue {
	q := &Queue{}
	q.Init(b, nobodyElse{})
	return q
}

// TestQueue pushes and takes bytes in all proportions and compares with a
// plain string.
func TestQueue(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	q, want := newQueue(NewBudget(0, nil)), ""
	for i := range 10_000 {
		frame := fmt.Sprintf("<%d %s>", i, strings.Repeat("x", random.IntN(20)))
		skip := 0
		if q.Empty() {
			skip = random.IntN(len(frame))
		}
		q.Push(0, []byte(frame), skip, random.IntN(2) == 0)
		want += frame[skip:]
		if random.IntN(3) > 0 {
			continue
		}
		limit := random.IntN(len(want) + 10)
		if got := string(q.appendBytes(nil, limit)); got != want[:min(limit, len(want))] {
			t.Fatalf("step %d: got %q, want %q", i, got, want)
		}
		n := random.IntN(len(want) + 1)
		q.Advance(n)
		want = want[n:]
		if q.Empty() != (want == "") {
			t.Fatalf("step %d: empty is %t with %d bytes left", i, q.Empty(), len(want))
		}
	}
	cost, own := 0, 0
	for _, e := range q.entries[q.head:] {
		cost += refCost(e.frame)
		if e.own {
			own += refCost(e.frame)
		}
	}
	if q.cost != cost || q.own != own {
		t.Errorf("cost is %d, %d of answers, want %d, %d", q.cost, q.own, cost, own)
	}
}

// TestQueueDrop: what has begun stays, because half a frame would make the
// rest unreadable.
func TestQueueDrop(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		written, busy int
		want          string
	}{
		{0, 0, ""},
		{2, 0, "rst"},
		{0, 2, "firstsecond"},
	} {
		q := newQueue(NewBudget(0, nil))
		for _, f := range []string{"first", "second", "third"} {
			q.Push(0, []byte(f), 0, false)
		}
		q.Advance(tc.written)
		q.busy = tc.busy
		q.Drop()
		if got := string(q.appendBytes(nil, 100)); got != tc.want {
			t.Errorf("%d written, %d busy: got %q, want %q", tc.written, tc.busy, got, tc.want)
		}
	}
}
