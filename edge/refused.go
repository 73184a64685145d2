package edge

import (
	"container/list"
	"sync"
	"time"

	"reecho/edge/socket"
)

// maxRefused bounds the refused connections that wait for the peer to close,
// about 1 KB each: whoever is refused in a loop and never answers must not pile
// them up for as long as a peer may take.
const maxRefused = 10_000

// refused is a connection that was refused: it waits for the peer's answer to
// the close frame, which ticks bound.
type refused struct {
	conn     socket.Conn
	refusals *refusals
	census   *census
	element  *list.Element // guarded by refusals.mu; nil: forgotten
}

var _ socket.Receiver = (*refused)(nil)

// Message implements socket.Receiver.
func (*refused) Message([]byte) func() { return nil }

// Closed implements socket.Receiver.
func (r *refused) Closed(error) {
	r.refusals.forget(r)
	r.census.leave()
}

// refusals is the refused connections, oldest first. It is safe for concurrent
// use.
type refusals struct {
	mu  sync.Mutex
	all list.List // of *refused
}

// watch ticks a refused connection until forget. If there are too many, the
// oldest, which had most of the time to read why, is cut.
func (rs *refusals) watch(r *refused, now time.Time) {
	rs.mu.Lock()
	r.element = rs.all.PushBack(r)
	var oldest *refused
	if rs.all.Len() > maxRefused {
		oldest = rs.removeLocked(rs.all.Front())
	}
	rs.mu.Unlock()
	if oldest != nil {
		oldest.conn.Tick(now.Add(time.Hour)) // beyond its deadline
	}
}

func (rs *refusals) forget(r *refused) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r.element != nil {
		rs.removeLocked(r.element)
	}
}

func (rs *refusals) removeLocked(e *list.Element) *refused {
	r, _ := rs.all.Remove(e).(*refused)
	r.element = nil
	return r
}

func (rs *refusals) tick(now time.Time) {
	rs.mu.Lock()
	waiting := make([]*refused, 0, rs.all.Len())
	for e := rs.all.Front(); e != nil; e = e.Next() {
		if r, ok := e.Value.(*refused); ok {
			waiting = append(waiting, r)
		}
	}
	rs.mu.Unlock()
	for _, r := range waiting {
		r.conn.Tick(now)
	}
}
