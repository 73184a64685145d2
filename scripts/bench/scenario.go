//go:build linux

package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"reecho/edge/pusher"
)

// scenario is one row of what is compared.
type scenario struct {
	name string
	run  func(context.Context, *bench) (result, error)
}

var scenarios = []scenario{
	{"fanout-1000", fanout(1000, 1, 100)},
	{"fanout-1000-positions", fanoutTo(1000, 1, 100, positioned, false)},
	{"fanout-1000-sessions", fanoutTo(1000, 1, 100, public, true)},
	{"json-1000", steady(false)},
	{"json-1000-deflate", steady(true)},
	{"fanout-1000-xhr", overXHR(fanout(1000, 1, 100))},
	{"fanout-100", fanout(100, 1, 2000)},
	{"fanout-100-batch", fanout(100, 10, 2000)},
	{"fanout-10000", fanout(10000, 1, 4)},
	{"latency-1000", latency},
	{"channels-5000", manyChannels},
	{"publish", publishOnly(1)},
	{"publish-batch", publishOnly(10)},
	{"client-events", clientEvents},
	{"presence-churn", presenceChurn},
	{"idle-10000", idle},
	{"idle-10000-xhr", overXHR(idle)},
	{"connects", connects},
}

func scenarioNames() []string {
	var names []string
	for _, s := range slices.Concat(scenarios, storms) {
		names = append(names, s.name)
	}
	for _, s := range meshes {
		names = append(names, s.name)
	}
	return names
}

// subscribe opens n connections, each subscribed to the channel that name gives.
func (b *bench) subscribe(n int, message func(i int, c *conn) string) ([]*conn, error) {
	conns := make([]*conn, n)
	before := b.success.Load()
	err := parallel(n, 32, func(i int) error {
		c, err := b.dial()
		if err != nil {
			return err
		}
		conns[i] = c
		if err := b.watch(c); err != nil {
			return err
		}
		return c.send(message(i, c))
	})
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(20 * time.Second); b.success.Load()-before < int64(n); wait(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%d of %d subscriptions succeeded", b.success.Load()-before, n)
		}
	}
	return conns, nil
}

func public(channel string) string {
	return `{"event":"pusher:subscribe","data":{"auth":"","channel":"` + channel + `"}}`
}

func positioned(channel string) string {
	return `{"event":"pusher:subscribe","data":{"auth":"","channel":"` + channel + `","replay":{}}}`
}

func (b *bench) signed(c *conn, channel, channelData string) string {
	text := c.socketID + ":" + channel
	extra := ""
	if channelData != "" {
		text += ":" + channelData
		extra = `,"channel_data":` + string(pusher.AppendString(nil, channelData))
	}
	return `{"event":"pusher:subscribe","data":{"auth":"` + b.o.key + ":" + pusher.Sign(b.o.secret, text) + `","channel":"` + channel + `"` + extra + `}}`
}

func (b *bench) publishers(n int) ([]*publisher, error) {
	all := make([]*publisher, n)
	for i := range all {
		p, err := b.publisher()
		if err != nil {
			return nil, err
		}
		all[i] = p
	}
	return all, nil
}

// fanout searches the highest rate for one channel; from is the first event
// rate.
func fanout(subscribers, batch int, from float64) func(context.Context, *bench) (result, error) {
	return fanoutTo(subscribers, batch, from, public, false)
}

// fanoutTo is fanout for subscribers of a kind: subscribe makes the message,
// sessions gives each connection a session.
func fanoutTo(subscribers, batch int, from float64, subscribe func(string) string, sessions bool) func(context.Context, *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		b.sessions = sessions
		if _, err := b.subscribe(subscribers, func(int, *conn) string { return subscribe("match.1") }); err != nil {
			return result{}, err
		}
		publishers, err := b.publishers(8)
		if err != nil {
			return result{}, err
		}
		r, err := b.search(ctx, from, func(offered float64) (result, error) {
			var failed error
			r := b.measure(&b.events, func(until time.Time) int64 {
				n, err := paced(offered/float64(batch), len(publishers), until, func(w, _ int) error { return publishers[w].publish("match.1", batch) })
				failed = err
				return n * int64(batch) * int64(subscribers)
			})
			return r, failed
		})
		r.Note = fmt.Sprintf("%d subscribers, %.0f events/s, %d per request", subscribers, r.Offered, batch)
		return r, err
	}
}

// steady is 1,000 subscribers that get 50 events a second of JSON, compressed or not:
// what a delivery costs, in CPU and in bytes.
func steady(deflate bool) func(context.Context, *bench) (result, error) {
	return func(_ context.Context, b *bench) (result, error) {
		const subscribers, rate = 1000, 50
		b.json, b.deflate = true, deflate
		if _, err := b.subscribe(subscribers, func(int, *conn) string { return public("match.1") }); err != nil {
			return result{}, err
		}
		publishers, err := b.publishers(1)
		if err != nil {
			return result{}, err
		}
		var failed error
		received := b.received.Load()
		r := b.measure(&b.events, func(until time.Time) int64 {
			n, err := paced(rate, 1, until, func(int, int) error { return publishers[0].publish("match.1", 1) })
			failed = err
			return n * subscribers
		})
		r.BytesPerDelivery = float64(b.received.Load()-received) / (r.Rate * b.o.duration.Seconds())
		return r, failed
	}
}

// latency is a quiet channel: 1,000 subscribers, 10 events a second.
func latency(_ context.Context, b *bench) (result, error) {
	const subscribers = 1000
	if _, err := b.subscribe(subscribers, func(int, *conn) string { return public("match.1") }); err != nil {
		return result{}, err
	}
	publishers, err := b.publishers(1)
	if err != nil {
		return result{}, err
	}
	b.o.duration *= 2
	var failed error
	r := b.measure(&b.events, func(until time.Time) int64 {
		n, err := paced(10, 1, until, func(int, int) error { return publishers[0].publish("match.1", 1) })
		failed = err
		return n * subscribers
	})
	return r, failed
}

// manyChannels is 5,000 channels with one subscriber each.
func manyChannels(_ context.Context, b *bench) (result, error) {
	const channels = 5000
	name := func(i int) string { return fmt.Sprintf("user.%d", i%channels) }
	if _, err := b.subscribe(channels, func(i int, _ *conn) string { return public(name(i)) }); err != nil {
		return result{}, err
	}
	publishers, err := b.publishers(32)
	if err != nil {
		return result{}, err
	}
	var failed error
	r := b.measure(&b.events, func(until time.Time) int64 {
		n, err := flood(publishers, until, name, 1)
		failed = err
		return n
	})
	return r, failed
}

// publishOnly is 16 connections that publish where nobody listens.
func publishOnly(batch int) func(context.Context, *bench) (result, error) {
	return func(_ context.Context, b *bench) (result, error) {
		publishers, err := b.publishers(16)
		if err != nil {
			return result{}, err
		}
		var stored atomic.Int64
		var failed error
		r := b.measure(&stored, func(until time.Time) int64 {
			n, err := flood(publishers, until, func(i int) string { return fmt.Sprintf("user.%d", i%5000) }, batch)
			failed = err
			stored.Add(n)
			return n
		})
		r.Unit = "events stored"
		return r, failed
	}
}

// clientEvents is 1,000 clients in private channels of 10.
func clientEvents(ctx context.Context, b *bench) (result, error) {
	const clients, group = 1000, 10
	name := func(i int) string { return fmt.Sprintf("private-room.%d", i/group) }
	conns, err := b.subscribe(clients, func(i int, c *conn) string { return b.signed(c, name(i), "") })
	if err != nil {
		return result{}, err
	}
	return b.search(ctx, 4000, func(offered float64) (result, error) {
		var failed error
		r := b.measure(&b.events, func(until time.Time) int64 {
			n, err := paced(offered, 2*runtime.NumCPU(), until, func(_, i int) error {
				i = i * 7 % clients
				return conns[i].send(`{"event":"client-bench","channel":"` + name(i) + `","data":"` + b.data() + `"}`)
			})
			failed = err
			return n * (group - 1)
		})
		return r, failed
	})
}

// presenceChurn is 500 members who see others come and go.
func presenceChurn(ctx context.Context, b *bench) (result, error) {
	const members, churners = 500, 64
	join := func(c *conn, id string) string {
		return b.signed(c, "presence-lobby", `{"user_id":"`+id+`","user_info":{"name":"`+id+`"}}`)
	}
	if _, err := b.subscribe(members, func(i int, c *conn) string { return join(c, fmt.Sprintf("member-%d", i)) }); err != nil {
		return result{}, err
	}
	conns := make([]*conn, churners)
	joins := make([]string, churners)
	for i := range conns {
		c, err := b.dial()
		if err == nil {
			err = b.watch(c)
		}
		if err != nil {
			return result{}, err
		}
		conns[i], joins[i] = c, join(c, fmt.Sprintf("guest-%d", i))
	}
	wait(time.Second)
	return b.search(ctx, 100, func(offered float64) (result, error) {
		removed := b.removed.Load()
		r := b.measure(&b.added, func(until time.Time) int64 {
			n, err := paced(offered, churners, until, func(w, _ int) error {
				if err := conns[w].send(joins[w]); err != nil {
					return err
				}
				return conns[w].send(`{"event":"pusher:unsubscribe","data":{"channel":"presence-lobby"}}`)
			})
			if err != nil {
				// Closed as too slow: the step is a bad one.
				b.failures.Add(1)
			}
			// Guests see each other too, now and then: at least this many.
			return n * members
		})
		for deadline := time.Now().Add(2 * time.Second); b.removed.Load()-removed < int64(r.Rate*b.o.duration.Seconds()) && time.Now().Before(deadline); {
			wait(10 * time.Millisecond)
		}
		r.Rate, r.Unit = r.Rate/members, "joins (and as many leaves) seen by all 500 members"
		return r, nil
	})
}

// idle is the memory of 10,000 connections that are subscribed and quiet.
func idle(_ context.Context, b *bench) (result, error) {
	const n = 10000
	warm, err := b.subscribe(100, func(int, *conn) string { return public("match.1") })
	if err != nil {
		return result{}, err
	}
	wait(2 * time.Second)
	before := rss(b.t.pid)
	if _, err := b.subscribe(n, func(int, *conn) string { return public("match.1") }); err != nil {
		return result{}, err
	}
	atOnce := rss(b.t.pid) - before
	wait(20 * time.Second)
	settled := rss(b.t.pid) - before
	return result{
		Rate: n, Unit: "connections", BytesPerConn: float64(settled) / n, RSSMiB: float64(rss(b.t.pid)) / (1 << 20),
		Note: fmt.Sprintf("%.0f bytes per connection at once, %d connections before", float64(atOnce)/n, len(warm)),
	}, nil
}

// connects is connect, connection_established, subscribe, success, close.
func connects(_ context.Context, b *bench) (result, error) {
	var made atomic.Int64
	r := b.measure(&made, func(until time.Time) int64 {
		_ = parallel(1<<30, 64, func(int) error {
			if time.Now().After(until) {
				return context.DeadlineExceeded
			}
			if err := b.connectOnce(); err != nil {
				b.failures.Add(1)
				return nil //nolint:nilerr // counted
			}
			made.Add(1)
			return nil
		})
		return 0
	})
	r.Unit = "connects"
	return r, nil
}

func (b *bench) connectOnce() error {
	start := time.Now()
	nc, r, _, _, err := b.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	if _, err := nc.Write(maskedFrame(public("match.1"))); err != nil {
		return err
	}
	if _, err := readFrame(r); err != nil {
		return err
	}
	b.latency.add(time.Since(start))
	return nil
}
