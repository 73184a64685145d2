package session

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"reecho/broker/flight"
)

// listInterval is how often it is looked for nodes that are new.
const listInterval = 5 * time.Second

// otherIDs is what the other nodes of a cluster have stored of the ids that they
// remember, as far as it was read. It has as many ids as a node has of its own; the
// oldest go. It is safe for concurrent use.
type otherIDs struct {
	records Records
	self    string
	most    uint64 // segments, of each and of all
	keep    time.Duration

	reading flight.Lock
	// Guarded by reading.
	began, listed time.Time // the last reading; that in which the nodes were listed

	mu    sync.Mutex
	nodes map[string]*nodeIDs // by name
}

// nodeIDs is what one node has stored: segments by number, those that cannot be kept
// without their ids.
type nodeIDs struct {
	segments map[uint64]*segment
}

func (o *otherIDs) knows(hash uint64, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range o.nodes {
		for _, g := range n.segments {
			if g.has(hash, now.Add(-o.keep)) {
				return true
			}
		}
	}
	return false
}

// read reads what is new, unless that was done within the last moment: a record that
// was pushed out was stored long before that, and its id too. Of the segments only the
// newest change.
func (o *otherIDs) read(ctx context.Context) error {
	if err := o.reading.Lock(ctx); err != nil {
		return err
	}
	defer o.reading.Unlock()
	now := time.Now()
	if now.Sub(o.began) < flushInterval {
		return nil
	}
	if now.Sub(o.listed) >= listInterval {
		if err := o.list(ctx); err != nil {
			return err
		}
		o.listed = now
	}
	for name, n := range o.all() {
		if err := o.readNode(ctx, idsOf{name, o.most}, n); err != nil {
			return err
		}
	}
	o.forget()
	o.began = now
	return nil
}

// list finds the nodes that have stored something.
func (o *otherIDs) list(ctx context.Context) error {
	keys, err := o.records.List(ctx, idsPrefix)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, key := range keys {
		name, isHead := strings.CutSuffix(strings.TrimPrefix(key, idsPrefix), "head")
		name = strings.TrimSuffix(name, "/") // "" was alone
		if isHead && name != o.self && o.nodes[name] == nil {
			o.nodes[name] = &nodeIDs{segments: make(map[uint64]*segment)}
		}
	}
	return nil
}

func (o *otherIDs) all() map[string]*nodeIDs {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make(map[string]*nodeIDs, len(o.nodes))
	for name, n := range o.nodes {
		all[name] = n
	}
	return all
}

func (o *otherIDs) readNode(ctx context.Context, at idsOf, n *nodeIDs) error {
	newest, err := at.newest(ctx, o.records)
	if err != nil {
		return err
	}
	first := newest - min(newest, o.most) + 1
	for number := first; number <= newest; number++ {
		if o.isWhole(n, number) {
			continue
		}
		g, err := at.segment(ctx, o.records, number)
		if err != nil {
			return err
		}
		// One that is gone does not come any more; the last two may not be stored yet.
		g.whole = len(g.hashes) >= segmentIDs || len(g.hashes) == 0 && number+1 < newest
		slices.Sort(g.hashes)
		o.put(n, g)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for number := range n.segments {
		if number < first || number > newest {
			delete(n.segments, number)
		}
	}
	return nil
}

func (o *otherIDs) isWhole(n *nodeIDs, number uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := n.segments[number]
	return g != nil && g.whole
}

func (o *otherIDs) put(n *nodeIDs, g *segment) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n.segments[g.number] = g
}

// forget drops the ids of the oldest segments if there are too many.
func (o *otherIDs) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	var full []*segment
	for _, n := range o.nodes {
		for _, g := range n.segments {
			if len(g.hashes) > 0 {
				full = append(full, g)
			}
		}
	}
	slices.SortFunc(full, func(a, b *segment) int { return a.newest.Compare(b.newest) })
	for _, g := range full[:max(0, len(full)-int(o.most))] {
		g.hashes, g.whole = nil, true
	}
}
