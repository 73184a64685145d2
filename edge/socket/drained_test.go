package socket

import (
	"io"
	"sync"
	"testing"
	"time"
)

func wantDrained(tb testing.TB, drained <-chan struct{}) {
	tb.Helper()
	select {
	case <-drained:
	case <-time.After(patience):
		tb.Fatal("not drained")
	}
}

// fillUp sends until something waits that the kernel does not take.
func fillUp(tb testing.TB, c Conn) <-chan struct{} {
	tb.Helper()
	fill(tb, c, 400)
	drained := c.Drained()
	if isDrained(drained) {
		tb.Fatal("drained although nobody reads")
	}
	return drained
}

func TestDrainedAtOnce(t *testing.T) {
	eachTransport(t, func(t on) {
		c, p := mustConnect(t, mustHost(t, t.transport, Config{}))
		wantDrained(t, p.Drained())
		if err := p.Send([][]byte{Frame([]byte("taken"))}); err != nil {
			t.Fatal(err)
		}
		c.wantFrame(1, "taken")
		wantDrained(t, p.Drained())
	})
}

// TestDrainedByReading: all who wait go on when the peer has read, whenever they
// asked, and not before.
func TestDrainedByReading(t *testing.T) {
	eachTransport(t, func(t on) {
		c, p := small(t, mustHost(t, t.transport, Config{}))
		for range 3 {
			first := fillUp(t, p)
			var waiters sync.WaitGroup
			for range 50 {
				waiters.Go(func() { <-p.Drained() })
			}
			if isDrained(first) {
				t.Error("drained although nobody read")
			}
			if _, err := io.CopyN(io.Discard, c.r, 400*(10_000+4)); err != nil {
				t.Fatal(err)
			}
			wantDrained(t, first)
			waiters.Wait()
			if n := p.Queued(); n != 0 {
				t.Fatalf("drained with %d bytes that wait", n)
			}
		}
	})
}

// TestDrainedByTheEnd: nobody waits for a peer that is given up, however that
// came, though frames may wait for it still.
func TestDrainedByTheEnd(t *testing.T) {
	for name, end := range map[string]func(c *client, p *peer){
		"closed":  func(_ *client, p *peer) { p.Close(4200, "") },
		"shed":    func(_ *client, p *peer) { p.Conn.(Shedder).Shed() },
		"left":    func(c *client, _ *peer) { _ = c.tcp().SetLinger(0); _ = c.Close() },
		"said so": func(c *client, _ *peer) { c.send(closing(1000, "")) },
		"stalled": func(_ *client, p *peer) {
			now := time.Now()
			poll(t, "the peer to be given up", func() bool { // not while the kernel takes something still
				now = now.Add(time.Hour)
				p.Tick(now)
				return linkOf(t, p.Conn).current() != stateOpen
			})
		},
		"aborted": func(_ *client, p *peer) { p.Conn.(interface{ abort(error) }).abort(ErrShutdown) },
	} {
		t.Run(name, func(t *testing.T) {
			eachTransport(t, func(t on) {
				c, p := small(t, mustHost(t, t.transport, Config{}))
				drained := fillUp(t, p)
				end(c, p)
				wantDrained(t, drained)
				wantDrained(t, p.Drained())
				if err := p.Send(pingFrames); err == nil {
					t.Error("open")
				}
			})
		})
	}
}

// TestDrainedCostsNothing: who is idle has no channel, and asking makes none.
func TestDrainedCostsNothing(t *testing.T) {
	_, p := mustConnect(t, mustHost(t, transport{}, Config{}))
	if n := testing.AllocsPerRun(100, func() { <-p.Drained() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	q := newQueue(NewBudget(0, nil))
	q.Push(0, []byte("waits"), 0, false)
	q.Drained()
	if n := testing.AllocsPerRun(100, func() { q.Drained() }); n != 0 {
		t.Errorf("%v allocations by those who ask later", n)
	}
}
