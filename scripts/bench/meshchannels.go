//go:build linux

package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	// followed is how many channels are followed.
	followed = 100_000
	// followers is over how many connections.
	followers = 500
	// underWay is how many subscriptions wait for their answer at once.
	underWay = 256
	// memoryTime is how long after the work memory is taken: garbage is given back
	// to the system over time.
	memoryTime = 20 * time.Second
	// quietTime is longer than the period in which channels are compared with the
	// streams.
	quietTime = 40 * time.Second
)

// meshChannels is channels that nobody followed before, each with one subscriber on
// the first server, then with another one on the second.
func meshChannels(ctx context.Context, o options, t *table) error {
	for _, size := range []int{1, meshSize} {
		err := withMesh(ctx, o, size, nil, func(m *mesh) error {
			var first []*conn
			for at, which := range []string{"first", "second"}[:min(size, 2)] {
				row := fmt.Sprintf("%d servers, the %s follows", size, which)
				conns, err := m.nodes[at].connections(followers)
				if err != nil {
					return err
				}
				if at == 0 {
					first = conns
				}
				if err := m.follow(t, row, at, conns); err != nil {
					return err
				}
			}
			return m.leave(t, fmt.Sprintf("%d servers, the first lets go", size), first)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// connections are n to one server.
func (b *bench) connections(n int) ([]*conn, error) {
	conns := make([]*conn, n)
	return conns, parallel(n, 32, func(i int) (err error) {
		if conns[i], err = b.dial(); err == nil {
			err = b.watch(conns[i])
		}
		return err
	})
}

func userChannel(i int) string { return fmt.Sprintf("user.%d", i) }

// follow subscribes to all channels on one server.
func (m *mesh) follow(t *table, row string, at int, conns []*conn) error {
	b := m.nodes[at]
	wait(settleTime)
	memory, cpu, failed, start := m.memory(), m.cpu(), m.failures(), time.Now()
	if err := b.each(followed, &b.success, func(i int) error {
		return conns[i%len(conns)].send(public(userChannel(i)))
	}); err != nil {
		return err
	}
	elapsed := time.Since(start)
	t.add(row, "subscribes/s", followed/elapsed.Seconds())
	// With what is done a moment later: each new channel is compared with its stream.
	wait(time.Second)
	m.addShares(t, row, "CPU µs", at, m.workOf(cpu, time.Since(start), followed))
	wait(memoryTime)
	grown := make([]float64, len(m.nodes))
	for i, now := range m.memory() {
		grown[i] = float64(now-memory[i]) / followed
	}
	m.addShares(t, row, "bytes", at, grown)
	cpu, start = m.cpu(), time.Now()
	wait(quietTime)
	m.addShares(t, row, "then CPU µs in 40 s", at, m.workOf(cpu, time.Since(start), followed))
	return m.unfailed(failed)
}

// leave unsubscribes from all channels. The server does not answer that.
func (m *mesh) leave(t *table, row string, conns []*conn) error {
	cpu, start := m.cpu(), time.Now()
	for i := range followed {
		if err := conns[i%len(conns)].send(`{"event":"pusher:unsubscribe","data":{"channel":"` + userChannel(i) + `"}}`); err != nil {
			return err
		}
	}
	wait(2 * settleTime)
	m.addShares(t, row, "CPU µs", 0, m.workOf(cpu, time.Since(start), followed))
	return nil
}

// each sends n messages, with underWay of them waiting for an answer, which a counter
// counts.
func (b *bench) each(n int, answered *atomic.Int64, send func(i int) error) error {
	before := answered.Load()
	done := func() int64 { return answered.Load() - before }
	for i := range n {
		if err := await("answers came", int64(i-underWay), done); err != nil {
			return err
		}
		if err := send(i); err != nil {
			return err
		}
	}
	return await("answers came", int64(n), done)
}

// addShares adds the figure of the server that did the work, and what another one had
// of it.
func (m *mesh) addShares(t *table, row, column string, at int, shares []float64) {
	t.add(row, column+" there", shares[at])
	for i, share := range shares {
		if i != at {
			t.add(row, column+" on each other", share)
		}
	}
}
