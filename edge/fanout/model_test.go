package fanout

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"reecho/broker/brokertest/seed"
	"reecho/edge/pusher"
)

// world is a pool with its groups and members, and what each of them had to get.
type world struct {
	*rand.Rand
	pool   *Pool[*peer]
	groups []*room
	all    []*guest
	gone   []*guest
	texts  int
	// packing says how many take compressed frames: nobody, half of them, all.
	packing int
	fail    func(format string, args ...any)
}

// room is a group as it should be.
type room struct {
	Group
	name     string
	seats    map[*guest]*place
	sequence uint64
	written  map[*shard]uint64 // the newest stored event while somebody was there
	packs    bool              // frames are compressed
}

// place is a seat as it should be.
type place struct {
	Seat
	empty   bool // vacated
	partial bool // as Seat.Partial, which is the shard's
}

// guest is a member as it should be.
type guest struct {
	*peer
	had         []pusher.SocketID // before
	text, asked strings.Builder   // what it had to get, and what of it were answers
}

func (g *guest) is(id pusher.SocketID) bool { return g.ID() == id || slices.Contains(g.had, id) }

func newWorld(t *testing.T, random *rand.Rand) *world {
	t.Helper()
	w := &world{Rand: random, pool: start(t, 1+random.IntN(3))}
	for i := range 1 + random.IntN(4) {
		r := &room{
			Group: w.pool.NewGroup(), name: string(rune('a' + i)), seats: make(map[*guest]*place), written: make(map[*shard]uint64),
		}
		r.packs = w.IntN(3) > 0
		if r.packs {
			r.Compress(shout)
		}
		w.groups = append(w.groups, r)
	}
	w.packing = w.IntN(3)
	for range 1 + random.IntN(12) {
		w.all = append(w.all, w.newGuest())
	}
	return w
}

func (w *world) newGuest() *guest {
	return &guest{peer: newPeerOn(w.pool, &keepConn{packed: w.IntN(4) < 2*w.packing})}
}

// frame is a new text.
func (w *world) frame(kind string) []byte {
	w.texts++
	return fmt.Appendf(nil, "%s%d ", kind, w.texts)
}

func (w *world) guest() *guest { return w.all[w.IntN(len(w.all))] }

// step does something at random.
func (w *world) step() {
	r, g := w.groups[w.IntN(len(w.groups))], w.guest()
	at := r.seats[g]
	switch n := w.IntN(100); {
	case n < 45:
		w.publish(r)
	case n < 55:
		w.tell(r)
	case n < 75 && at == nil:
		w.join(r, g)
	case n < 66 && at.partial:
		w.complete(r, g, at)
	case n < 68:
		r.Leave(&g.Member, &at.Seat)
		delete(r.seats, g)
	case n < 71 && !at.empty:
		at.empty = true
		g.Do(func() { r.Vacate(&g.Member, &at.Seat) })
	case n < 75:
		w.check(r, g, at)
	case n < 85:
		frame := w.frame("send")
		g.Send(frame)
		g.text.Write(frame)
	case n < 87:
		w.had(g)
	case n < 91:
		frame := w.frame("reply")
		g.Reply(frame)
		g.answered(frame)
	case n < 95:
		w.answer(g)
	case n < 97 && !w.on(g):
		w.comeBack(g)
	default:
		synctest.Wait()
	}
}

// publish sends an event that is stored or not, with a position or without, to all
// or to all but one.
func (w *world) publish(r *room) {
	e := Event{Frame: w.frame(r.name)}
	if w.IntN(2) == 0 {
		r.sequence++
		e.Sequence = r.sequence
		if r.Positioned() {
			e.Positioned = w.frame(r.name + "@")
		}
	}
	if w.IntN(4) == 0 {
		e.Except = w.id()
	}
	r.Publish(e)
	for g, at := range r.seats {
		if e.Sequence != 0 {
			r.written[g.shard] = e.Sequence
		}
		switch {
		case at.empty || at.partial || e.Except != noSocket && g.is(e.Except):
		case at.Positioned && e.Positioned != nil:
			g.heard(r, e.Positioned)
		default:
			g.heard(r, e.Frame)
		}
	}
}

// id is one that somebody has, or had.
func (w *world) id() pusher.SocketID {
	g := w.guest()
	if n := w.IntN(len(g.had) + 1); n < len(g.had) {
		return g.had[n]
	}
	return g.ID()
}

// had makes a guest say what ids it had: those it said, and those of others, whether
// they have them now or had them.
func (w *world) had(g *guest) {
	ids := slices.Clone(g.had)
	for range w.IntN(3) {
		ids = append(ids, w.id())
	}
	w.Shuffle(len(ids), func(i, k int) { ids[i], ids[k] = ids[k], ids[i] })
	g.Had(ids)
	g.had = ids
}

func (w *world) on(g *guest) bool {
	return slices.ContainsFunc(w.groups, func(r *room) bool { return r.seats[g] != nil })
}

// comeBack makes a guest that has no seat leave the pool, and another come, to which
// the ids that the one had are nothing.
func (w *world) comeBack(g *guest) {
	synctest.Wait()
	w.pool.Remove(g.peer)
	w.gone = append(w.gone, g)
	w.all[slices.Index(w.all, g)] = w.newGuest()
}

// tell sends what is for some only.
func (w *world) tell(r *room) {
	frame, alert, name := w.frame(r.name+"!"), w.IntN(2) == 0, w.name()
	if alert {
		r.Alert(frame)
	} else {
		r.TellOthers(frame, name)
	}
	for g, at := range r.seats {
		if !at.empty && (alert && at.Alerts && !at.partial || !alert && at.Name != name) {
			if at.partial {
				g.text.Write(frame)
			} else {
				g.heard(r, frame)
			}
		}
	}
}

// heard is what a guest gets of what is for many.
func (g *guest) heard(r *room, frame []byte) {
	if r.packs && g.conn.packed {
		frame = shout(frame)
	}
	g.text.Write(frame)
}

func (w *world) name() string { return fmt.Sprintf("user-%d", w.IntN(3)) }

func (w *world) join(r *room, g *guest) {
	at := &place{Seat: Seat{Positioned: w.IntN(2) == 0, Alerts: w.IntN(2) == 0, Name: w.name(), Joined: r.sequence}}
	at.partial = w.IntN(3) == 0
	at.Partial = at.partial
	r.seats[g] = at
	frames := [][]byte{w.frame("joined"), nil, w.frame("missed")}
	r.Join(&g.Member, &at.Seat, frames, w.written(g, frames))
	g.answered(frames...)
}

func (w *world) complete(r *room, g *guest, at *place) {
	at.partial, at.Joined = false, r.sequence
	frames := [][]byte{w.frame("missed")}
	r.Complete(&g.Member, &at.Seat, frames, w.written(g, frames))
	g.answered(frames...)
}

func (w *world) answer(g *guest) {
	frames := make([][]byte, w.IntN(5))
	for i := range frames {
		if w.IntN(3) > 0 {
			frames[i] = w.frame("answer")
		}
	}
	g.Answer(frames, w.written(g, frames))
	g.answered(frames...)
}

// written is a channel that is closed, if it is not nil, when frames are given to
// the connection, and then looks.
func (w *world) written(g *guest, frames [][]byte) chan<- struct{} {
	done := make(chan struct{})
	go func() {
		<-done
		text, _ := g.conn.got()
		for _, f := range frames {
			if !strings.Contains(text, string(f)) {
				w.fail("%q was not given to the connection", f)
			}
		}
	}()
	return done
}

func (g *guest) answered(frames ...[]byte) {
	for _, f := range frames {
		g.text.Write(f)
		g.asked.Write(f)
	}
}

// check asks the shard how far a seat has got.
func (w *world) check(r *room, g *guest, at *place) {
	if at.partial {
		return
	}
	want := max(at.Joined, r.written[g.shard])
	g.Do(func() {
		if got, _ := r.Reached(&g.Member, &at.Seat); got != want {
			w.fail("a member of %s joined at %d and reached %d, want %d", r.name, at.Joined, got, want)
		}
	})
}

// compare looks at what each member got.
func (w *world) compare() {
	synctest.Wait()
	for i, g := range append(w.gone, w.all...) {
		text, asked := g.conn.got()
		if text != g.text.String() {
			w.fail("member %d got\n%s\nwant\n%s", i, text, g.text.String())
		}
		if asked != g.asked.String() {
			w.fail("member %d had the answers\n%s\nwant\n%s", i, asked, g.asked.String())
		}
		if g.conn.owed != 0 {
			w.fail("member %d is owed %d bytes in the end", i, g.conn.owed)
		}
	}
	for _, r := range w.groups {
		counts := make([]int32, len(r.counts))
		positioned, packed := 0, 0
		for g, at := range r.seats {
			counts[g.shard.index]++
			if at.Positioned {
				positioned++
			}
			if g.conn.packed {
				packed++
			}
		}
		if fmt.Sprint(counts) != fmt.Sprint(r.counts) || positioned != r.positioned || packed != r.packed {
			w.fail("group %s counts %v, %d with positions and %d packed, want %v, %d and %d",
				r.name, r.counts, r.positioned, r.packed, counts, positioned, packed)
		}
	}
}

// leave makes all leave the pool, of whom nothing must stay.
func (w *world) leave() {
	for _, g := range w.all {
		w.pool.Remove(g.peer)
	}
	synctest.Wait()
	for i, s := range w.pool.shards {
		if s.earlier.members != nil || s.earlier.ids != nil {
			w.fail("shard %d knows %d ids of %d members that are gone", i, len(s.earlier.members), len(s.earlier.ids))
		}
	}
}

// Whatever is published, told, sent, joined and left at random over several
// shards: each member gets exactly what it has to, in order, and everything that
// answers it as such.
func TestModel(t *testing.T) {
	t.Parallel()
	first := seed.First(t)
	for i := range uint64(100) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, rand.New(rand.NewPCG(first+i, 1)))
			w.fail = func(format string, args ...any) {
				t.Errorf("%s: %s", seed.Repeat(first+i), fmt.Sprintf(format, args...))
			}
			for range 500 {
				w.step()
			}
			w.compare()
			w.leave()
		})
		if t.Failed() {
			return
		}
	}
}
