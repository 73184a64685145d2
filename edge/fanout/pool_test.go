package fanout

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

// Members are spread evenly, and each ticks once a second from the time that it is
// added until it is removed.
func TestMembersTick(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pool := start(t, 3)
		var all []*peer
		for range 30 {
			all = append(all, newPeer(pool))
		}
		<-time.After(3*TickPeriod + TickPeriod/2)
		for i := range 15 {
			pool.Remove(all[2*i])
		}
		<-time.After(4 * TickPeriod)
		synctest.Wait()
		shards := make(map[*shard]int)
		for i, p := range all {
			shards[p.shard]++
			if want := 3 + 4*(i%2); p.ticks != want {
				t.Errorf("member %d ticked %d times, want %d", i, p.ticks, want)
			}
		}
		for s, n := range shards {
			if n != 10 {
				t.Errorf("shard %d has %d of %d members", s.index, n, len(all))
			}
		}
	})
}

func TestPoolHasAShardForEachCore(t *testing.T) {
	t.Parallel()
	if got, want := start(t, 0).Shards(), runtime.GOMAXPROCS(0); got != want {
		t.Errorf("%d shards, want %d", got, want)
	}
}

// Each finds those who are there when it is called, after what they were to get
// before was written.
func TestEach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pool := start(t, 2)
		before, gone := newPeer(pool), newPeer(pool)
		pool.Remove(gone)
		before.Send([]byte("first "))
		var mu sync.Mutex
		seen := make(map[*peer]string)
		pool.Each(func(p *peer) {
			text, _ := p.conn.got()
			mu.Lock()
			defer mu.Unlock()
			seen[p] = text
		})
		newPeer(pool)
		synctest.Wait()
		if len(seen) != 1 || seen[before] != "first " {
			t.Errorf("visited %v, want the one that was there", seen)
		}
	})
}

// What is pushed before the close is written, and what comes later is dropped.
func TestCloseWritesWhatIsThere(t *testing.T) {
	t.Parallel()
	// Some rounds, for a shard that hears of both may do what is there first.
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			pool := NewPool[*peer](2)
			a, b := newPeer(pool), newPeer(pool)
			group := pool.NewGroup()
			gate := make(chan struct{})
			var want strings.Builder
			for i, p := range []*peer{a, b} {
				p.Do(func() { <-gate })
				group.Join(&p.Member, &Seat{}, nil, nil)
				p.Send(fmt.Appendf(nil, "%d ", i))
			}
			synctest.Wait()
			for i := range 200 {
				text := fmt.Sprintf("event-%d ", i)
				want.WriteString(text)
				group.Publish(Event{Frame: []byte(text)})
			}
			go pool.Close()
			synctest.Wait()
			close(gate)
			pool.Close()
			group.Publish(Event{Frame: []byte("late")})
			pool.Wait()
			for i, p := range []*peer{a, b} {
				if got, _ := p.conn.got(); got != fmt.Sprintf("%d %s", i, want.String()) {
					t.Errorf("member %d got %q", i, got)
				}
			}
		})
	}
}

// Wait holds who feeds the pool while one shard is behind.
func TestPoolWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pool := start(t, 2)
		p := newPeer(pool)
		gate := make(chan struct{})
		p.Do(func() { <-gate })
		for range inboxHighOps {
			p.Send([]byte("x"))
		}
		waited := false
		go func() {
			pool.Wait()
			waited = true
		}()
		synctest.Wait()
		if waited {
			t.Error("did not wait for the shard that is behind")
		}
		close(gate)
		synctest.Wait()
		if !waited {
			t.Error("still waits")
		}
	})
}

// An event is kept once for each shard, a member for each connection: their sizes
// are what much of the memory is.
func TestSizes(t *testing.T) {
	t.Parallel()
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("the sizes are those of 64 bits")
	}
	for name, tt := range map[string]struct{ got, most uintptr }{
		"op": {unsafe.Sizeof(op{}), 104}, "Member": {unsafe.Sizeof(Member{}), 56}, "Seat": {unsafe.Sizeof(Seat{}), 32},
	} {
		if tt.got > tt.most {
			t.Errorf("%s: %d bytes, want %d at most", name, tt.got, tt.most)
		}
	}
}
