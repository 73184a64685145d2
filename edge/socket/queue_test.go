package socket

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"reecho/broker/brokertest/seed"
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
	random := rand.New(rand.NewPCG(seed.First(t), 2))
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

// TestBudget lets queues hold and let go of shared frames at random and
// compares what is counted with a plain count.
func TestBudget(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(seed.First(t), 0))
	b := NewBudget(0, nil)
	queues, frames := make([]*Queue, 5), make([][]byte, 40)
	for i := range queues {
		queues[i] = newQueue(b)
	}
	for i := range frames {
		frames[i] = make([]byte, 3000+random.IntN(10_000))
	}
	for step := range 3000 {
		q := queues[random.IntN(len(queues))]
		switch random.IntN(10) {
		case 0:
			q.Clear()
		case 1:
			q.Drop()
		case 2, 3, 4:
			left := -q.written
			for _, e := range q.entries[q.head:] {
				left += len(e.frame)
			}
			q.Advance(random.IntN(left + 1))
		default:
			q.Push(0, frames[random.IntN(len(frames))], 0, false)
		}
		checkBudget(t, step, b, queues)
	}
	for _, q := range queues {
		q.Clear()
	}
	if b.Held() != 0 || b.waiters.count() != 0 {
		t.Errorf("%d bytes of %d queues are left", b.Held(), b.waiters.count())
	}
}

func checkBudget(t *testing.T, step int, b *Budget, queues []*Queue) {
	t.Helper()
	refs := make(map[*byte]int)
	total := 0
	for _, q := range queues {
		for _, e := range q.entries[q.head:] {
			if !e.booked {
				continue
			}
			if refs[&e.frame[0]]++; refs[&e.frame[0]] == 1 {
				total += len(e.frame)
			}
			total += refOverhead
		}
	}
	if b.Held() != total {
		t.Fatalf("step %d: %d bytes are held, want %d", step, b.Held(), total)
	}
	for i, q := range queues {
		alone := 0
		for _, e := range q.entries[q.head:] {
			if e.booked && refs[&e.frame[0]] == 1 {
				alone += len(e.frame)
			}
		}
		if got := int(q.alone.Load()); got != alone {
			t.Fatalf("step %d: queue %d holds %d alone, want %d", step, i, got, alone)
		}
		if known := q.id != 0; q.Empty() && known {
			t.Fatalf("step %d: empty queue %d is known", step, i)
		}
	}
}

// TestPatience: the more wait the more time they have, for what they share is
// slow; so has the last of them, until it takes something.
func TestPatience(t *testing.T) {
	t.Parallel()
	const timeout = 10 * time.Second
	for others, want := range map[int]time.Duration{
		0: timeout, 48: timeout, 49: 2 * timeout, 299: 12 * timeout, 999: 40 * timeout, 5000: 60 * timeout,
	} {
		b := NewBudget(0, nil)
		frame := make([]byte, 2*unbookedBytes)
		last := newQueue(b)
		last.Push(0, frame, 0, false)
		served := make([]*Queue, others)
		for i := range served {
			served[i] = newQueue(b)
			served[i].Push(0, frame, 0, false)
		}
		last.tick(time.Second, taken{})
		for _, q := range served {
			q.Clear()
		}
		last.tick(2*time.Second, taken{})
		if got := last.patience(timeout); got != want {
			t.Errorf("with %d others: patience %s, want %s", others, got, want)
		}
		last.Advance(1)
		last.tick(3*time.Second, taken{})
		if got := last.patience(timeout); got != timeout {
			t.Errorf("with %d others, after progress: patience %s", others, got)
		}
	}
}

// isDrained reports whether a channel of Drained is closed.
func isDrained(drained <-chan struct{}) bool {
	select {
	case <-drained:
		return true
	default:
		return false
	}
}

// TestQueueDrained: whatever empties a queue is told to those who asked, once,
// and who asks later hears of the next time.
func TestQueueDrained(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		do   func(q *Queue)
		want bool
	}{
		"written":       {func(q *Queue) { q.Advance(10) }, true},
		"half written":  {func(q *Queue) { q.Advance(7) }, false},
		"done":          {func(q *Queue) { q.Front(nil, 100); q.Done() }, true},
		"half done":     {func(q *Queue) { q.Front(nil, 1); q.Done() }, false},
		"dropped":       {func(q *Queue) { q.Drop() }, true},
		"dropped begun": {func(q *Queue) { q.Advance(1); q.Drop() }, false},
		"cleared":       {func(q *Queue) { q.Clear() }, true},
		"sealed":        {func(q *Queue) { q.Seal() }, true},
		"sealed empty":  {func(q *Queue) { q.Seal(); q.Clear() }, true},
	} {
		q := newQueue(NewBudget(0, nil))
		if !isDrained(q.Drained()) {
			t.Errorf("%s: not drained although empty", name)
		}
		for _, f := range []string{"first", "later"} {
			q.Push(0, []byte(f), 0, false)
		}
		drained := q.Drained()
		if isDrained(drained) || q.Drained() != drained {
			t.Errorf("%s: drained while something waits, or another channel", name)
		}
		tc.do(q)
		if got := isDrained(drained); got != tc.want {
			t.Errorf("%s: drained is %t, want %t", name, got, tc.want)
		}
		q.Clear()
		q.Push(0, []byte("next"), 0, false)
		if got := isDrained(q.Drained()); got != q.sealed {
			t.Errorf("%s: with another frame drained is %t, sealed %t", name, got, q.sealed)
		}
	}
}
