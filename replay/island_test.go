package replay_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/replay"
	"reecho/replay/replaytest"
)

// islanded is the log as a node has it that may be cut off: then a replica answers
// that gets nothing any more.
type islanded struct {
	replay.Logs
	cutOff atomic.Pointer[island] // nil: it is not
}

// island is what such a node has, and since when.
type island struct {
	*replaytest.Log
	since time.Time
}

// cut cuts the node off from a model.
func (l *islanded) cut(model *replaytest.Log) {
	replica := replaytest.NewLog(rand.New(rand.NewPCG(1, 2)), model.Retention)
	replica.Restore(model.Copy())
	l.cutOff.Store(&island{replica, time.Now()})
}

// heal ends that.
func (l *islanded) heal() { l.cutOff.Store(nil) }

// known is until when a replica knows what was stored.
func (l *islanded) known(at time.Time) time.Time {
	if i := l.cutOff.Load(); i != nil && i.since.Before(at) {
		return i.since
	}
	return at
}

// Tails implements replay.Logs.
func (l *islanded) Tails(ctx context.Context, refs []broker.Ref) ([]broker.Tail, error) {
	cut := l.cutOff.Load()
	if cut == nil {
		return l.Logs.Tails(ctx, refs)
	}
	tails, err := cut.Tails(ctx, refs)
	for i := range tails {
		tails[i].Known = cut.since
	}
	return tails, err
}

// Log implements replay.Logs.
func (l *islanded) Log(ref broker.Ref) replay.Log { return islandedLog{Log: l.Logs.Log(ref), all: l} }

type islandedLog struct {
	replay.Log
	all *islanded
}

func (l islandedLog) here() replay.Log {
	if cut := l.all.cutOff.Load(); cut != nil {
		return cut.Log.Log(l.Ref())
	}
	return l.Log
}

// Last implements replay.Log.
func (l islandedLog) Last(ctx context.Context) (broker.Event, bool, error) { return l.here().Last(ctx) }

// LastReaching implements replay.Log.
func (l islandedLog) LastReaching(ctx context.Context, sequence uint64) (broker.Event, bool, error) {
	return l.here().LastReaching(ctx, sequence)
}

// ReadTo implements replay.Log.
func (l islandedLog) ReadTo(ctx context.Context, from, upTo uint64, limit int) ([]broker.Event, bool, error) {
	return l.here().ReadTo(ctx, from, upTo, limit)
}

// Known implements replay.Log.
func (l islandedLog) Known(asked time.Time) time.Time { return l.all.known(asked) }

// State implements replay.Log.
func (l islandedLog) State(ctx context.Context) (broker.State, error) {
	s, err := l.here().State(ctx)
	s.Known = l.all.known(s.Known)
	return s, err
}

// followIslanded calls do with a channel that is followed and has one event, which is
// not the first of the stream.
func followIslanded(t *testing.T, do func(t *testing.T, log *islanded, model *replaytest.Log, ch *replay.Channel, a *told)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		model := replaytest.NewLog(rand.New(rand.NewPCG(1, 1)), broker.Retention{EventsPerChannel: 10, MaxAge: time.Hour, MaxBytes: 1 << 20})
		log := &islanded{Logs: model}
		node := replay.Open(log, replay.Config{Frame: func(text []byte) []byte { return text }, Position: withPosition}, silent)
		defer node.Close()
		a := &told{}
		ch := node.Channel(refs[0], replay.Bounds{Events: 10, Bytes: 1 << 20}, a)
		if err := ch.Attach(t.Context()); err != nil {
			t.Fatal(err)
		}
		model.Publish(others[1], "", 10)
		model.Deliver(refs[0], model.Publish(refs[0], "", 10))
		<-time.After(time.Second) // the channel was compared
		do(t, log, model, ch, a)
	})
}

// A node that was cut off compared its channels with its own replica, and took them to
// be whole: what it missed and what was trimmed before the network healed was not told
// as a gap.
func TestWholeOnAnIsland(t *testing.T) {
	t.Parallel()
	followIslanded(t, func(t *testing.T, log *islanded, model *replaytest.Log, _ *replay.Channel, a *told) {
		t.Helper()
		log.cut(model)
		lost := model.Publish(refs[0], "", 10).Sequence
		<-time.After(70 * time.Minute)
		model.Publish(others[1], "", 10)
		synctest.Wait()
		log.heal()
		<-time.After(2 * replay.DefaultSweep)
		synctest.Wait()
		if !slices.Contains(a.events, lost) && len(a.gaps) == 0 {
			t.Errorf("delivered %v, and no gap told; %d was lost", a.events, lost)
		}
	})
}

// A node that heard of an event which its own replica, and a leader that was cut off
// with it, did not have took it for trimmed: it told of a gap by age, and never
// delivered the event.
func TestNotTrimmedOnAnIsland(t *testing.T) {
	t.Parallel()
	followIslanded(t, func(t *testing.T, log *islanded, model *replaytest.Log, ch *replay.Channel, a *told) {
		t.Helper()
		log.cut(model)
		missed := model.Publish(refs[0], "", 10).Sequence
		ch.Nudge(missed)
		<-time.After(5 * time.Second)
		log.heal()
		<-time.After(5 * time.Second)
		synctest.Wait()
		if !slices.Contains(a.events, missed) || len(a.gaps) > 0 {
			t.Errorf("delivered %v, gaps %v; want %d and no gap", a.events, a.gaps, missed)
		}
	})
}

// The same with real nodes, of which each may remove what is old a little later.
func TestMeshWholeOnAnIsland(t *testing.T) {
	t.Parallel()
	m := brokertest.StartFragileMesh(t, 3, broker.Config{Partitions: 1, MaxAge: broker.MinSharedAge})
	ref := broker.Ref{App: app, Channel: "match.1"}
	publish := func(n *brokertest.MeshNode) {
		t.Helper()
		if err := n.Publish(t.Context(), []broker.Record{{App: ref.App, Channel: ref.Channel, Frame: []byte("x")}}); err != nil {
			t.Fatal(err)
		}
	}
	n := replay.Open(replay.LogsOf(m.Nodes[0].Broker), replay.Config{
		Frame: func(text []byte) []byte { return text }, Position: withPosition, Sweep: 200 * time.Millisecond,
	}, silent)
	defer n.Close()
	a := &audience{}
	ch := n.Channel(ref, replay.Bounds{Events: 100, Bytes: 1 << 20, EventBytes: 1 << 16}, a)
	if err := ch.Attach(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish(m.Nodes[1])
	a.wait(t, "gets what is stored", func() bool { return len(a.events) == 1 })
	before := ch.Line().At(a.events[0].Sequence).String()
	m.Cut(m.Nodes[0])
	publish(m.Nodes[1])
	var lost uint64
	for ok := true; ok; {
		ev, there, err := m.Nodes[1].Log(ref).Last(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lost, ok = max(lost, ev.Sequence), there
		<-time.After(50 * time.Millisecond)
	}
	m.Heal(m.Nodes[0])
	a.wait(t, "is told of the gap, or gets what it missed", func() bool {
		return len(a.gaps) > 0 || slices.ContainsFunc(a.events, func(ev broker.Event) bool { return ev.Sequence == lost })
	})
	v := &visitor{text: make(map[uint64]string)}
	request := ch.After(before, time.Time{})
	request.Positions = true
	if err := replay.NewCatchup(ch, v, request).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v.out.Reason == "" && !slices.Contains(v.got, lost) {
		t.Errorf("a client that comes back is told that it has all: %+v; it was at %s, %d was lost, gaps %v, events %v, got %v, late %v, end %d", v.out, before, lost, a.gaps, a.events, v.got, v.late, v.end)
	}
}
