//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

const (
	// members are in rooms of roomSize, spread over the servers; each connection is
	// one in perClient rooms.
	members   = 100_000
	roomSize  = 10
	perClient = 100
	clients   = members / perClient
)

// meshPresence is members of presence channels who come, stay, and come and go.
func meshPresence(ctx context.Context, o options, t *table) error {
	for _, size := range []int{1, meshSize} {
		err := withMesh(ctx, o, size, nil, func(m *mesh) error {
			return m.presence(t, fmt.Sprintf("%d servers", size))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// crowd is the members.
type crowd struct {
	m     *mesh
	conns []*conn
}

func (m *mesh) presence(t *table, row string) error {
	c := crowd{m: m}
	for i := range clients {
		conns, err := m.nodes[i%len(m.nodes)].connections(1)
		if err != nil {
			return err
		}
		c.conns = append(c.conns, conns...)
	}
	memory, failed := total(m.memory()), m.failures()
	if err := c.move(t, row+": come", members, func(int) error { return nil }); err != nil {
		return err
	}
	wait(memoryTime)
	t.add(row+": come", "bytes a member, each server", float64(total(m.memory())-memory)/float64(members*len(m.nodes)))
	before, start := m.cpu(), time.Now()
	wait(quietTime / 4)
	t.add(row+": stay", "CPU ms/s", m.work(before, time.Since(start), 1)/1000/time.Since(start).Seconds())
	if err := c.move(t, row+": go and come back", members/4, c.leave); err != nil {
		return err
	}
	return m.unfailed(failed)
}

// move lets n members come, each after before was called for it.
func (c *crowd) move(t *table, row string, n int, before func(i int) error) error {
	added := func() int64 { return c.m.sum(func(b *bench) int64 { return b.added.Load() }) }
	success := func() int64 { return c.m.sum(func(b *bench) int64 { return b.success.Load() }) }
	cpu, start, seen, joined := c.m.cpu(), time.Now(), added(), success()
	for i := range n {
		if err := await("members came", int64(i-underWay), func() int64 { return success() - joined }); err != nil {
			return err
		}
		if err := before(i); err != nil {
			return err
		}
		if err := c.join(i); err != nil {
			return err
		}
	}
	if err := await("members came", int64(n), func() int64 { return success() - joined }); err != nil {
		return err
	}
	elapsed := time.Since(start)
	wait(time.Second) // what others are told
	t.add(row, "joins/s", float64(n)/elapsed.Seconds())
	t.add(row, "CPU µs/join", c.m.work(cpu, time.Since(start), int64(n)))
	t.add(row, "told to others, each", float64(added()-seen)/float64(n))
	return nil
}

// room is where the i-th membership is: the members of a room come one after the
// other, over connections to all servers.
func (c *crowd) room(i int) (name string, of *conn, id string) {
	client := i % clients
	name = fmt.Sprintf("presence-room.%d-%d", i/clients, client/roomSize)
	return name, c.conns[client], fmt.Sprintf("member-%d", client)
}

func (c *crowd) join(i int) error {
	name, of, id := c.room(i)
	return of.send(c.m.nodes[0].signed(of, name, `{"user_id":"`+id+`","user_info":{"name":"`+id+`"}}`))
}

func (c *crowd) leave(i int) error {
	name, of, _ := c.room(i)
	return of.send(`{"event":"pusher:unsubscribe","data":{"channel":"` + name + `"}}`)
}
