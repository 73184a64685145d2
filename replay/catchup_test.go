package replay_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reecho/broker"
	"reecho/replay"
)

// What is not kept cannot be asked for: the client is told, and gets what comes.
func TestCatchupOfNothingKept(t *testing.T) {
	onStage(t, broker.Retention{Off: true}, nil, func(s *stage) {
		if s.ch.Retained() {
			t.Error("something is retained")
		}
		s.ask(replay.Request{})
		s.ask(replay.Request{Want: replay.WantNewest, Newest: 3})
		s.ask(replay.Request{Lost: replay.EpochChanged})
		s.claim(7, time.Now())
		s.want("answer 0@0", "answer 0@0 not_retained", "answer 0@0 epoch_changed", "answer 0@0 not_retained")
	})
}

// A position that the log never gave is a gap.
func TestCatchupBeyondTheEnd(t *testing.T) {
	onStage(t, hour, nil, func(s *stage) {
		s.arrive(s.publish())
		s.claim(9, time.Now())
		s.want("1", "answer 0@1 unknown_position")
	})
}

// What is stored and not here yet is waited for, and sent again once it is.
func TestCatchupAheadOfTheNode(t *testing.T) {
	onStage(t, hour, nil, func(s *stage) {
		s.arrive(s.publish())
		s.publish()
		s.publish() // on another node, where the client was
		s.claim(2, time.Now())
		s.want("1", "2", "3", "answer 1@2", "+3")
	})
}

// What was not for the client is behind it once it was told so: its earlier socket
// ids need not be known for ever.
func TestCatchupPassesWhatIsNotOwed(t *testing.T) {
	onStage(t, hour, nil, func(s *stage) {
		own := func() { s.arrive(s.log.Publish(refs[0], "1.1", 10)) }
		back := func(at uint64, except ...string) {
			t.Helper()
			s.ask(replay.Request{Want: replay.WantMissed, Claim: replay.Claim{Sequence: at}, Except: except})
		}
		s.arrive(s.publish())
		own()
		own()
		s.want("1", "2", "3")
		back(1, "1.1")
		back(3)
		s.want("answer 0@3", "answer 0@3")
		s.arrive(s.publish())
		own()
		back(3, "1.1")
		back(4, "1.1")
		s.want("4", "5", "answer 1@3", "+4", "answer 0@5")
	})
}

// A log that cannot be read is a gap; the client still joins.
func TestCatchupUnavailable(t *testing.T) {
	onStage(t, hour, nil, func(s *stage) {
		for range 3 {
			s.arrive(s.publish())
		}
		s.log.Fail(true)
		s.ask(replay.Request{Want: replay.WantNewest, Newest: 9}) // there can be none before
		s.ask(replay.Request{Want: replay.WantSince, Since: time.Now()})
		s.want("1", "2", "3", "answer 3@0", "+1", "+2", "+3", "answer 3@0 unavailable", "+1", "+2", "+3")
	})
}

// A log that does not answer for a moment is asked again: nothing is lost then, and
// nobody is told of a gap. Seen: a client that came back 4 s after the log had been
// mended was.
func TestCatchupAsksAgain(t *testing.T) {
	onStage(t, hour, nil, func(s *stage) {
		for range 3 {
			s.arrive(s.publish())
		}
		s.entries = nil
		s.log.Fail(true)
		time.AfterFunc(4*time.Second, func() { s.log.Fail(false) })
		s.ask(replay.Request{Want: replay.WantSince, Since: time.Now()})
		s.want("answer 3@0", "+1", "+2", "+3")
	})
}

// A log that finds nothing because it cannot read is asked again, too. Seen: without
// descriptors a client was told that what was there had been trimmed.
func TestCatchupDoesNotBelieveTheBlind(t *testing.T) {
	onStage(t, hour, nil, func(s *stage) {
		at := time.Now()
		for range 3 {
			s.arrive(s.publish())
		}
		s.pass(time.Minute)
		s.entries = nil
		s.log.Blind(true)
		time.AfterFunc(4*time.Second, func() { s.log.Blind(false) })
		s.ask(replay.Request{Want: replay.WantSince, Since: at.Add(-time.Hour / 2)})
		s.want("answer 3@0", "+1", "+2", "+3")
	})
}

// Turn comes before each reading of the log, and can deny the past, end the
// request, or let it go on.
func TestCatchupTurns(t *testing.T) {
	onStage(t, hour, nil, func(s *stage) {
		for range 3 {
			s.arrive(s.publish())
		}
		s.entries = nil
		read := -1
		s.ask(replay.Request{Want: replay.WantNewest, Newest: 9, Turn: func(_ context.Context, past int) (func(int), bool, error) {
			if past != 9 {
				t.Errorf("a turn for %d events", past)
			}
			return func(n int) { read = n }, false, nil
		}})
		s.want("answer 3@0", "+1", "+2", "+3")
		if read != 0 {
			t.Errorf("%d events were read, all were here", read)
		}
		s.ask(replay.Request{Want: replay.WantNewest, Newest: 9, Turn: func(context.Context, int) (func(int), bool, error) { return nil, true, nil }})
		s.want("answer 3@0 over_limit", "+1", "+2", "+3")
		broken := errors.New("nobody's turn")
		r := replay.Request{Want: replay.WantSince, Since: time.Now(), Turn: func(context.Context, int) (func(int), bool, error) { return nil, false, broken }}
		if err := replay.NewCatchup(s.ch, s, r).Run(s.t.Context()); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		s.want()
	})
}

// Begin is told where a client begins before it joins; what comes in between is
// for the client. Its failure ends the request.
func TestCatchupBegins(t *testing.T) {
	onStage(t, hour, nil, func(s *stage) {
		s.arrive(s.publish())
		s.ask(replay.Request{Begin: func(_ context.Context, at replay.Position) error {
			if at.Sequence != 1 {
				t.Errorf("it begins after %d", at.Sequence)
			}
			s.log.Deliver(refs[0], s.publish())
			return nil
		}})
		s.want("1", "2", "answer 1@1", "+2")
		broken := errors.New("not stored")
		r := replay.Request{Begin: func(context.Context, replay.Position) error { return broken }}
		if err := replay.NewCatchup(s.ch, s, r).Run(s.t.Context()); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		s.want()
	})
}

// slowClient says when what it was given was written, and waits for its test to
// say that.
type slowClient struct {
	given   chan chan<- struct{}
	drained chan struct{}
	parts   atomic.Int64
}

// Take implements replay.Client.
func (c *slowClient) Take(p *replay.Part) bool {
	c.parts.Add(1)
	p.AppendFrames(nil)
	c.given <- p.Written
	return true
}

// Drained implements replay.Client.
func (c *slowClient) Drained() <-chan struct{} { return c.drained }

// However many clients come back, the shards are given only so much at once:
// the next has its turn when a shard is done with what it was given.
func TestSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const slots, clients = 3, 10
		node := replay.Open(newLog(1), replay.Config{Slots: slots, Frame: slices.Clone[[]byte], Position: withPosition}, silent)
		defer node.Close()
		ch := node.Channel(refs[0], replay.Bounds{Events: 10, Bytes: 1 << 20}, &diary{})
		given := make(chan chan<- struct{}, clients)
		var ended atomic.Int64
		for range clients {
			go func() {
				c := &slowClient{given: given}
				if err := replay.NewCatchup(ch, c, replay.Request{}).Run(t.Context()); err != nil {
					t.Error(err)
				}
				ended.Add(1)
			}()
		}
		for done := range clients {
			<-time.After(time.Second)
			synctest.Wait()
			if n := len(given); n != min(slots, clients-done) || ended.Load() != int64(done) {
				t.Fatalf("%d under way, %d ended after %d", n, ended.Load(), done)
			}
			close(<-given)
		}
		<-time.After(time.Second)
	})
}

// A part waits until the one before was read; a client that goes meanwhile ends
// its request, and one that waits for a slot too.
func TestPartsWaitForTheReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := newLog(1)
		node := replay.Open(log, replay.Config{Slots: 1, Frame: slices.Clone[[]byte], Position: withPosition}, silent)
		defer node.Close()
		ch := node.Channel(refs[0], replay.Bounds{Events: 100, Bytes: 1 << 20, EventBytes: 1 << 16}, &diary{})
		for range 5 {
			log.Publish(refs[0], "", 30_000)
		}
		gone, cut := context.WithCancel(t.Context())
		c := &slowClient{given: make(chan chan<- struct{}, 9), drained: make(chan struct{})}
		run := func(c *slowClient) <-chan error {
			ended := make(chan error, 1)
			go func() {
				ended <- replay.NewCatchup(ch, c, replay.Request{Want: replay.WantNewest, Newest: 5}).Run(gone)
			}()
			<-time.After(time.Second)
			synctest.Wait()
			return ended
		}
		ended := run(c)
		waits := run(&slowClient{given: make(chan chan<- struct{}, 9)})
		if n := c.parts.Load(); n != 1 || len(ended) != 0 {
			t.Fatalf("%d parts before the first was written", n)
		}
		close(<-c.given)
		<-time.After(time.Second)
		if n := c.parts.Load(); n != 1 {
			t.Errorf("%d parts before the first was read", n)
		}
		cut()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the one that reads ended with %v", err)
		}
		if err := <-waits; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the one that waits ended with %v", err)
		}
	})
}
