package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// wires are what the nodes of a cluster ask each other over.
type wires struct {
	mu    sync.Mutex
	lives int
	cut   bool // nobody answers
	nodes map[string]func([]byte) ([]byte, error)
	told  map[string]int // questions, by life
}

// newCluster is a table of nodes that are there at the same time.
func newCluster() table {
	t := newTable()
	t.wires = &wires{nodes: make(map[string]func([]byte) ([]byte, error)), told: make(map[string]int)}
	return t
}

// join makes a node one of the others.
func (t table) join() Others {
	if t.wires == nil {
		return nil
	}
	t.wires.mu.Lock()
	defer t.wires.mu.Unlock()
	t.wires.lives++
	return &wire{wires: t.wires, life: fmt.Sprintf("life-%d", t.wires.lives)}
}

// wire is that of one node.
type wire struct {
	wires *wires
	life  string
}

var _ Others = (*wire)(nil)

// Name implements Others. There is no second life in these tests.
func (w *wire) Name() string { return "node-of-" + w.life }

// Life implements Others.
func (w *wire) Life() string { return w.life }

// Ask implements Others.
func (w *wire) Ask(ctx context.Context, life string, question []byte) (answer []byte, there bool, err error) {
	w.wires.mu.Lock()
	f, cut := w.wires.nodes[life], w.wires.cut
	w.wires.told[life]++
	w.wires.mu.Unlock()
	late := 5 * time.Millisecond
	if cut {
		late = time.Second
	}
	select {
	case <-time.After(late):
	case <-ctx.Done():
		return nil, true, ctx.Err()
	}
	switch {
	case cut:
		return nil, true, errors.New("no answer")
	case f == nil:
		return nil, false, nil
	}
	answer, err = f(question)
	return answer, true, err
}

// Answer implements Others.
func (w *wire) Answer(f func(question []byte) (answer []byte, err error)) {
	w.wires.mu.Lock()
	defer w.wires.mu.Unlock()
	w.wires.nodes[w.life] = f
}

// break makes nobody answer, or again.
func (t table) cutWires(cut bool) {
	t.wires.mu.Lock()
	defer t.wires.mu.Unlock()
	t.wires.cut = cut
}

// leave makes a node one that is not there any more.
func (t table) leave(n *node) {
	t.wires.mu.Lock()
	defer t.wires.mu.Unlock()
	delete(t.wires.nodes, n.run)
}
