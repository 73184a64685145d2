package edge

import (
	"container/heap"
	"sync"
	"time"
)

// later is what is put off, by time. It is safe for concurrent use; its owner
// does what is due.
type later struct {
	mu    sync.Mutex
	tasks taskHeap
}

// task is something to do at a time, without any lock held.
type task struct {
	at time.Time
	do func(now time.Time)
}

// add puts do off until at.
func (l *later) add(at time.Time, do func(now time.Time)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	heap.Push(&l.tasks, task{at: at, do: do})
}

// run does what is due.
func (l *later) run(now time.Time) {
	for {
		l.mu.Lock()
		if len(l.tasks) == 0 || l.tasks[0].at.After(now) {
			l.mu.Unlock()
			return
		}
		next, _ := heap.Pop(&l.tasks).(task)
		l.mu.Unlock()
		next.do(now)
	}
}

// taskHeap implements heap.Interface.
type taskHeap []task

func (h taskHeap) Len() int           { return len(h) }
func (h taskHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h taskHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *taskHeap) Push(x any) {
	t, _ := x.(task)
	*h = append(*h, t)
}

// Pop implements heap.Interface.
func (h *taskHeap) Pop() any {
	end := len(*h) - 1
	t := (*h)[end]
	(*h)[end] = task{}
	if *h = (*h)[:end]; end == 0 {
		*h = nil
	}
	return t
}
