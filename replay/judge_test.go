package replay_test

import (
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"reecho/broker"
	"reecho/broker/brokertest/seed"
)

// lenient counts the faults of a world, and fails nothing.
type lenient struct {
	*testing.T
	faults atomic.Int64
}

var _ judge = (*lenient)(nil)

func (l *lenient) Errorf(string, ...any) { l.faults.Add(1) }

func (l *lenient) Fatalf(string, ...any) {
	l.faults.Add(1)
	runtime.Goexit()
}

// The worlds notice a log that is wrong: one that keeps its epoch when it begins to
// keep more than it did, so that what was trimmed before looks as if it had never been.
func TestWorldsNoticeAKeptEpoch(t *testing.T) {
	t.Parallel()
	first := seed.First(t)
	const most = 300 // about one in ten is enough
	for i := range uint64(most) {
		noticed := false
		synctest.Test(t, func(t *testing.T) {
			l := &lenient{T: t}
			w := newWorld(l, first+i, make(map[string]int))
			over := make(chan struct{})
			go func() {
				defer close(over)
				defer w.beside.stop()
				defer w.stop(false)
				w.raiseAll()
			}()
			<-over
			noticed = l.faults.Load() > 0
		})
		if noticed {
			return
		}
	}
	t.Errorf("none of %d worlds noticed", most)
}

// raiseAll is a world that keeps ten times as much from its middle on, of which its
// log says nothing.
func (w *world) raiseAll() {
	w.log.KeepEpoch = true
	for range 200 {
		w.step()
	}
	w.stop(false)
	w.log.Change(func(kept *broker.Retention) {
		kept.EventsPerChannel, kept.MaxAge, kept.MaxBytes = 10*kept.EventsPerChannel, 10*kept.MaxAge, 10*kept.MaxBytes
	})
	w.log.Restart()
	w.start()
	for range 200 {
		w.step()
	}
	w.finish()
}
