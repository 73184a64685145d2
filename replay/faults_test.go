package replay_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reecho/broker"
	"reecho/replay"
	"reecho/replay/replaytest"
)

// What TestNoUnflaggedGap found, each as the shortest story that shows it.

// diary is an audience and clients that write down what they are told.
type diary struct {
	ch      *replay.Channel
	entries []string
}

// Start implements replay.Audience.
func (*diary) Start(broker.Event) {}

// Deliver implements replay.Audience.
func (d *diary) Deliver(ev broker.Event, _ []byte) []byte {
	d.entries = append(d.entries, fmt.Sprint(ev.Sequence))
	return nil
}

// Gap implements replay.Audience.
func (d *diary) Gap(replay.Reason) { d.entries = append(d.entries, "gap") }

// Drained implements replay.Client.
func (*diary) Drained() <-chan struct{} {
	drained := make(chan struct{})
	close(drained)
	return drained
}

// Take implements replay.Client.
func (d *diary) Take(p *replay.Part) bool {
	text := fmt.Sprintf("answer %d@%d %s", p.Outcome.Events, p.Outcome.Position.Sequence, p.Outcome.Reason)
	d.entries = append(d.entries, strings.TrimSpace(text))
	for _, frame := range p.AppendFrames(nil) {
		number, _, _ := strings.Cut(string(frame), " ")
		d.entries = append(d.entries, "+"+number)
	}
	if p.Written != nil {
		close(p.Written)
	}
	return true
}

// stage is a channel that is followed, over a log that does what the test says.
type stage struct {
	t   *testing.T
	log *replaytest.Log
	diary
}

// onStage runs a story in virtual time. wrap, if not nil, comes between the node
// and the log.
func onStage(t *testing.T, kept broker.Retention, wrap func(*replaytest.Log) replay.Logs, story func(*stage)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{t: t, log: replaytest.NewLog(rand.New(rand.NewPCG(1, 1)), kept)}
		var logs replay.Logs = s.log
		if wrap != nil {
			logs = wrap(s.log)
		}
		node := replay.Open(logs, replay.Config{
			Frame: func(text []byte) []byte { return text }, Position: withPosition, Recheck: time.Hour,
		}, silent)
		defer node.Close()
		s.ch = node.Channel(refs[0], replay.Bounds{Events: 100, Bytes: 1 << 20, EventBytes: 1 << 10}, &s.diary)
		if err := s.ch.Attach(t.Context()); err != nil {
			t.Fatal(err)
		}
		story(s)
	})
}

// newLog is an empty log that keeps nearly everything.
func newLog(seed uint64) *replaytest.Log {
	return replaytest.NewLog(rand.New(rand.NewPCG(seed, 1)), hour)
}

var hour = broker.Retention{EventsPerChannel: 1000, MaxAge: time.Hour, MaxBytes: 1 << 30}

// publish stores an event, which does not arrive.
func (s *stage) publish() broker.Event { return s.log.Publish(refs[0], "", 10) }

func (s *stage) arrive(ev broker.Event) {
	s.log.Deliver(refs[0], ev)
	synctest.Wait()
}

func (s *stage) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (s *stage) ask(r replay.Request) {
	s.t.Helper()
	if err := replay.NewCatchup(s.ch, s, r).Run(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// claim asks for what was missed after a sequence.
func (s *stage) claim(sequence uint64, confirmed time.Time) {
	s.t.Helper()
	s.ask(replay.Request{Want: replay.WantMissed, Claim: replay.Claim{Sequence: sequence, Confirmed: confirmed}})
}

func (s *stage) want(entries ...string) {
	s.t.Helper()
	if !slices.Equal(s.entries, entries) {
		s.t.Errorf("got  %q\nwant %q", s.entries, entries)
	}
	s.entries = nil
}

// What expired is missing from the events since a time, also when the oldest
// event of the whole stream is one of those that are left.
func TestSinceBeforeTheOldest(t *testing.T) {
	onStage(t, broker.Retention{EventsPerChannel: 1000, MaxAge: time.Minute, MaxBytes: 1 << 30}, nil, func(s *stage) {
		began := time.Now()
		s.arrive(s.publish())
		s.pass(2 * time.Minute)
		s.arrive(s.publish())
		s.pass(time.Second)
		s.want("1", "2")
		s.ask(replay.Request{Want: replay.WantSince, Since: began})
		s.want("answer 1@1 trimmed_by_age", "+2")
		s.ask(replay.Request{Want: replay.WantSince, Since: began.Add(90 * time.Second)})
		s.want("answer 1@1", "+2")
	})
}

// A gap is found anew when live events moved the node while it was decided on.
func TestGapWhileEventsCome(t *testing.T) {
	var late func()
	onStage(t, hour, func(l *replaytest.Log) replay.Logs {
		return &hooked{Logs: l, state: func() {
			if late != nil {
				late()
				late = nil
			}
		}}
	}, func(s *stage) {
		first := s.publish()
		s.publish()
		s.log.Share(app, 2)
		s.publish()
		fourth := s.publish()
		late = func() { s.log.Deliver(refs[0], first) }
		s.arrive(fourth)
		s.pass(time.Second)
		s.want("1", "gap", "3", "4")
	})
}

// Each hole between events that are held back is told when nothing before them
// can be had any more.
func TestHeldBackAcrossHoles(t *testing.T) {
	onStage(t, hour, nil, func(s *stage) {
		s.publish()
		second := s.publish()
		s.publish()
		fourth := s.publish()
		s.log.Share(app, 4)
		s.arrive(second)
		s.arrive(fourth)
		s.pass(time.Second)
		s.want("gap", "2", "gap", "4")
	})
}

// What comes after the end was found above it must not go to clients that were
// told to have all up to there; the others are told of the gap.
func TestOvertaken(t *testing.T) {
	onStage(t, hour, nil, func(s *stage) {
		late := s.publish()
		s.log.Share(app, 1)
		s.ask(replay.Request{})
		s.want("answer 0@1")
		s.arrive(late)
		s.want("gap")
		s.arrive(s.publish())
		s.pass(time.Second)
		s.want("2")
	})
}

// Whether something was lost before a channel's first event is asked before a
// client that was there before it is told that it has all.
func TestBackBeforeTheFirst(t *testing.T) {
	onStage(t, hour, nil, func(s *stage) {
		s.ask(replay.Request{})
		s.want("answer 0@0")
		confirmed := time.Now()
		s.pass(time.Minute)
		s.publish()
		s.log.Share(app, 1)
		s.arrive(s.publish())
		s.want("2")
		s.claim(0, confirmed)
		s.want("gap", "answer 0@2 trimmed_by_size")
	})
}

// It is not left to the next sweep either: those who are there are told soon.
func TestFirstIsSettledSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, d := newLog(1), &diary{}
		node := replay.Open(log, replay.Config{Frame: slices.Clone[[]byte], Position: withPosition, Sweep: time.Hour}, silent)
		defer node.Close()
		d.ch = node.Channel(refs[0], replay.Bounds{Events: 10, Bytes: 1 << 20}, d)
		if err := d.ch.Attach(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		log.Publish(refs[0], "", 10)
		log.Share(app, 1)
		log.Deliver(refs[0], log.Publish(refs[0], "", 10))
		<-time.After(time.Second)
		synctest.Wait()
		if want := []string{"2", "gap"}; !slices.Equal(d.entries, want) {
			t.Errorf("got %q, want %q", d.entries, want)
		}
	})
}

// A client that was on another node, of whose last event nothing is left, does
// not get it when it comes late; one that was not there is told of the gap.
func TestAheadOfWhatIsLeft(t *testing.T) {
	onStage(t, hour, nil, func(s *stage) {
		s.arrive(s.publish())
		s.want("1")
		late := s.publish()
		s.log.Share(app, 2)
		s.claim(2, time.Now().Add(time.Minute))
		s.want("answer 0@2")
		s.arrive(late)
		s.want("gap")
		s.claim(1, time.Now())
		s.want("answer 0@2 trimmed_by_size")
	})
}

// An event that comes after a sweep had found nothing of its time takes back
// that nothing was missing then.
func TestOlderThanTheSweep(t *testing.T) {
	onStage(t, hour, nil, func(s *stage) {
		first := s.publish()
		s.publish()
		s.log.Share(app, 2)
		s.pass(2 * replay.DefaultSweep)
		s.want("gap")
		s.arrive(first)
		s.want("1")
		s.arrive(s.publish())
		s.pass(time.Second)
		s.want("gap", "3")
	})
}

// A comparison that fails is made again as soon as the log answers, and not at the
// next sweep.
func TestComparedAgain(t *testing.T) {
	onStage(t, hour, nil, func(s *stage) {
		s.pass(replay.DefaultSweep - time.Second)
		s.publish()
		s.log.Fail(true)
		s.pass(10 * time.Second)
		s.want()
		s.log.Fail(false)
		s.pass(2 * time.Second)
		s.want("1")
	})
}

// What is trimmed while a long range is read leaves no hole in it.
func TestTrimmedWhileRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := replaytest.NewLog(rand.New(rand.NewPCG(1, 1)), hour)
		const events = 600
		for range events {
			log.Publish(refs[0], "", 10)
		}
		logs := &hooked{Logs: log}
		h := replay.NewHistory(logs, 1<<20)
		defer h.Close()
		looks := 0
		logs.read = func() {
			if looks++; looks == 2 {
				log.Share(app, events-100)
			}
		}
		for _, keep := range []replay.Keep{replay.KeepAll, replay.KeepNewest} {
			got, _, err := h.Read(t.Context(), replay.Range{
				Log: logs.Log(refs[0]), UpTo: events, Events: events, Bytes: 1 << 20, Keep: keep, Asker: netip.Addr{},
			})
			if err != nil || len(got) != 100 || got[0].Sequence != events-99 {
				t.Errorf("keep %d: %d events, %v", keep, len(got), err)
			}
		}
	})
}

// A ring that was broken between the two halves of a question has no base: the
// newest events were looked for below the largest number there is, for as long as the
// client waited.
func TestBrokenBetweenNewestAndSince(t *testing.T) {
	var logs *hooked
	onStage(t, hour, func(l *replaytest.Log) replay.Logs {
		logs = &hooked{Logs: l}
		return logs
	}, func(s *stage) {
		s.arrive(s.publish())
		late := s.publish()
		s.log.Share(app, 2)
		s.claim(2, time.Now().Add(time.Minute))
		s.publish()
		s.want("1", "answer 0@2")
		logs.span = func() {
			logs.span = nil
			s.log.Deliver(refs[0], late)
		}
		s.ask(replay.Request{Want: replay.WantSince, Since: time.Now().Add(-time.Minute), Newest: 5})
		s.want("gap", "3", "answer 1@2 trimmed_by_size", "+3")
	})
}

// A ring that is evicted while the log is read takes what it had out of the count of
// what is newer than a claim: a channel at its limit looked as if nothing had been
// trimmed, and the client was told that it had missed nothing but what another node has.
// TestNoUnflaggedGap, REECHO_TEST_SEED=1795713077957648582, in every other run.
func TestEvictedWhileRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := replaytest.NewLog(rand.New(rand.NewPCG(1, 1)), broker.Retention{EventsPerChannel: 3, MaxAge: time.Hour, MaxBytes: 1 << 30})
		logs, road := &hooked{Logs: log}, &direct{}
		beside := log.Beside()
		cfg := replay.Config{
			Memory: 1, Frame: func(text []byte) []byte { return text }, Text: func(frame []byte) []byte { return frame },
			Position: withPosition, Recheck: time.Hour, Others: road,
		}
		node := replay.Open(logs, cfg, silent)
		defer node.Close()
		other := replay.Open(beside, cfg, silent) // it is the one that answers
		defer other.Close()
		follow := func(n *replay.Node, ref broker.Ref) *diary {
			d := &diary{}
			d.ch = n.Channel(ref, replay.Bounds{Events: 100, Bytes: 1 << 20, EventBytes: 1 << 10}, d)
			if err := d.ch.Attach(t.Context()); err != nil {
				t.Fatal(err)
			}
			return d
		}
		ref, crowded := refs[0], refs[1]
		had := log.Publish(ref, "", 10)
		for range 4 { // the oldest that is left is older than the confirmation
			log.Publish(others[0], "", 10)
		}
		<-time.After(2 * time.Minute)
		confirmed := time.Now()
		for range 4 { // of which one is trimmed
			log.Publish(ref, "", 10)
		}
		here := follow(node, ref)
		follow(other, ref)
		follow(node, crowded)
		for range 3 {
			ev := log.Publish(ref, "", 10)
			log.Deliver(ref, ev)
			beside.Deliver(ref, ev)
		}
		synctest.Wait()
		here.entries = nil
		logs.read = func() {
			logs.read = nil
			log.Deliver(crowded, log.Publish(crowded, "", 10))
			synctest.Wait()
		}
		claim := replay.Claim{Sequence: had.Sequence, Confirmed: confirmed}
		if err := replay.NewCatchup(here.ch, here, replay.Request{Want: replay.WantMissed, Claim: claim}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if want := []string{"answer 0@12 trimmed_by_count"}; !slices.Equal(here.entries, want) {
			t.Errorf("got %q, want %q", here.entries, want)
		}
	})
}

// direct is the way to the node that was opened last, which answers at once.
type direct struct {
	answer func(question []byte) ([]byte, error)
}

// AskAny implements replay.Others.
func (d *direct) AskAny(_ context.Context, question []byte) []byte {
	answer, _ := d.answer(question)
	return answer
}

// Answer implements replay.Others.
func (d *direct) Answer(f func([]byte) ([]byte, error)) { d.answer = f }

// hooked is a log that calls functions before it answers.
type hooked struct {
	replay.Logs
	state, read, span func()
}

// Log implements replay.Logs.
func (h *hooked) Log(ref broker.Ref) replay.Log { return hookedLog{Log: h.Logs.Log(ref), all: h} }

type hookedLog struct {
	replay.Log
	all *hooked
}

// State implements replay.Log.
func (l hookedLog) State(ctx context.Context) (broker.State, error) {
	if l.all.state != nil {
		l.all.state()
	}
	return l.Log.State(ctx)
}

// Span implements replay.Log.
func (l hookedLog) Span(ctx context.Context) (broker.Event, int, error) {
	if l.all.span != nil {
		l.all.span()
	}
	return l.Log.Span(ctx)
}

// ReadTo implements replay.Log.
func (l hookedLog) ReadTo(ctx context.Context, from, upTo uint64, limit int) ([]broker.Event, bool, error) {
	if l.all.read != nil {
		l.all.read()
	}
	return l.Log.ReadTo(ctx, from, upTo, limit)
}

// A node that was cut off before a channel had events, and missed more than one read
// brings, gets all of them: they are fewer than are kept. A gap was told.
func TestMissedMoreThanOneReadBrings(t *testing.T) {
	const events = 700
	onStage(t, broker.Retention{EventsPerChannel: 1000, MaxAge: time.Hour, MaxBytes: 1 << 30}, nil, func(s *stage) {
		var want []string
		for i := range events {
			s.publish() // nothing arrives
			want = append(want, strconv.Itoa(i+1))
		}
		s.pass(2 * replay.DefaultSweep)
		s.want(want...)
	})
}
