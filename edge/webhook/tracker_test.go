package webhook

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"reecho/broker/brokertest/seed"
	"reecho/edge/pusher"
)

// doAll does all that there is to do, as a worker does whose store never fails.
func doAll(t *tracker, done func(p place, s step)) {
	for t.pending() > 0 {
		l, steps, _ := t.next()
		for _, s := range steps {
			done(l.place, s)
			t.done(l, s, true)
		}
		t.release(l)
	}
}

// Against a model: at any moment a subject is told as present if it is, or was within the
// grace; of each it is told in turn that it is, and is not.
func TestTrackerModel(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(seed.First(t), 0))
	const grace = 10 * time.Second
	tr := newTracker(grace, 1<<20)
	now := time.Unix(1, 0)
	type id struct {
		p place
		s subject
	}
	present, told, seen := make(map[id]bool), make(map[id]bool), make(map[id]time.Time)
	var ids []id
	for c := range 3 {
		p := place{"77", fmt.Sprint("presence-", c)}
		ids = append(ids, id{p, subject{}}, id{p, subject{member: true, user: "ada"}}, id{p, subject{member: true, user: ""}})
	}
	for range 20_000 {
		now = now.Add(time.Duration(rng.Int64N(int64(grace / 4))))
		i := ids[rng.IntN(len(ids))]
		if rng.IntN(2) == 0 {
			if present[i] {
				seen[i] = now
			}
			present[i] = !present[i]
			tr.set(i.p, i.s, present[i], now)
		}
		if rng.IntN(3) > 0 {
			continue
		}
		tr.expire(now)
		doAll(tr, func(p place, s step) {
			i := id{p, s.subject}
			if told[i] == s.present {
				t.Fatalf("%v is told twice as %v", i, s.present)
			}
			told[i] = s.present
		})
		for _, i := range ids {
			recently := !seen[i].IsZero() && now.Sub(seen[i]) < grace
			if present[i] && !told[i] || told[i] && !present[i] && !recently {
				t.Fatalf("%v is present %v, told %v, seen %v ago", i, present[i], told[i], now.Sub(seen[i]))
			}
		}
	}
	for _, i := range ids {
		tr.set(i.p, i.s, false, now)
	}
	tr.expire(now.Add(grace))
	doAll(tr, func(place, step) {})
	if len(tr.lanes) != 0 || len(tr.leaves) != 0 || tr.bytes != 0 {
		t.Errorf("of nobody it keeps %d lanes, %d leaves, %d bytes", len(tr.lanes), len(tr.leaves), tr.bytes)
	}
}

// One worker at a time does what is about a channel, and what comes meanwhile comes after.
func TestTrackerBusy(t *testing.T) {
	t.Parallel()
	tr := newTracker(time.Second, 1<<20)
	p, now := place{"77", "a"}, time.Unix(1, 0)
	tr.set(p, subject{}, true, now)
	l, steps, _ := tr.next()
	if len(steps) != 1 || !steps[0].present {
		t.Fatalf("got %+v", steps)
	}
	tr.set(p, subject{}, false, now)
	tr.expire(now.Add(time.Second))
	if len(tr.ready) != 0 {
		t.Fatal("it is given to a second worker")
	}
	tr.done(l, steps[0], true)
	tr.release(l)
	l, steps, _ = tr.next()
	if len(steps) != 1 || steps[0].present {
		t.Errorf("got %+v", steps)
	}
	// What was not done is done when there is a reason to look again.
	tr.done(l, steps[0], false)
	tr.release(l)
	tr.set(p, subject{}, true, now)
	tr.set(p, subject{}, false, now)
	tr.expire(now.Add(time.Second))
	if l, steps, _ = tr.next(); len(steps) != 1 || steps[0].present {
		t.Errorf("got %+v", steps)
	}
	tr.release(l)
}

func TestTrackerEvents(t *testing.T) {
	t.Parallel()
	count := func(n int) *told {
		e := pusher.WebhookEvent{Name: pusher.WebhookSubscriptionCount, Channel: "a", Count: n}
		return &told{name: e.Name, json: e.Append(nil)}
	}
	event := &told{name: pusher.WebhookClientEvent, json: []byte("{}")}
	tr := newTracker(time.Second, 4*toldCost+20)
	p := place{"77", "a"}
	for n := range 10 {
		if !tr.tell(p, count(n)) { // the newest count is enough
			t.Fatalf("count %d was refused", n)
		}
	}
	if !tr.tell(p, event) || !tr.tell(p, count(1)) || tr.tell(p, event) {
		t.Error("the limit is not what it should be")
	}
	l, steps, _ := tr.next()
	if len(steps) != 3 || string(steps[0].event.json) != string(count(9).json) || tr.bytes != 0 {
		t.Errorf("%d steps, %d bytes", len(steps), tr.bytes)
	}
	tr.release(l)
	if len(tr.lanes) != 0 {
		t.Error("a lane is left")
	}
	tr.close()
	if _, _, ok := tr.next(); ok {
		t.Error("after close")
	}
}

// What others have removed of this node is recorded again.
func TestTrackerLost(t *testing.T) {
	t.Parallel()
	tr := newTracker(time.Second, 1)
	p := place{"77", "presence-a"}
	member := subject{member: true, user: "ada"}
	tr.set(p, subject{}, true, time.Unix(1, 0))
	tr.set(p, member, true, time.Unix(1, 0))
	doAll(tr, func(place, step) {})
	tr.lost(func(_ place, s subject) bool { return !s.member }, time.Unix(2, 0))
	n := 0
	doAll(tr, func(_ place, s step) {
		if n++; s.subject != member || !s.present {
			t.Errorf("got %+v", s)
		}
	})
	if n != 1 {
		t.Errorf("%d are recorded again", n)
	}
}
