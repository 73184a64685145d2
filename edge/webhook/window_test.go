package webhook

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"reecho/broker/brokertest/seed"
)

func newWindow() *window {
	return &window{batchEvents: 3, concurrency: 2, retryTime: time.Minute, limit: 1 << 20}
}

func itemOf(channel, id string) item {
	return item{Channel: channel, Events: []itemEvent{{ID: id, Made: 7, JSON: []byte("{}")}}}
}

func idsOf(b *batch) (ids []string) {
	for _, e := range b.entries {
		ids = append(ids, e.item.Events[0].ID)
	}
	return ids
}

// Whatever the endpoint answers: the events of a channel go in order and none at the same
// time as another, each until it is taken or given up, and then the line is empty.
func TestWindowModel(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(seed.First(t), 0))
	for range 50 {
		w := newWindow()
		w.batchTime = time.Duration(rng.IntN(2)) * time.Second
		now := time.Unix(1, 0)
		var under []*batch
		busy, next, gone := make(map[string]bool), make(map[string]int), make(map[uint64]bool)
		put, ended := make(map[string]int), 0
		removed := func() {
			upTo, others := w.removable()
			for s := uint64(1); s <= upTo; s++ {
				gone[s] = true
			}
			for _, s := range others {
				gone[s] = true
			}
		}
		const all = 200
		for sequence := uint64(0); sequence < all || ended < all; {
			if now = now.Add(time.Duration(rng.IntN(1000)) * time.Millisecond); now.After(time.Unix(1_000_000, 0)) {
				t.Fatal("it does not end")
			}
			switch rng.IntN(3) {
			case 0:
				if sequence < all {
					sequence++
					c := fmt.Sprint(rng.IntN(4))
					w.add(sequence, itemOf(c, fmt.Sprint(put[c])), 10, now)
					put[c]++
				}
			case 1:
				if b, _ := w.next(now); b != nil {
					if len(b.entries) > 3 || len(under) >= 2 {
						t.Fatalf("%d events, beside %d requests", len(b.entries), len(under))
					}
					for _, q := range b.queues {
						if busy[q.name] {
							t.Fatalf("channel %s is in two requests", q.name)
						}
						busy[q.name] = true
					}
					if b.tries == 0 {
						for _, e := range b.entries {
							if c := e.item.Channel; e.item.Events[0].ID != fmt.Sprint(next[c]) {
								t.Fatalf("channel %s has %s, want %d", c, e.item.Events[0].ID, next[c])
							}
							next[e.item.Channel]++
						}
					}
					under = append(under, b)
				}
			default:
				if len(under) == 0 {
					for _, e := range w.late(now) {
						next[e.item.Channel]++
						ended++
					}
					removed()
					continue
				}
				i := rng.IntN(len(under))
				b := under[i]
				under = slices.Delete(under, i, i+1)
				for _, q := range b.queues {
					busy[q.name] = false
				}
				if rng.IntN(3) == 0 {
					w.delivered(b)
					ended += b.events
				} else if w.failed(b, now) {
					for _, q := range b.queues {
						busy[q.name] = false // until it is tried again
					}
				} else {
					ended += b.events
				}
				removed()
			}
		}
		removed()
		if len(gone) != all || w.bytes != 0 || w.waiting != 0 || w.pending() != 0 || len(w.channels) != 0 {
			t.Fatalf("%d of %d are removed, %d bytes, %d wait, %d pend, %d channels", len(gone), all, w.bytes, w.waiting, w.pending(), len(w.channels))
		}
	}
}

// While one channel is tried again, others go on, and what they are done with is removed.
func TestWindowPoison(t *testing.T) {
	t.Parallel()
	w := newWindow()
	now := time.Unix(1, 0)
	w.add(1, itemOf("bad", "1"), 10, now)
	bad, _ := w.next(now)
	if !w.failed(bad, now) {
		t.Fatal("it is given up")
	}
	w.add(2, itemOf("bad", "2"), 10, now)
	w.add(3, itemOf("good", "3"), 10, now)
	good, _ := w.next(now)
	if got := idsOf(good); !slices.Equal(got, []string{"3"}) {
		t.Fatalf("got %q", got)
	}
	if b, wait := w.next(now); b != nil || wait < firstPause {
		t.Fatalf("%v, after %v", b, wait)
	}
	w.delivered(good)
	if upTo, others := w.removable(); upTo != 0 || !slices.Equal(others, []uint64{3}) {
		t.Errorf("removable are those up to %d, and %v", upTo, others)
	}
	now = now.Add(2 * time.Second)
	again, _ := w.next(now)
	if again != bad {
		t.Fatal("it is not tried again")
	}
	w.delivered(bad)
	b, _ := w.next(now)
	if got := idsOf(b); !slices.Equal(got, []string{"2"}) {
		t.Errorf("got %q", got)
	}
	if upTo, others := w.removable(); upTo != 1 || len(others) != 0 {
		t.Errorf("removable are those up to %d, and %v", upTo, others)
	}
}

// What one endpoint may have is bounded: the oldest go, but not what is under way.
func TestWindowFull(t *testing.T) {
	t.Parallel()
	w := newWindow()
	w.limit = 3 * (10 + entryCost)
	now := time.Unix(1, 0)
	w.add(1, itemOf("a", "1"), 10, now)
	b, _ := w.next(now)
	var dropped []uint64
	for s := uint64(2); s <= 6; s++ {
		for _, e := range w.add(s, itemOf("a", fmt.Sprint(s)), 10, now) {
			dropped = append(dropped, e.sequence)
		}
	}
	if !slices.Equal(dropped, []uint64{2, 3, 4}) {
		t.Errorf("dropped %v", dropped)
	}
	w.delivered(b)
	if b, _ = w.next(now); !slices.Equal(idsOf(b), []string{"5", "6"}) {
		t.Errorf("got %q", idsOf(b))
	}
	if upTo, _ := w.removable(); upTo != 4 {
		t.Errorf("removable are those up to %d", upTo)
	}
}

// Attempts end after the time for them (154), and what waited meanwhile with them.
func TestWindowLate(t *testing.T) {
	t.Parallel()
	w := newWindow()
	w.batchEvents, w.retryTime = 1, 5*time.Minute
	begin := time.Unix(1, 0)
	w.add(1, itemOf("a", "1"), 10, begin)
	w.add(2, itemOf("a", "2"), 10, begin)
	tries := 0
	pauses := []time.Duration{}
	for now := begin; ; {
		b, wait := w.next(now)
		if b == nil {
			if wait == 0 {
				break
			}
			if wait < firstPause {
				t.Errorf("a pause of %v", wait)
			}
			pauses = append(pauses, wait)
			now = now.Add(wait)
			continue
		}
		tries++
		if !w.failed(b, now) {
			if passed := now.Sub(begin); passed > 5*time.Minute || passed < 3*time.Minute {
				t.Errorf("it is given up after %v", passed)
			}
			break
		}
	}
	if tries < 8 || tries > 15 {
		t.Errorf("%d tries, with pauses %v", tries, pauses)
	}
	if got := w.late(begin.Add(5*time.Minute - 1)); len(got) != 0 {
		t.Errorf("too early: %v", got)
	}
	if got := w.late(begin.Add(5 * time.Minute)); len(got) != 1 || got[0].sequence != 2 {
		t.Errorf("got %v", got)
	}
}

func TestRetryPause(t *testing.T) {
	t.Parallel()
	for tries := 1; tries < 100; tries++ {
		low := lastPause
		if tries < 7 {
			low = min(firstPause<<(tries-1), lastPause)
		}
		for range 20 {
			if got := retryPause(tries); got < low || got >= low*3/2 {
				t.Fatalf("after %d tries: %v", tries, got)
			}
		}
	}
}
