package natsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

func TestLeafConfig(t *testing.T) {
	t.Parallel()
	valid := LeafConfig{Name: "e1", Cluster: "live", Secret: "a secret of servers", Hubs: []string{"a:7422"}}
	if err := valid.Validate(); err != nil {
		t.Error(err)
	}
	for want, edit := range map[string]func(*LeafConfig){
		"needs a name":        func(c *LeafConfig) { c.Name = "" },
		"that of the cluster": func(c *LeafConfig) { c.Cluster = "" },
		"where servers":       func(c *LeafConfig) { c.Hubs = nil },
		"has 7 bytes":         func(c *LeafConfig) { c.Secret = "hunter2" },
		`"a" is no address`:   func(c *LeafConfig) { c.Hubs = []string{"a"} },
	} {
		c := valid
		edit(&c)
		if err := c.Validate(); !errors.Is(err, ErrMesh) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := StartLeaf(t.Context(), LeafConfig{}, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrMesh) {
		t.Errorf("it starts: %v", err)
	}
}

// startHub runs a server that leaves connect to, changed by edit, and returns where.
func startHub(t testing.TB, edit func(*server.Options)) (addr string, ns *server.Server) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := Mesh{Cluster: "live", Secret: "a secret of servers", LeafListen: l.Addr().String()}
	_ = l.Close()
	opts := &server.Options{ServerName: "hub", DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(), JetStreamDomain: Domain}
	m.acceptLeaves(opts)
	edit(opts)
	ns, err = server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := passOn(ns); err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	return m.LeafListen, ns
}

func startLeaf(t testing.TB, name string, hubs ...string) (*Leaf, *nats.Conn) {
	t.Helper()
	l, err := StartLeaf(t.Context(), LeafConfig{Name: name, Cluster: "live", Secret: "a secret of servers", Hubs: hubs}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	nc, err := l.Connect(nats.NoEcho())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return l, nc
}

// What a leaf says over the relay comes to others in its order, once, and not back;
// what it says without comes to no other leaf, whose interest it does not know.
func TestLeavesAreIsolated(t *testing.T) {
	t.Parallel()
	hub, _ := startHub(t, func(*server.Options) {})
	_, a := startLeaf(t, "a", hub)
	_, b := startLeaf(t, "b", hub)
	heard := make(chan string, 100)
	for _, nc := range []*nats.Conn{a, b} {
		name := map[bool]string{true: "a", false: "b"}[nc == a]
		if _, err := nc.Subscribe("l.>", func(m *nats.Msg) { heard <- name + " " + m.Subject + " " + string(m.Data) }); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	// Until the interest of b is known at the hub what is said is lost.
	for end := time.Now().Add(20 * time.Second); len(heard) == 0; time.Sleep(10 * time.Millisecond) { //nolint:forbidigo // polls
		if time.Now().After(end) {
			t.Fatal("b hears nothing")
		}
		if err := a.Publish(RelayPrefix+"l.first", nil); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		subject := "l.0"
		if i%2 == 1 {
			subject = RelayPrefix + subject
		}
		if err := a.Publish(subject, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	for want := 1; want < 20; {
		select {
		case got := <-heard:
			if got == "b l.first " {
				continue
			}
			if got != fmt.Sprint("b l.0 ", want) {
				t.Fatalf("heard %q, want %d at b", got, want)
			}
			want += 2
		case <-time.After(20 * time.Second):
			t.Fatalf("%d did not come", want)
		}
	}
}

// A leaf that has lost its server tells when it has another one.
func TestLeafRejoins(t *testing.T) {
	t.Parallel()
	first, one := startHub(t, func(*server.Options) {})
	second, other := startHub(t, func(*server.Options) {})
	l, _ := startLeaf(t, "a", first, second)
	if one.NumLeafNodes() == 0 {
		one, other = other, one
	}
	select {
	case <-l.Rejoined():
		t.Error("it has rejoined and was not gone")
	default:
	}
	one.Shutdown()
	select {
	case <-l.Rejoined():
	case <-time.After(20 * time.Second):
		t.Fatal("it does not tell")
	}
	if n := other.NumLeafNodes(); n != 1 {
		t.Errorf("the other server has %d leaves", n)
	}
}

// A leaf that is told to goes to the next server, and comes round.
func TestLeafAnother(t *testing.T) {
	t.Parallel()
	first, one := startHub(t, func(*server.Options) {})
	second, other := startHub(t, func(*server.Options) {})
	l, _ := startLeaf(t, "a", first, second)
	here, there := one, other
	for turn := range 4 {
		if here.NumLeafNodes() == 0 {
			here, there = there, here
		}
		l.Another()
		select {
		case <-l.Rejoined():
		case <-time.After(20 * time.Second):
			t.Fatal("it does not go")
		}
		if n := there.NumLeafNodes(); n != 1 {
			t.Errorf("turn %d: the other server has %d leaves", turn, n)
		}
	}
	lone, _ := startLeaf(t, "b", first)
	lone.Another()
	if lone.hub() == 0 {
		t.Error("it leaves the only server there is")
	}
}

// The memory of one leaf for what another one listens to, as the difference between
// the two: in each all three servers are measured.
func BenchmarkLeafInterest(b *testing.B) {
	const channels = 100_000
	for _, isolated := range []bool{false, true} {
		b.Run(fmt.Sprint("isolated=", isolated), func(b *testing.B) {
			nothing := make(chan *nats.Msg)
			for b.Loop() {
				hub, _ := startHub(b, func(o *server.Options) { o.LeafNode.IsolateLeafnodeInterest = isolated })
				_, nc := startLeaf(b, "a", hub)
				other, _ := startLeaf(b, "b", hub)
				before := heap()
				for i := range channels {
					if _, err := nc.ChanSubscribe(fmt.Sprint("l.0.77.channel-", i), nothing); err != nil {
						b.Fatal(err)
					}
				}
				if err := nc.Flush(); err != nil {
					b.Fatal(err)
				}
				last := fmt.Sprint("l.0.77.channel-", channels-1)
				for end := time.Now().Add(20 * time.Second); !isolated && other.ns.GlobalAccount().Interest(last) == 0 && time.Now().Before(end); {
					time.Sleep(10 * time.Millisecond) //nolint:forbidigo // polls
				}
				time.Sleep(time.Second) //nolint:forbidigo // for what is on its way
				b.ReportMetric(float64(other.ns.NumSubscriptions()), "subscriptions-of-the-other")
				b.ReportMetric(float64(heap()-before)/channels, "B/channel")
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
