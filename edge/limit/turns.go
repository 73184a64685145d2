package limit

import (
	"context"
	"net/netip"
	"slices"
	"sync"
)

// Turns bounds what is under way at once for each address (see Address): those
// above wait, in the order in which they came. The zero value is ready. It is
// safe for concurrent use.
type Turns struct {
	mu     sync.Mutex
	places map[netip.Addr]*place
}

type place struct {
	busy    int
	waiting []chan struct{} // each closed when it is its turn
}

// Enter returns when it is the caller's turn, which ends with Leave; or the
// context's error, and then there is nothing to leave. limit is how many of an
// address are let in at once, 0 any number. waits, if not nil, is called when it
// has to wait.
func (t *Turns) Enter(ctx context.Context, a netip.Addr, limit int, waits func()) error {
	turn := t.enter(Address(a), limit)
	if turn == nil {
		return nil
	}
	if waits != nil {
		waits()
	}
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		t.giveUp(Address(a), turn)
		return ctx.Err()
	}
}

func (t *Turns) enter(a netip.Addr, limit int) (turn chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.places == nil {
		t.places = make(map[netip.Addr]*place)
	}
	p := t.places[a]
	if p == nil {
		p = &place{}
		t.places[a] = p
	}
	if limit == 0 || p.busy < limit {
		p.busy++
		return nil
	}
	turn = make(chan struct{})
	p.waiting = append(p.waiting, turn)
	return turn
}

// giveUp takes back a turn that is waited for, or that has come just now.
func (t *Turns) giveUp(a netip.Addr, turn chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.places[a]
	if at := slices.Index(p.waiting, turn); at >= 0 {
		p.waiting = slices.Delete(p.waiting, at, at+1)
		return
	}
	t.leaveLocked(a, p)
}

// Waiting is how many of an address wait for their turn.
func (t *Turns) Waiting(a netip.Addr) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.places[Address(a)]; p != nil {
		return len(p.waiting)
	}
	return 0
}

// Leave ends one Enter that returned nil.
func (t *Turns) Leave(a netip.Addr) {
	a = Address(a)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leaveLocked(a, t.places[a])
}

// leaveLocked hands a turn to who waits for longest.
func (t *Turns) leaveLocked(a netip.Addr, p *place) {
	if len(p.waiting) > 0 {
		close(p.waiting[0])
		p.waiting[0] = nil
		p.waiting = p.waiting[1:]
		return
	}
	if p.busy--; p.busy == 0 {
		delete(t.places, a)
	}
}
