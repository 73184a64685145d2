// Package fanout writes one thing to many connections. A Pool is a few shards,
// goroutines that have the connections among them; a Group is those who get the
// same, kept by shard; a Member is a connection, its Seat the place in a group.
//
// Whatever a member gets, and whatever changes a group, goes through the inbox of
// the member's shard, in the order in which it was pushed. So the shard fans out
// over its own lists without a lock, and gathers what there is for a connection
// into one write. Pushing never blocks and may be done under a lock; who feeds the
// shards from outside waits in Pool.Wait, without one, while they are behind.
package fanout

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// TickPeriod is how often a shard looks at the clocks of its members.
const TickPeriod = time.Second

// Owner is whoever a Member belongs to, and embeds it by value: that is the only
// way to have the unexported method.
type Owner interface {
	// Tick is called about once a second from Pool.Add to Pool.Remove, on the
	// member's shard and so never at the same time as a function given to
	// Member.Do. It must not block.
	Tick(now time.Time)

	member() *Member
}

// Pool is the shards of a node. It is safe for concurrent use. Its members all
// have owners of one type: so a shard's list of them has one word for each.
type Pool[O Owner] struct {
	shards shards
	owners [][]O // owners[i] belongs to shard i
	next   atomic.Uint32
	tasks  sync.WaitGroup
	stop   chan struct{} // closed once, by Close
	once   sync.Once
}

// shards is all of them, each at its index.
type shards []*shard

// NewPool starts a pool; 0 shards are GOMAXPROCS. Close ends it.
func NewPool[O Owner](count int) *Pool[O] {
	if count == 0 {
		count = runtime.GOMAXPROCS(0)
	}
	p := &Pool[O]{owners: make([][]O, count), stop: make(chan struct{})}
	for i := range count {
		s := newShard(i)
		s.tick = func(now time.Time) {
			for _, o := range p.owners[i] {
				o.Tick(now)
			}
		}
		p.shards = append(p.shards, s)
	}
	for _, s := range p.shards {
		p.tasks.Go(func() { s.run(p.stop) })
	}
	return p
}

// Shards is how many there are.
func (p *Pool[O]) Shards() int { return len(p.shards) }

// Close ends the shards and returns when they have ended. What was pushed before
// is still written. What is pushed later is dropped, and nobody waits in Wait any
// more.
func (p *Pool[O]) Close() {
	p.once.Do(func() { close(p.stop) })
	p.tasks.Wait()
}

// Wait blocks while a shard is behind, by 8192 things to do or 16 MiB of frames,
// until it has done half of that. Whoever feeds the shards from outside calls it,
// without a lock, and no function that a shard calls may.
func (p *Pool[O]) Wait() {
	for _, s := range p.shards {
		s.inbox.wait()
	}
}

// NewGroup makes an empty group of this pool's members.
func (p *Pool[O]) NewGroup() Group { return newGroup(&p.shards) }

// Add puts the member of o on a shard, the next one in turn, and makes it tick.
// It is called once for a member, and before anything is sent to it.
func (p *Pool[O]) Add(o O) {
	at := int(p.next.Add(1) % uint32(len(p.shards)))
	m := o.member()
	m.shard = p.shards[at]
	m.Do(func() {
		m.index = int32(len(p.owners[at]))
		p.owners[at] = append(p.owners[at], o)
	})
}

// Remove ends the ticks of o, and forgets what ids it had, once what was pushed
// before is done. It is called once, not before Add has returned, and Member.Had is
// not called afterwards.
func (p *Pool[O]) Remove(o O) {
	m := o.member()
	m.Do(func() {
		m.shard.earlier.remove(m)
		all := p.owners[m.shard.index]
		end := len(all) - 1
		moved := all[end]
		all[m.index], moved.member().index = moved, m.index
		clear(all[end:])
		p.owners[m.shard.index] = all[:end]
	})
}

// Each calls visit for all who were added before and not removed, on the shard of
// each, after all that was pushed before has been written. It does not wait for
// that.
func (p *Pool[O]) Each(visit func(O)) {
	for i, s := range p.shards {
		s.call(func() {
			// visit may close connections, and a close overtakes what is lined up.
			s.flushAll()
			for _, o := range p.owners[i] {
				visit(o)
			}
		})
	}
}
