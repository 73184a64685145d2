package edge

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"reecho/broker/cluster"
	"reecho/edge/app"
	"reecho/edge/fanout"
	"reecho/edge/pusher"
)

// silentConn is a connection on which the peer says nothing, or answers pings
// alone. Its clock is that of the ticks.
type silentConn struct {
	answers bool
	now     time.Time
	heard   time.Time // when the peer was last heard
	pings   []time.Time
	queued  int
	code    int // of the close; 0: open
}

func (c *silentConn) Send([][]byte) error { return nil }

func (c *silentConn) Answer([][]byte) error { return nil }

func (*silentConn) Owe(int, int) {}

func (c *silentConn) Close(code int, _ string) { c.code = code }

func (c *silentConn) Ping() {
	c.pings = append(c.pings, c.now)
	if c.answers {
		c.heard = c.now
	}
}

func (c *silentConn) Tick(now time.Time) time.Duration {
	c.now = now
	return now.Sub(c.heard)
}

func (c *silentConn) Queued() int { return c.queued }

// Drained never is while something waits: the peer does not read.
func (c *silentConn) Drained() <-chan struct{} {
	if c.queued > 0 {
		return nil
	}
	return closed()
}

// closed returns a channel that is.
func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func (*silentConn) Remote() netip.AddrPort { return netip.AddrPort{} }

func newSilentTenant(interval time.Duration) *Tenant {
	node := &services{cfg: Config{PingInterval: interval, PongTimeout: DefaultPongTimeout}, started: time.Now(), nodes: cluster.Alone()}
	return newTenant(node, &app.App{ID: "77", ActivityTimeout: app.DefaultActivityTimeout, Limits: app.DefaultLimits()})
}

// Silence towards a client lasts no longer than the interval and a tick, and
// clients that came at the same moment are not pinged at the same moment.
func TestSilenceIsBroken(t *testing.T) {
	t.Parallel()
	const clients, minutes = 1000, 10
	owner := newSilentTenant(DefaultPingInterval)
	second := make(map[int]int) // pings in each
	for range clients {
		conn := &silentConn{answers: true, heard: owner.node.started}
		c := &client{Member: fanout.NewMember(conn, pusher.NewSocketID()), app: owner, protocol: newestProtocol}
		c.pingAt = owner.firstPing(c.ID(), owner.node.started)
		last := owner.node.started
		for at := range minutes * 60 {
			n := len(conn.pings)
			c.Tick(owner.node.started.Add(time.Duration(at) * time.Second))
			for _, ping := range conn.pings[n:] {
				if silence := ping.Sub(last); silence > DefaultPingInterval+fanout.TickPeriod {
					t.Fatalf("silent for %v", silence)
				}
				last = ping
				second[at]++
			}
		}
		if conn.code != 0 {
			t.Fatalf("a client that answers pings was closed with %d", conn.code)
		}
		if n := len(conn.pings); n < minutes*60/46 || n > minutes*60/45+1 {
			t.Fatalf("%d pings in %d minutes", n, minutes)
		}
	}
	for at, n := range second {
		if n > clients/10 {
			t.Errorf("%d of %d clients were pinged in second %d", n, clients, at)
		}
	}
}

// An app may have its clients pinged sooner or later than the server does.
func TestPingIntervalOfApp(t *testing.T) {
	t.Parallel()
	for _, server := range []time.Duration{0, time.Second, time.Hour} {
		owner := newSilentTenant(server)
		owner.PingInterval = 10 * time.Second
		conn := &silentConn{answers: true, heard: owner.node.started}
		c := &client{Member: fanout.NewMember(conn, pusher.NewSocketID()), app: owner, protocol: newestProtocol}
		c.pingAt = owner.firstPing(c.ID(), owner.node.started)
		for at := range 100 {
			c.Tick(owner.node.started.Add(time.Duration(at) * time.Second))
		}
		if n := len(conn.pings); n < 9 || n > 11 {
			t.Errorf("%d pings in 100 s of a server that pings after %v, want one in 10 s", n, server)
		}
	}
}

// Pings against silence change nothing about who is closed and when: a client
// that answers nothing goes with 4201 after activity_timeout and pong_timeout,
// and without them it is pinged after activity_timeout as before.
func TestPingsDoNotHideTheDead(t *testing.T) {
	t.Parallel()
	for name, interval := range map[string]time.Duration{"on": DefaultPingInterval, "off": 0, "long": time.Hour} {
		owner := newSilentTenant(interval)
		conn := &silentConn{heard: owner.node.started}
		c := &client{Member: fanout.NewMember(conn, pusher.NewSocketID()), app: owner, protocol: newestProtocol}
		c.pingAt = owner.firstPing(c.ID(), owner.node.started)
		at := time.Duration(0)
		for ; conn.code == 0 && at < time.Hour; at += time.Second {
			c.Tick(owner.node.started.Add(at))
		}
		if want := app.DefaultActivityTimeout + DefaultPongTimeout + time.Second; conn.code != pusher.CodePongTimeout || at != want {
			t.Errorf("%s: closed with %d after %v, want 4201 after %v", name, conn.code, at, want)
		}
		pinged := false
		for _, ping := range conn.pings {
			pinged = pinged || ping.Sub(owner.node.started) == app.DefaultActivityTimeout
		}
		if !pinged {
			t.Errorf("%s: no ping after activity_timeout, pings at %v", name, conn.pings)
		}
	}
}

// A peer that does not read gets no pings on top of what waits for it.
func TestNoPingsBehindAQueue(t *testing.T) {
	t.Parallel()
	owner := newSilentTenant(time.Second)
	conn := &silentConn{heard: owner.node.started, queued: 1}
	c := &client{Member: fanout.NewMember(conn, pusher.NewSocketID()), app: owner, protocol: newestProtocol}
	for at := range 100 {
		c.Tick(owner.node.started.Add(time.Duration(at) * time.Second))
	}
	if len(conn.pings) != 0 {
		t.Errorf("%d pings", len(conn.pings))
	}
}

// A client that was admitted just before the hub began to close is closed, though
// its wave may be over when it gets its shard.
func TestAdmittedBeforeTheWaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		owner := newSilentTenant(0)
		owner.node.pool = fanout.NewPool[*client](1)
		defer owner.node.pool.Close()
		owner.node.census = census{open: 1, gone: make(chan struct{})}
		hub := &Hub{node: owner.node}
		for _, code := range []int{0, pusher.CodeReconnect} {
			if code != 0 {
				hub.drain(t.Context(), 0)
				synctest.Wait()
			}
			conn := &silentConn{}
			hub.add(&client{Member: fanout.NewMember(conn, pusher.NewSocketID()), app: owner, protocol: newestProtocol})
			if conn.code != code {
				t.Errorf("closed with %d, want %d", conn.code, code)
			}
		}
	})
}
