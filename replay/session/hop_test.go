package session

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reecho/broker/brokertest/seed"
)

// hopper is a client that goes from node to node, and loses connections of which the
// nodes do not know.
type hopper struct {
	t     *testing.T
	rng   *rand.Rand
	what  string // to repeat it
	nodes []*node
	id    string

	next uint64 // of what is published
	hold *Hold
	over *atomic.Bool // it was closed
	old  []*Hold
	// has is what the client has of each channel that it knows it joined: what it
	// got, and what it said of that.
	has map[string]*progress
	// unsure are channels that it joined or left without having been told.
	unsure map[string]bool
}

type progress struct{ got, said uint64 }

func (c *hopper) errorf(format string, args ...any) {
	c.t.Helper()
	c.t.Errorf("%s: client %s: %s", c.what, c.id, fmt.Sprintf(format, args...))
}

// connect goes to a node, and subscribes to all that it had. The connection before is
// ended, or half open for good or for a while.
func (c *hopper) connect() {
	if c.hold != nil {
		switch c.rng.IntN(3) {
		case 0:
			c.hold.Release(time.Now())
		default:
			c.old = append(c.old, c.hold)
		}
	}
	h := &Hold{}
	over := &atomic.Bool{}
	c.hold, c.over = h, over
	n := c.nodes[c.rng.IntN(len(c.nodes))]
	conn := page{over: func() { over.Store(true); h.Release(time.Now()) }}
	socket := fmt.Sprint(c.rng.Uint32())
	if err := n.Claim(h, Who{App: app, ID: c.id, Socket: socket, Address: home}, conn); err != nil {
		c.errorf("%v", err)
		return
	}
	if err := h.Load(c.t.Context()); err != nil {
		c.hold = nil // it comes again
		h.Release(time.Now())
		return
	}
	for channel, p := range c.has {
		c.back(channel, p)
	}
}

// back checks what a subscription to a channel is told that the client had.
func (c *hopper) back(channel string, p *progress) {
	r, returning := c.hold.Request(channel, lineOf("E1", channel))
	switch {
	case c.over.Load():
	case !returning:
		// A node that cannot write goes by what it knows, until it has to write.
		if r.Begin(c.t.Context(), lineOf("E1", channel).At(c.next)) == nil {
			c.errorf("%s is new, the client has up to %d of it", channel, p.said)
		}
	case r.Lost != "":
		c.errorf("%s is lost, %s", channel, r.Lost)
	case r.Claim.Sequence > p.got:
		c.errorf("%s goes on behind %d, the client has up to %d", channel, r.Claim.Sequence, p.got)
	}
}

func (c *hopper) step() {
	channel := fmt.Sprint("match.", c.rng.IntN(3*chunkChannels))
	if c.hold == nil || c.over.Load() {
		c.connect()
		return
	}
	c.next++
	switch c.rng.IntN(10) {
	case 0:
		c.connect()
	case 1, 2, 3, 4:
		c.join(channel)
	case 5, 6, 7:
		c.confirm()
	case 8:
		c.lateWords(channel)
	case 9:
		pass(time.Duration(c.rng.Int64N(int64(3 * saveInterval))))
	}
}

func (c *hopper) join(channel string) {
	line := lineOf("E1", channel)
	r, returning := c.hold.Request(channel, line)
	if p := c.has[channel]; p != nil {
		c.back(channel, p)
		return
	}
	if returning {
		if !c.unsure[channel] && !c.over.Load() {
			c.errorf("%s is not new: %+v", channel, r)
		}
		c.has[channel] = &progress{got: r.Claim.Sequence, said: r.Claim.Sequence}
		return
	}
	c.unsure[channel] = true
	if err := r.Begin(c.t.Context(), line.At(c.next)); err == nil {
		c.has[channel] = &progress{c.next, c.next}
	}
}

// confirm says that everything has arrived of some channels, which is so.
func (c *hopper) confirm() {
	for channel, p := range c.has {
		if c.rng.IntN(4) > 0 {
			continue
		}
		p.got = c.next
		c.hold.Confirm([]Reached{{Channel: channel, Position: lineOf("E1", channel).At(p.got)}}, time.Now())
		p.said = p.got
	}
}

// lateWords is that an old connection ends at last, or what was said on it arrives.
func (c *hopper) lateWords(channel string) {
	if len(c.old) == 0 {
		return
	}
	i := c.rng.IntN(len(c.old))
	h := c.old[i]
	switch c.rng.IntN(3) {
	case 0:
		h.Release(time.Now())
		c.old = append(c.old[:i:i], c.old[i+1:]...)
	case 1:
		if p := c.has[channel]; p != nil {
			h.Confirm([]Reached{{Channel: channel, Position: lineOf("E1", channel).At(p.said)}}, time.Now())
		}
	case 2:
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
		defer cancel()
		if r, _ := h.Request(channel, lineOf("E1", channel)); r.Begin != nil && h.Loaded() && c.has[channel] == nil {
			c.unsure[channel] = true
			_ = r.Begin(ctx, lineOf("E1", channel).At(c.next)) // nobody is told
		}
	}
}

// Clients go from node to node of a cluster and come back, their old connections end
// whenever they want, answers are lost and nodes cannot ask each other for a while:
// what a client was told that it joined it goes on with everywhere, behind nothing
// that it does not have.
func TestClientsHop(t *testing.T) {
	first := seed.First(t)
	const worlds = 60
	for i := range uint64(worlds) {
		t.Run(seed.Repeat(first+i), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { hopAround(t, first+i) })
		})
	}
}

func hopAround(t *testing.T, seeded uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seeded, 11))
	records := newCluster()
	cfg := Config{Time: time.Hour, SavesPerSecond: 1000}
	var nodes []*node
	for range 2 + rng.IntN(2) {
		nodes = append(nodes, start(t, cfg, records))
	}
	var clients []*hopper
	for i := range 3 {
		clients = append(clients, &hopper{
			t: t, rng: rng, what: seed.Repeat(seeded), nodes: nodes, id: fmt.Sprint("client-", i),
			has: make(map[string]*progress), unsure: make(map[string]bool),
		})
	}
	for range 150 {
		clients[rng.IntN(len(clients))].step()
		switch n := nodes[rng.IntN(len(nodes))]; rng.IntN(30) {
		case 0:
			records.cutWires(rng.IntN(2) == 0)
		case 1:
			lose := rng.IntN(2) == 0
			n.intercept(nil, func(key string) bool { return lose && len(key)%2 == 0 })
		case 2:
			n.breakOff(errIO)
		case 3, 4:
			n.breakOff(nil)
		}
	}
	for _, n := range nodes {
		n.breakOff(nil)
		n.intercept(nil, nil)
	}
	pass(4 * saveInterval)
	for range 3 {
		for _, c := range clients {
			c.connect()
			pass(askTime)
		}
	}
}
