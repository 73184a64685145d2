package socket

import "sync"

// waiters are the queues of which the budget knows that something waits in them.
// It is safe for concurrent use.
type waiters struct {
	mu     sync.RWMutex
	queues map[uint64]*Queue
	lastID uint64
}

// enter makes q known and gives it its id, unless it has one. It stays so while
// it is not empty. The owner of q calls it, and leave.
func (ws *waiters) enter(q *Queue) {
	if q.id != 0 {
		return
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.lastID++
	q.id = ws.lastID
	ws.queues[q.id] = q
}

// leave forgets q, which is empty.
func (ws *waiters) leave(q *Queue) {
	if q.id == 0 {
		return
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.queues, q.id)
	q.id = 0
}

// queue returns the queue of an id, nil when it is not known. One that holds a
// frame is.
func (ws *waiters) queue(id uint64) *Queue {
	ws.mu.RLock()
	defer ws.mu.RUnlock()
	return ws.queues[id]
}

// count is how many there are.
func (ws *waiters) count() int {
	ws.mu.RLock()
	defer ws.mu.RUnlock()
	return len(ws.queues)
}

// all returns them in no order.
func (ws *waiters) all() []*Queue {
	ws.mu.RLock()
	defer ws.mu.RUnlock()
	all := make([]*Queue, 0, len(ws.queues))
	for _, q := range ws.queues {
		all = append(all, q)
	}
	return all
}
