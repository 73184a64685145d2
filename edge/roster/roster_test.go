package roster

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"reecho/broker/brokertest/seed"
)

const burst = 5

// socket is a connection of a member, with the view that its frames gave it:
// user_info by id.
type socket struct {
	id   string
	view map[string]string
}

// world is a channel with its subscribers, and a clock.
type world struct {
	t       *testing.T
	seed    uint64
	random  *rand.Rand
	now     time.Time
	roster  *Roster
	users   int // different ones
	sockets []*socket
	counts  map[string]int    // sockets of each member, and other nodes that have it
	others  []string          // members, each once for another node that has it
	info    map[string]string // of each member
	settles map[string]time.Time
	told    map[string]int // news of each member
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	return &world{
		t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1000, 0), roster: New(burst), users: 6,
		counts: map[string]int{}, info: map[string]string{}, settles: map[string]time.Time{}, told: map[string]int{},
	}
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s: %s", seed.Repeat(w.seed), fmt.Sprintf(format, args...))
}

// member is anybody, with any JSON, who is counted once more.
func (w *world) member() (id string, info []byte) {
	id = fmt.Sprintf("user-%d", w.random.IntN(w.users))
	if w.random.IntN(3) > 0 {
		info = []byte(strconv.Itoa(w.random.IntN(2)))
	}
	if w.counts[id] == 0 {
		w.info[id] = string(orNull(info))
	}
	w.counts[id]++
	return id, info
}

func (w *world) join() {
	id, info := w.member()
	news := w.roster.Join(id, info, w.now)
	s := &socket{id: id, view: w.snapshot(id)}
	w.sockets = append(w.sockets, s)
	w.deliver(id, news)
}

func (w *world) leave() {
	if len(w.sockets) == 0 {
		return
	}
	i := w.random.IntN(len(w.sockets))
	id := w.sockets[i].id
	w.sockets = slices.Delete(w.sockets, i, i+1)
	w.less(id)
	w.deliver(id, w.roster.Leave(id, w.now))
}

// less counts a member once less.
func (w *world) less(id string) {
	if w.counts[id]--; w.counts[id] == 0 {
		delete(w.counts, id)
		delete(w.info, id)
	}
}

// come and goAway are join and leave of another node.
func (w *world) come() {
	id, info := w.member()
	w.others = append(w.others, id)
	w.elsewhere(id, w.roster.Come(id, info, w.now))
}

func (w *world) goAway() {
	if len(w.others) == 0 {
		return
	}
	i := w.random.IntN(len(w.others))
	id := w.others[i]
	w.others = slices.Delete(w.others, i, i+1)
	w.less(id)
	w.elsewhere(id, w.roster.Go(id, w.now))
}

// elsewhere is deliver, where nobody may be there to be told.
func (w *world) elsewhere(id string, news News) {
	if len(w.sockets) > 0 {
		w.deliver(id, news)
		return
	}
	w.roster.Unheard()
	clear(w.told) // who comes next was told of nobody
	for id := range w.settles {
		if news := w.roster.Settle(id, w.now); news.Came || news.Gone {
			w.fail("%s is told of though nobody is there: %+v", id, news)
		}
	}
	clear(w.settles)
}

func (w *world) snapshot(self string) map[string]string {
	w.t.Helper()
	var s struct {
		Presence struct {
			IDs   []string
			Hash  map[string]json.RawMessage
			Count int
		}
	}
	text := w.roster.Snapshot(self, 0)
	if err := json.Unmarshal(text, &s); err != nil {
		w.fail("snapshot %s: %v", text, err)
	}
	if len(s.Presence.IDs) != len(s.Presence.Hash) || s.Presence.Count != len(s.Presence.IDs) {
		w.fail("snapshot %s does not agree with itself", text)
	}
	view := map[string]string{}
	for id, info := range s.Presence.Hash {
		view[id] = string(info)
	}
	if view[self] != w.info[self] {
		w.fail("the snapshot of %s says %q of itself, want %q", self, view[self], w.info[self])
	}
	return view
}

// deliver gives news of a member to the others.
func (w *world) deliver(id string, news News) {
	w.t.Helper()
	if news.Gone || news.Came {
		w.told[id]++
	}
	if news.Settle {
		if _, planned := w.settles[id]; planned {
			w.fail("two settlings of %s are planned", id)
		}
		w.settles[id] = w.now.Add(Period)
	}
	for _, s := range w.sockets {
		if s.id == id {
			continue
		}
		_, known := s.view[id]
		if news.Gone && !known {
			w.fail("%s is told that %s went, of whom it never heard", s.id, id)
		}
		if news.Gone {
			delete(s.view, id)
			known = false
		}
		if news.Came && known {
			w.fail("%s is told twice that %s came", s.id, id)
		}
		if news.Came {
			s.view[id] = string(orNull(news.Info))
		}
	}
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	end := w.now.Add(d)
	for {
		next, at := "", end
		for id, due := range w.settles {
			if !due.After(at) && (next == "" || due.Before(at)) {
				next, at = id, due
			}
		}
		w.now = at
		if next == "" {
			return
		}
		delete(w.settles, next)
		w.deliver(next, w.roster.Settle(next, w.now))
	}
}

// check: all views of others are the same at any moment, and the truth once
// nothing is put off.
func (w *world) check() {
	w.t.Helper()
	if got, want := w.roster.Len(), len(w.counts); got != want {
		w.fail("%d members, want %d", got, want)
	}
	var common map[string]string
	for _, s := range w.sockets {
		if s.view[s.id] != w.info[s.id] {
			w.fail("%s has %q of itself, want %q", s.id, s.view[s.id], w.info[s.id])
		}
		view := maps.Clone(s.view)
		for id := range w.settles {
			delete(view, id) // of itself each knows more
		}
		if common == nil {
			common = view
		}
		if !maps.Equal(view, common) {
			w.fail("two views: %v and %v", view, common)
		}
		for id, info := range view {
			if w.info[id] != info {
				w.fail("%s has %q of %s, want %q", s.id, info, id, w.info[id])
			}
		}
		if len(w.settles) == 0 && !maps.Equal(view, w.info) {
			w.fail("%s has %v, want %v", s.id, view, w.info)
		}
	}
}

// Whatever members do, all others know the same of them at any moment and the
// truth in the end, coming and going alternate, and nobody is told of one member
// more often than the limit.
func TestRosterModel(t *testing.T) {
	t.Parallel()
	first := seed.First(t)
	for i := range uint64(500) {
		w, steps := newWorld(t, first+i), 200
		if (first+i)%50 == 0 { // so many that there is too much news of all together
			w.users, steps = 300, 1000
		}
		start := w.now
		for range steps {
			switch n := w.random.IntN(100); {
			case n < 35:
				w.join()
			case n < 70:
				w.leave()
			case n < 80:
				w.come()
			case n < 90:
				w.goAway()
			case n < 98:
				w.pass(time.Duration(w.random.IntN(700)) * time.Millisecond)
			default:
				w.pass(time.Duration(w.random.IntN(10)) * time.Second)
			}
			w.check()
		}
		w.pass(Period)
		if len(w.settles) != 0 {
			w.fail("%d settlings are planned after a quiet period", len(w.settles))
		}
		w.check()
		// A member that is not remembered costs no token when it comes, and is
		// forgotten after as many quiet seconds as there are in the burst.
		calm := int(w.now.Sub(start)/time.Second) + 1
		for id, n := range w.told {
			if most := burst + calm + calm/burst + 1; n > most {
				w.fail("%s was told of %d times in %d s, most is %d", id, n, calm, most)
			}
		}
		for len(w.sockets) > 0 {
			w.leave()
		}
		for len(w.others) > 0 {
			w.goAway()
		}
		w.pass(time.Minute)
		w.join()
		w.leave()
		if n := len(w.roster.restless); n != 1 {
			w.fail("%d members are remembered a minute after they left, want the one that just did", n)
		}
	}
}

// The first comings and goings are told at once, as Pusher does; then what is
// new is told once in a Period.
func TestRosterGathers(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	r := New(burst)
	r.Join("watcher", nil, now)
	told := 0
	count := func(news News) News {
		if news.Gone || news.Came {
			told++
		}
		return news
	}
	if news := r.Join("ada", []byte(`1`), now); !news.Came || string(news.Info) != "1" || news.Settle {
		t.Errorf("the first coming: %+v", news)
	}
	planned := false
	for i := range 1000 {
		news := count(r.Leave("ada", now))
		if i == 0 && !news.Gone {
			t.Error("the first going was not told")
		}
		planned = planned || news.Settle
		planned = count(r.Join("ada", []byte(`1`), now)).Settle || planned
	}
	if told != burst || !planned {
		t.Errorf("told %d times of 2,000 comings and goings, want %d; settling planned: %v", told, burst, planned)
	}
	// The fifth was that she went; she is there.
	if news := r.Settle("ada", now.Add(Period)); news.Gone || !news.Came {
		t.Errorf("settled: %+v", news)
	}
	if news := r.Settle("ada", now.Add(2*Period)); news.Gone || news.Came || news.Settle {
		t.Errorf("settled again: %+v", news)
	}
	// Ten seconds later she is like any other.
	now = now.Add(10 * Period)
	if news := r.Leave("ada", now); !news.Gone || news.Settle {
		t.Errorf("left later: %+v", news)
	}
}

// Many who come and go with ever new ids are not told of once there were more
// news than a channel may have; who stays is, a Period later.
func TestRosterGathersCrowds(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	r := New(burst)
	r.Join("watcher", nil, now)
	told, settles := 0, []string{}
	count := func(id string, news News) {
		if news.Gone {
			told++
		}
		if news.Came {
			told++
		}
		if news.Settle {
			settles = append(settles, id)
		}
	}
	for i := range 5000 {
		id := fmt.Sprintf("guest-%d", i)
		count(id, r.Join(id, nil, now))
		count(id, r.Leave(id, now))
	}
	if told > channelBurst {
		t.Errorf("told %d times of 5,000 guests, most is %d", told, channelBurst)
	}
	count("ada", r.Join("ada", []byte(`1`), now))
	now, told = now.Add(Period), 0
	for _, id := range settles {
		news := r.Settle(id, now)
		if id == "ada" && (!news.Came || string(news.Info) != "1") {
			t.Errorf("ada is settled with %+v", news)
		}
		count(id, news)
	}
	// She came; and the last guest of the burst, whose going was too much, went.
	if told > 2 {
		t.Errorf("%d news of guests who came and went", told-1)
	}
	if n := len(r.restless); n > channelBurst {
		t.Errorf("%d members are remembered", n)
	}
	// A minute later there is peace.
	now = now.Add(time.Minute)
	if news := r.Join("bob", nil, now); !news.Came || news.Settle {
		t.Errorf("bob came later: %+v", news)
	}
}

// A member that came back with other user_info is told anew.
func TestRosterTellsNewInfo(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	r := New(burst)
	r.Join("watcher", nil, now)
	r.Join("ada", []byte(`1`), now)
	var last News
	for i := range 2*burst + 2 {
		last = r.Leave("ada", now)
		r.Join("ada", []byte(strconv.Itoa(i)), now)
	}
	if last.Gone {
		t.Fatal("not gathered")
	}
	if news := r.Settle("ada", now.Add(Period)); !news.Came || string(news.Info) != strconv.Itoa(2*burst+1) {
		t.Errorf("settled: %+v", news)
	}
}
