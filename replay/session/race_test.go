package session

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reecho/broker/brokertest/seed"
	"reecho/replay"
)

// connect is a connection of a client in a hurry, on one of few sessions. It ends
// after a while, or when a newer one takes the session over.
func connect(ctx context.Context, st *Store, rng *rand.Rand, who Who) error {
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	var h Hold
	conn := page{over: cut}
	if rng.IntN(3) == 0 {
		conn.asked = func() { time.AfterFunc(time.Second, h.Answered) }
	}
	if err := st.Claim(&h, who, conn); err != nil {
		return nil // refused, as it may be
	}
	defer func() { h.Release(time.Now()) }()
	if rng.IntN(8) == 0 {
		return nil // it was not even loaded
	}
	if err := h.Load(ctx); err != nil && ctx.Err() == nil {
		return err
	} else if err != nil {
		return nil
	}
	for range rng.IntN(20) {
		channel := fmt.Sprint(rng.IntN(2 * chunkChannels))
		line := lineOf("E1", channel)
		at := line.At(rng.Uint64N(1000))
		switch r, _ := h.Request(channel, line); rng.IntN(4) {
		case 0:
			h.Forget(channel)
		case 1:
			h.Joined(channel, at, replay.Unavailable, true)
		case 2:
			h.Confirm([]Reached{{Channel: channel, Position: at}}, time.Now())
			h.Behind(channel, at)
		default:
			if r.Begin == nil {
				break
			}
			if err := r.Begin(ctx, at); err != nil && ctx.Err() == nil {
				return err
			}
		}
		if rng.IntN(3) == 0 {
			pass(time.Duration(rng.Int64N(int64(time.Second))))
		}
	}
	return nil
}

// Many connections on few sessions, all at once: each session has one hold at a
// time, and when all are gone and everything is stored nothing is left here.
func TestManyHoldsOnFewSessions(t *testing.T) {
	first := seed.First(t)
	synctest.Test(t, func(t *testing.T) {
		records := newTable()
		n := start(t, Config{SavesPerSecond: 1000, PerAddress: 3, Channels: 20}, records)
		var clients sync.WaitGroup
		for i := range uint64(40) {
			rng := rand.New(rand.NewPCG(first, i))
			clients.Go(func() {
				for range 30 {
					who := Who{App: fmt.Sprint(rng.IntN(2)), ID: fmt.Sprint(rng.IntN(3)), Socket: fmt.Sprint(i), Most: 3}
					who.Address = home
					if rng.IntN(2) == 0 {
						who.Address = home.Next()
					}
					if err := connect(t.Context(), n.Store, rng, who); err != nil {
						t.Errorf("%s: %v", seed.Repeat(first), err)
					}
				}
			})
		}
		clients.Wait()
		pass(2 * saveInterval)
		if got := n.counts(); got != [3]int{} {
			t.Errorf("sessions, apps, addresses %v are left", got)
		}
		n.end(t.Context())
		wantReadable(t, start(t, Config{}, records))
	})
}

// wantReadable checks that every session of the test can be loaded.
func wantReadable(t *testing.T, n *node) {
	t.Helper()
	for i := range 6 {
		h := must(n.try(Who{App: fmt.Sprint(i % 2), ID: fmt.Sprint(i / 2)}))(t)
		if err := h.Load(t.Context()); err != nil {
			t.Error(err)
		}
		if len(h.session.marks) > 20 {
			t.Errorf("%d channels are followed, limit 20", len(h.session.marks))
		}
	}
}

// The node stops while connections come and go: what was released before is
// stored, and nothing waits for ever.
func TestCloseUnderLoad(t *testing.T) {
	first := seed.First(t)
	for i := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			records := newTable()
			n := start(t, Config{}, records)
			kept := n.mustClaim(t, "1.1")
			mustBegin(t, kept, "match.1", 5)
			ctx, hangUp := context.WithCancel(t.Context())
			var clients sync.WaitGroup
			for c := range uint64(8) {
				rng := rand.New(rand.NewPCG(first+i, c))
				clients.Go(func() {
					for ctx.Err() == nil {
						_ = connect(ctx, n.Store, rng, Who{App: app, ID: fmt.Sprint(rng.IntN(3)), Address: home})
						pass(time.Millisecond)
					}
				})
			}
			pass(2 * time.Second)
			confirm(kept, "match.1", 7)
			kept.Release(time.Now())
			n.end(t.Context())
			hangUp()
			clients.Wait()
			wantClaim(t, start(t, Config{}, records).mustClaim(t, "1.2"), "match.1", 7)
		})
	}
}
