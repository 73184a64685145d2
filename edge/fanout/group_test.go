package fanout

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Events come before and after as they were published, answers apart from them, in
// as few writes as that allows.
func TestWritesAreGathered(t *testing.T) {
	t.Parallel()
	pool := start(t, 1)
	p := newPeer(pool)
	group := pool.NewGroup()
	gate, done := make(chan struct{}), make(chan struct{})
	p.Do(func() { <-gate })
	p.Send([]byte("a "))
	group.Join(&p.Member, &Seat{}, [][]byte{[]byte("b "), nil, []byte("c ")}, nil)
	p.Reply([]byte("d "))
	group.Publish(Event{Frame: []byte("e ")})
	group.Publish(Event{Frame: []byte("not "), Except: p.ID()})
	p.Send([]byte("f "))
	p.Answer([][]byte{nil, []byte("g ")}, done)
	close(gate)
	<-done
	if want := []string{"a ", "b c d ", "e f ", "g "}; !slices.Equal(p.conn.writes, want) {
		t.Errorf("writes %q, want %q", p.conn.writes, want)
	}
	if p.conn.owed != 0 {
		t.Errorf("%d bytes are owed in the end", p.conn.owed)
	}
}

// Who wants positions gets them, of what has any; who does not, nothing of them.
func TestPositioned(t *testing.T) {
	t.Parallel()
	pool := start(t, 1)
	plain, positioned := newPeer(pool), newPeer(pool)
	group := pool.NewGroup()
	group.Join(&plain.Member, &Seat{}, nil, nil)
	if group.Positioned() {
		t.Error("nobody wants positions")
	}
	seat := &Seat{Positioned: true}
	group.Join(&positioned.Member, seat, nil, nil)
	if !group.Positioned() {
		t.Error("a member wants positions")
	}
	for _, except := range []Event{{}, {Except: plain.ID()}} {
		group.Publish(Event{Frame: []byte("a "), Positioned: []byte("a1 "), Sequence: 1, Except: except.Except})
		group.Publish(Event{Frame: []byte("b "), Except: except.Except})
	}
	plain.settle()
	for p, want := range map[*peer]string{plain: "a b ", positioned: "a1 b a1 b "} {
		if got, _ := p.conn.got(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	group.Leave(&positioned.Member, seat)
	if group.Positioned() {
		t.Error("nobody wants positions any more")
	}
}

// What was written of stored events is known though an event that is not stored
// comes right behind them: it was forgotten once, and the stored ones were sent
// again to clients that came back.
func TestReached(t *testing.T) {
	t.Parallel()
	pool := start(t, 1)
	p := newPeer(pool)
	group := pool.NewGroup()
	seat := &Seat{Joined: 3}
	group.Join(&p.Member, seat, nil, nil)
	wantReached := func(want uint64) {
		t.Helper()
		var got uint64
		p.Do(func() { got, _ = group.Reached(&p.Member, seat) })
		p.settle()
		if got != want {
			t.Errorf("reached %d, want %d", got, want)
		}
	}
	wantReached(3)
	gate := make(chan struct{})
	p.Do(func() { <-gate })
	group.Publish(Event{Frame: []byte("a "), Sequence: 4})
	group.Publish(Event{Frame: []byte("b "), Sequence: 5})
	group.Publish(Event{Frame: []byte("c ")})
	close(gate)
	wantReached(5)
}

// Sequences that begin anew were compared with those from before: a member that was
// there had the highest of before for ever, on the shard of nobody, too.
func TestRestart(t *testing.T) {
	t.Parallel()
	pool := start(t, 2)
	group := pool.NewGroup()
	want := func(p *peer, seat *Seat, sequence uint64, restarts int) {
		t.Helper()
		var at uint64
		var n int
		p.Do(func() { at, n = group.Reached(&p.Member, seat) })
		p.settle()
		if at != sequence || n != restarts {
			t.Errorf("reached %d after %d restarts, want %d after %d", at, n, sequence, restarts)
		}
	}
	peers := []*peer{newPeer(pool), newPeer(pool), newPeer(pool)}
	seats := []*Seat{{Joined: 100}, {Joined: 90, Positioned: true}, {Joined: 2}}
	for i := range peers[:2] {
		group.Join(&peers[i].Member, seats[i], nil, nil)
	}
	group.Publish(Event{Frame: []byte("a "), Sequence: 101})
	group.Restart(1)
	want(peers[0], seats[0], 1, 1)
	want(peers[1], seats[1], 1, 1)
	group.Join(&peers[2].Member, seats[2], nil, nil)
	want(peers[2], seats[2], 2, 1)
	group.Publish(Event{Frame: []byte("b "), Sequence: 3})
	for i := range peers {
		want(peers[i], seats[i], 3, 1)
	}
}

// A seat that is vacated gets nothing of what waits for it, and can be left as any
// other.
func TestVacate(t *testing.T) {
	t.Parallel()
	pool := start(t, 1)
	all := []*peer{newPeer(pool), newPeer(pool), newPeer(pool)}
	seats := []*Seat{{}, {}, {}}
	group := pool.NewGroup()
	for i, p := range all {
		group.Join(&p.Member, seats[i], nil, nil)
	}
	first := all[0]
	first.Do(func() { group.Vacate(&first.Member, seats[0]) })
	first.Do(func() { group.Vacate(&first.Member, seats[0]) })
	group.Publish(Event{Frame: []byte("a ")})
	group.Leave(&first.Member, seats[0])
	group.Publish(Event{Frame: []byte("b ")})
	first.settle()
	for i, want := range []string{"", "a b ", "a b "} {
		if got, _ := all[i].conn.got(); got != want {
			t.Errorf("member %d got %q, want %q", i, got, want)
		}
	}
	if group.counts[0] != 2 {
		t.Errorf("%d members are counted, want 2", group.counts[0])
	}
}

// More than goes out in one batch, of events and of bytes, is whole and in order
// all the same.
func TestLongRuns(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 3 << 10, maxBatchBytes + 1} {
		for _, members := range []int{1, 2 * coalesceMembers} {
			pool := start(t, 1)
			group := pool.NewGroup()
			var all []*peer
			for range members {
				all = append(all, newPeer(pool))
				group.Join(&all[len(all)-1].Member, &Seat{}, nil, nil)
			}
			gate := make(chan struct{})
			all[0].Do(func() { <-gate })
			var want strings.Builder
			for i := range 3 * maxBatchEvents {
				text := fmt.Sprintf("%*d ", size, i)
				want.WriteString(text)
				e := Event{Frame: []byte(text)}
				if i%(2*maxBatchEvents) == 100 {
					e.Except = noOne
				}
				group.Publish(e)
			}
			close(gate)
			all[0].settle()
			for i, p := range all {
				if got, _ := p.conn.got(); got != want.String() {
					t.Errorf("frames of %d bytes: member %d of %d got %d bytes, want %d", size, i, members, len(got), want.Len())
				}
			}
		}
	}
}

// Groups that are fed at the same time over the same members each keep their
// order.
func TestGroupsAreIndependent(t *testing.T) {
	t.Parallel()
	const groups, events = 4, 2000
	pool := start(t, 2)
	all := []*peer{newPeer(pool), newPeer(pool), newPeer(pool)}
	var tasks sync.WaitGroup
	for i := range groups {
		tasks.Go(func() {
			group := pool.NewGroup()
			seats := make([]Seat, len(all))
			for i, p := range all {
				group.Join(&p.Member, &seats[i], nil, nil)
			}
			for n := range events {
				pool.Wait()
				group.Publish(Event{Frame: fmt.Appendf(nil, "%c%d ", 'a'+i, n)})
			}
			for i, p := range all {
				group.Leave(&p.Member, &seats[i])
				p.settle()
			}
		})
	}
	tasks.Wait()
	for i, p := range all {
		text, _ := p.conn.got()
		var next [groups]int
		for _, f := range strings.Fields(text) {
			g := f[0] - 'a'
			if want := fmt.Sprint(next[g]); f[1:] != want {
				t.Fatalf("member %d got %s, want event %s", i, f, want)
			}
			next[g]++
		}
		if next != [groups]int{events, events, events, events} {
			t.Errorf("member %d got %v events", i, next)
		}
	}
}
