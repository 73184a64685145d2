//go:build unix

package edge

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/broker/brokertest/seed"
	"reecho/edge/app"
	"reecho/edge/limit"
	"reecho/edge/pusher"
)

// newMemoryTenant is the one app of a hub with a real broker.
func newMemoryTenant(t testing.TB, cfg Config) *Tenant {
	t.Helper()
	log := brokertest.Start(t, broker.Config{})
	apps, err := app.NewRegistry([]*app.App{{
		ID: "77", Credentials: []app.Credential{{Key: "demo-key-01", Secret: "demo-secret-01"}}, Enabled: true,
		ActivityTimeout: app.DefaultActivityTimeout, Limits: app.DefaultLimits(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	hub, err := NewHub(t.Context(), cfg, apps, log, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hub.Close(t.Context(), 0) }) // a cancelled context: clients of no server never end
	return hub.tenants[apps.All()[0]]
}

func (c *client) mustSubscribe(name string) {
	if wait := c.subscribeTo(pusher.Subscribe{Channel: name}, nil); wait != nil {
		wait()
	}
}

func (c *client) mustLeave(name string) {
	c.unsubscribe([]byte(`{"channel":"` + name + `"}`))
}

// open is how many channels the node follows.
func (cs *channels) open() (n int) {
	cs.each(func(*channel) { n++ })
	return n
}

// Channels that nobody is on take no more memory than they may at any moment,
// also between two sweeps: those longest without subscribers go first, and each
// that somebody came back to is a new one.
func TestLingerMemory(t *testing.T) {
	t.Parallel()
	ledger := limit.NewLedger(slog.New(slog.DiscardHandler))
	cost := costOf(&channel{name: "chat.100"})
	owner := newMemoryTenant(t, Config{LingerMemory: int(10 * cost), Ledger: ledger})
	c := owner.subscriber(&sinkConn{})
	for i := range 50 {
		name := fmt.Sprintf("chat.%d", 100+i)
		c.mustSubscribe(name)
		c.mustLeave(name)
		// Somebody comes back to the first again and again.
		c.mustSubscribe("chat.100")
		c.mustLeave("chat.100")
		if n := owner.channels.open(); n > 10 {
			t.Fatalf("%d channels linger after %d, limit 10", n, i+1)
		}
	}
	for name, want := range map[string]bool{"chat.100": true, "chat.149": true, "chat.141": true, "chat.140": false, "chat.101": false} {
		if got := owner.channels.find(name) != nil; got != want {
			t.Errorf("%s is followed: %v, want %v", name, got, want)
		}
	}
	if got := ledger.Total(limit.LingerMemory); got != 40 {
		t.Errorf("the ledger has %d, want 40", got)
	}
	owner.node.lingering.close(time.Now())
	if n, bytes := owner.channels.open(), owner.node.lingering.bytes; n != 0 || bytes != 0 {
		t.Errorf("%d channels of %d bytes are left after the linger time", n, bytes)
	}
	if used := owner.node.memory.used.Load(); used != 0 {
		t.Errorf("%d bytes are counted for subscribers, there are none", used)
	}
}

// Above the memory for channels no new one is made; those that are there can be
// subscribed to for a while longer, and whoever leaves makes room.
func TestChannelMemory(t *testing.T) {
	t.Parallel()
	each := costOf(&channel{name: "chat.100"}) + subscriptionCost
	ledger := limit.NewLedger(slog.New(slog.DiscardHandler))
	owner := newMemoryTenant(t, Config{ChannelMemory: int(80 * each), Ledger: ledger})
	try := func(name string) (c *client, subscribed bool) {
		c = owner.subscriber(&sinkConn{})
		c.mustSubscribe(name)
		return c, len(c.subs) == 1
	}
	var made []*client
	for i := range 100 {
		if c, subscribed := try(fmt.Sprintf("chat.%d", 100+i)); subscribed {
			made = append(made, c)
		}
	}
	if got := len(made); got != 70 || ledger.Total(limit.ChannelMemory) != 30 {
		t.Errorf("%d channels were made, want 70; the ledger has %d, want 30", got, ledger.Total(limit.ChannelMemory))
	}
	joined := 0
	for _, subscribed := try("chat.100"); subscribed && joined < 10_000; joined++ {
		_, subscribed = try("chat.100")
	}
	if want := int(10 * each / subscriptionCost); joined != want {
		t.Errorf("%d joined a channel that exists, want %d", joined, want)
	}
	for i, c := range made[30:] {
		c.mustLeave(fmt.Sprintf("chat.%d", 130+i))
	}
	if _, subscribed := try("chat.later"); !subscribed {
		t.Error("refused though there is room")
	}
}

// However many want as many channels as they can get, they stop each other, and
// one who comes later still gets some.
func TestChannelMemoryIsShared(t *testing.T) {
	t.Parallel()
	each := costOf(&channel{name: "chat.1000"}) + subscriptionCost
	owner := newMemoryTenant(t, Config{ChannelMemory: int(2000 * each)})
	greedy := make([]*client, 100)
	for i := range greedy {
		greedy[i] = owner.subscriber(&sinkConn{})
	}
	name := 1000
	subscribe := func(c *client, n int) {
		for range n {
			c.mustSubscribe(fmt.Sprintf("chat.%d", name))
			name++
		}
	}
	for _, c := range greedy {
		subscribe(c, 200)
	}
	late := owner.subscriber(&sinkConn{})
	subscribe(late, 200)
	if n := len(late.subs); n < 5 {
		t.Errorf("one who comes late got %d channels", n)
	}
	if n := len(greedy[0].subs); n > 15 {
		t.Errorf("the first got %d channels", n)
	}
}

// Whatever clients do at once, what is counted is what there is.
func TestChannelsAreCounted(t *testing.T) {
	t.Parallel()
	first := seed.First(t)
	cost := costOf(&channel{name: "chat.0"})
	owner := newMemoryTenant(t, Config{LingerMemory: int(5 * cost), ChannelMemory: int(12 * cost)})
	var tasks sync.WaitGroup
	for worker := range uint64(8) {
		tasks.Go(func() {
			random := rand.New(rand.NewPCG(first, worker))
			c := owner.subscriber(&sinkConn{})
			for range 1000 {
				name := fmt.Sprintf("chat.%d", random.IntN(20))
				if c.find(name) == nil {
					c.mustSubscribe(name)
				} else {
					c.mustLeave(name)
				}
			}
			for len(c.subs) > 0 {
				c.mustLeave(c.subs[0].ch.name)
			}
		})
	}
	tasks.Wait()
	if used := owner.node.memory.used.Load(); used != 0 {
		t.Errorf("%d bytes are counted for subscribers, there are none", used)
	}
	bytes := int64(0)
	owner.channels.each(func(ch *channel) { bytes += costOf(ch) })
	if bytes != owner.node.lingering.bytes || bytes > 5*cost {
		t.Errorf("%d bytes linger, %d are counted, limit %d", bytes, owner.node.lingering.bytes, 5*cost)
	}
	if n := owner.node.lingering.idle.Len(); n != owner.channels.open() {
		t.Errorf("%d channels wait for their end, there are %d", n, owner.channels.open())
	}
}

// BenchmarkChannelMemory is the heap of a channel with one subscriber, and of
// one more subscriber, for short and for long names. What the process takes is
// twice that, for the collector lets the heap grow to it: channelCost,
// channelNameCost and subscriptionCost are made of these figures.
func BenchmarkChannelMemory(b *testing.B) {
	const channels, perClient = 20_000, 200
	for _, more := range []int{0, 150} {
		b.Run(fmt.Sprintf("name=%d", len("channel.20000")+more), func(b *testing.B) {
			for b.Loop() {
				owner := newMemoryTenant(b, Config{ChannelMemory: 1 << 30, LingerMemory: 1 << 30})
				subscribe := func(offset int) (clients []*client) {
					for i := range channels {
						if i%perClient == 0 {
							clients = append(clients, owner.subscriber(&sinkConn{}))
						}
						clients[len(clients)-1].mustSubscribe(fmt.Sprintf("channel.%05d%s", i+offset, strings.Repeat("x", more)))
					}
					return clients
				}
				all := subscribe(channels) // the tables have their size
				before := heapBytes()
				all = append(all, subscribe(0)...)
				b.ReportMetric(float64(heapBytes()-before)/channels, "heap-B/channel")
				before = heapBytes()
				all = append(all, subscribe(0)...)
				b.ReportMetric(float64(heapBytes()-before)/channels, "heap-B/subscription")
				runtime.KeepAlive(all)
			}
		})
	}
}
