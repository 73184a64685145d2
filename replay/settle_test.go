package replay_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"reecho/replay"
	"reecho/replay/replaytest"
)

// taker is a client that takes what it gets.
type taker struct{ events int }

var _ replay.Client = (*taker)(nil)

// Take implements replay.Client.
func (c *taker) Take(p *replay.Part) bool {
	c.events += p.Len()
	if p.Written != nil {
		close(p.Written)
	}
	return true
}

// Drained implements replay.Client.
func (*taker) Drained() <-chan struct{} { return nil }

// A client that came back before the first event was settled made the node whole
// as of then, whatever it had: what was lost on the live path was not told as a
// gap when it was trimmed before the next sweep.
func TestSettledForAClient(t *testing.T) {
	t.Parallel()
	followInterrupted(t, func(t *testing.T, log *interrupted, model *replaytest.Log, ch *replay.Channel, a *told) {
		t.Helper()
		log.meanwhile = func() error { return nil }
		if err := ch.Attach(t.Context()); err != nil {
			t.Fatal(err)
		}
		model.Publish(others[1], "", 10) // older than all that follows, and stays
		<-time.After(time.Second)        // the channel was compared
		model.Deliver(refs[0], model.Publish(refs[0], "", 10))
		lost := model.Publish(refs[0], "", 10).Sequence
		<-time.After(time.Second)
		c := &taker{}
		back := replay.Request{Want: replay.WantMissed, Claim: replay.Claim{Confirmed: time.Now()}}
		if err := replay.NewCatchup(ch, c, back).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		model.Share(app, 2)
		model.Deliver(refs[0], model.Publish(refs[0], "", 10))
		<-time.After(time.Second)
		synctest.Wait()
		if !slices.Contains(a.events, lost) && len(a.gaps) == 0 {
			t.Errorf("delivered %v, and no gap told; %d was lost", a.events, lost)
		}
		if c.events != 2 {
			t.Errorf("the client got %d events, want both that were stored", c.events)
		}
	})
}

// An event that was heard of while the end of the channel was asked for was taken for
// trimmed with those before it, and never delivered.
func TestStoredWhileTrimmed(t *testing.T) {
	t.Parallel()
	followInterrupted(t, func(t *testing.T, log *interrupted, model *replaytest.Log, ch *replay.Channel, a *told) {
		t.Helper()
		log.meanwhile = func() error { return nil }
		if err := ch.Attach(t.Context()); err != nil {
			t.Fatal(err)
		}
		model.Deliver(refs[0], model.Publish(refs[0], "", 10))
		<-time.After(time.Second) // the channel was compared
		trimmed := model.Publish(refs[0], "", 10).Sequence
		model.Share(app, 2)
		var stored uint64
		log.answered = func() {
			log.answered = func() {}
			stored = model.Publish(refs[0], "", 10).Sequence
			ch.Nudge(stored)
		}
		ch.Nudge(trimmed)
		<-time.After(5 * time.Second)
		synctest.Wait()
		if !slices.Contains(a.events, stored) || len(a.gaps) != 1 {
			t.Errorf("delivered %v, gaps %v; want %d after one gap", a.events, a.gaps, stored)
		}
	})
}
