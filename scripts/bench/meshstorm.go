//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// meshStorm is a storm that breaks over another server than the one the clients were
// connected to.
type meshStorm struct{ clients, channels int }

// way is how clients come back.
type way struct {
	row string
	// size is how many servers there are; to is the one they come back to.
	size, to int
	// follows: it follows the channels already, as theirs does.
	follows bool
	// killed: theirs is, in the moment before.
	killed bool
	// whole: they have missed nothing.
	whole bool
}

// ways begin with those where a server has in memory what was missed.
var ways = []way{
	{row: "one server alone, back to it", size: 1},
	{row: "back to the same of three", size: meshSize},
	{row: "to another that follows the channels", size: meshSize, to: 1, follows: true},
	{row: "to another that does not", size: meshSize, to: 1},
	{row: "to another that does not, nothing missed", size: meshSize, to: 1, whole: true},
	{row: "theirs killed, to another that follows", size: meshSize, to: 1, follows: true, killed: true},
	{row: "theirs killed, to another that does not", size: meshSize, to: 1, killed: true},
}

func (s meshStorm) run(ctx context.Context, o options, t *table) error {
	for _, w := range ways {
		err := withMesh(ctx, o, w.size, nil, func(m *mesh) error { return s.strike(m, w, t) })
		if err != nil {
			return fmt.Errorf("%s: %w", w.row, err)
		}
	}
	return nil
}

// strike lets the clients come back, each to one of the channels.
func (s meshStorm) strike(m *mesh, w way, t *table) error {
	st := storm{clients: s.clients, channels: s.channels}
	positions, err := s.miss(m, st, w)
	if err != nil {
		return err
	}
	b := m.nodes[w.to]
	conns, err := b.connections(s.clients)
	if err != nil {
		return err
	}
	wait(settleTime)
	cpu, memory, failed, start := m.cpu(), rss(b.t.pid), m.failures(), time.Now()
	if w.killed {
		m.nodes[0].t.kill()
	}
	if err := parallel(s.clients, stormWorkers, func(i int) error {
		return conns[i].send(st.again(i, positions))
	}); err != nil {
		return err
	}
	if err := await("clients were back", int64(s.clients), b.success.Load); err != nil {
		return err
	}
	if !w.whole {
		if err := await("missed events came", int64(s.clients*missedEvents), b.events.Load); err != nil {
			return err
		}
	}
	elapsed := time.Since(start)
	t.add(w.row, "last is whole, s", elapsed.Seconds())
	t.add(w.row, "CPU µs/client", m.work(cpu, elapsed, int64(s.clients)))
	t.add(w.row, "there", m.workOf(cpu, elapsed, int64(s.clients))[w.to])
	t.add(w.row, "MiB there", float64(rss(b.t.pid)-memory)/(1<<20))
	return m.unfailed(failed)
}

// miss stores what the clients miss, in channels that the first server follows, and
// maybe the second. It returns the positions before that, or behind it.
func (s meshStorm) miss(m *mesh, st storm, w way) (map[string]string, error) {
	if err := st.publish(m.nodes[0], 1); err != nil {
		return nil, fmt.Errorf("publish what the clients have: %w", err)
	}
	positions, err := st.positions(m.nodes[0])
	if err == nil && w.follows {
		_, err = st.positions(m.nodes[1])
	}
	if err != nil {
		return nil, fmt.Errorf("get positions: %w", err)
	}
	if err := st.publish(m.nodes[0], missedEvents); err != nil {
		return nil, fmt.Errorf("publish what is missed: %w", err)
	}
	if w.whole {
		return st.positions(m.nodes[0])
	}
	return positions, nil
}
