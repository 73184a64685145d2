package fanout

import (
	"testing"

	"reecho/edge/pusher"
)

// What is not for an id is for nobody who has it or had it, on whatever shard; a
// claim to an id that is another's takes it from nobody, and what is pushed before
// is not concerned.
func TestEarlierIDs(t *testing.T) {
	t.Parallel()
	pool := start(t, 2)
	owner, back, claims, other := newPeer(pool), newPeer(pool), newPeer(pool), newPeer(pool)
	group := pool.NewGroup()
	seats := make(map[*peer]*Seat)
	for _, p := range []*peer{owner, back, claims, other} {
		seats[p] = &Seat{Positioned: p == back}
		group.Join(&p.Member, seats[p], nil, nil)
	}
	group.Publish(Event{Frame: []byte("before "), Sequence: 1, Except: earlierID})
	back.Had([]pusher.SocketID{noOne, earlierID})
	claims.Had([]pusher.SocketID{earlierID, owner.ID()})
	claims.Had([]pusher.SocketID{earlierID, owner.ID()}) // on each of its channels
	group.Publish(Event{Frame: []byte("a "), Positioned: []byte("a2 "), Sequence: 2, Except: earlierID})
	group.Publish(Event{Frame: []byte("b "), Sequence: 3, Except: owner.ID()})
	group.Publish(Event{Frame: []byte("c "), Except: noOne})
	pool.Remove(claims) // what it said goes with it
	group.Publish(Event{Frame: []byte("d "), Sequence: 4, Except: earlierID})
	group.Publish(Event{Frame: []byte("all "), Sequence: 5})
	for _, p := range []*peer{owner, back, claims, other} {
		p.settle()
	}
	for p, want := range map[*peer]string{
		owner: "before a c d all ", back: "before b all ", claims: "before c d all ", other: "before a b c d all ",
	} {
		if got, _ := p.conn.got(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got, _ := group.Reached(&p.Member, seats[p]); got != 5 {
			t.Errorf("reached %d, want 5", got)
		}
	}
}

// Of one member a bounded number of ids count.
func TestEarlierIDsAreBounded(t *testing.T) {
	t.Parallel()
	pool := start(t, 1)
	p := newPeer(pool)
	ids := make([]pusher.SocketID, maxEarlier+10)
	for i := range ids {
		ids[i] = pusher.NewSocketID()
	}
	p.Had(ids[:100])
	p.Had(ids)
	p.settle()
	all := &p.shard.earlier
	if n := len(all.ids[&p.Member]); n != maxEarlier || len(all.members) != maxEarlier {
		t.Errorf("%d ids of a member, %d of all, want %d", n, len(all.members), maxEarlier)
	}
}
