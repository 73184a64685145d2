package replay_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"reecho/broker"
	"reecho/replay"
	"reecho/replay/replaytest"
)

// interrupted is a log of which something happens while its end is asked for.
type interrupted struct {
	replay.Logs
	meanwhile func() error
	answered  func() // when the end is known and not told
	following int
}

// Log implements replay.Logs.
func (l *interrupted) Log(ref broker.Ref) replay.Log {
	return interruptedLog{Log: l.Logs.Log(ref), all: l}
}

type interruptedLog struct {
	replay.Log
	all *interrupted
}

// Last implements replay.Log.
func (l interruptedLog) Last(ctx context.Context) (ev broker.Event, ok bool, err error) {
	if err := l.all.meanwhile(); err != nil {
		return broker.Event{}, false, err
	}
	return l.Log.Last(ctx)
}

// LastReaching implements replay.Log.
func (l interruptedLog) LastReaching(ctx context.Context, sequence uint64) (ev broker.Event, ok bool, err error) {
	ev, ok, err = l.Log.LastReaching(ctx, sequence)
	l.all.answered()
	return ev, ok, err
}

// Follow implements replay.Log.
func (l interruptedLog) Follow(ctx context.Context, r broker.Receiver) (func(), error) {
	end, err := l.Log.Follow(ctx, r)
	l.all.following++
	return func() { end(); l.all.following-- }, err
}

// told is what an audience was told.
type told struct {
	events []uint64
	gaps   []replay.Reason
}

func (*told) Start(broker.Event) {}

func (a *told) Deliver(ev broker.Event, _ []byte) []byte {
	a.events = append(a.events, ev.Sequence)
	return nil
}

func (a *told) Gap(reason replay.Reason) { a.gaps = append(a.gaps, reason) }

// followInterrupted calls do with a channel that is not followed yet.
func followInterrupted(t *testing.T, do func(t *testing.T, log *interrupted, model *replaytest.Log, ch *replay.Channel, a *told)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		kept := broker.Retention{EventsPerChannel: 10, MaxAge: time.Hour, MaxBytes: 1 << 20}
		model := replaytest.NewLog(rand.New(rand.NewPCG(1, 1)), kept)
		log := &interrupted{Logs: model}
		node := replay.Open(log, replay.Config{
			Frame: func(text []byte) []byte { return text }, Position: withPosition,
		}, silent)
		a := &told{}
		do(t, log, model, node.Channel(refs[0], replay.Bounds{Events: 10, Bytes: 1 << 20}, a), a)
		node.Close()
		if log.following != 0 {
			t.Errorf("the log is followed %d times when the node is closed", log.following)
		}
	})
}

// An event that came in an attempt that failed was delivered by the next one,
// and taken for the end, though it and what followed were not retained any more.
func TestAttachAgain(t *testing.T) {
	t.Parallel()
	followInterrupted(t, func(t *testing.T, log *interrupted, model *replaytest.Log, ch *replay.Channel, a *told) {
		t.Helper()
		broken := errors.New("no answer")
		log.meanwhile = func() error {
			model.Publish(refs[0], "", 10)
			model.Deliver(refs[0], model.Publish(refs[0], "", 10))
			return broken
		}
		if err := ch.Attach(t.Context()); !errors.Is(err, broken) {
			t.Fatalf("error %v, want %v", err, broken)
		}
		model.Publish(refs[0], "", 10)
		model.Share(app, 3)
		log.meanwhile = func() error { return nil }
		if err := ch.Attach(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Second)
		synctest.Wait()
		if len(a.events) > 0 || len(a.gaps) > 0 {
			t.Errorf("delivered %v, gaps %v; want nothing", a.events, a.gaps)
		}
	})
}

// A node that closed its channels while one was about to be followed left the
// subscription of that one behind.
func TestCloseWhileAttaching(t *testing.T) {
	t.Parallel()
	followInterrupted(t, func(t *testing.T, log *interrupted, _ *replaytest.Log, ch *replay.Channel, _ *told) {
		t.Helper()
		log.meanwhile = func() error {
			ch.Close()
			return nil
		}
		if err := ch.Attach(t.Context()); !errors.Is(err, broker.ErrClosed) {
			t.Errorf("error %v, want %v", err, broker.ErrClosed)
		}
	})
}
