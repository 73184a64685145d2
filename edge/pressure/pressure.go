// Package pressure watches the memory of the process, and says when it is so near to
// what the process may use that nobody new should be let in: then those who are there,
// and what is published, still have all they need. What one kind of things may take is
// bounded elsewhere; this is about their sum, about what no bound counts (buffers of the
// kernel, NATS, the runtime), and about machines that are smaller than the bounds.
package pressure

import (
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// period is how often memory is measured, which takes about 20 µs: in it what
	// connects at the rate of one address takes a few megabytes.
	period = 250 * time.Millisecond
	// Below the mark less a twentieth new connections are taken again: less would let
	// in a crowd with each collection.
	hysteresis = 20
	// collectShare bounds the time for collections that are made to know what is
	// garbage, to one part of so many.
	collectShare = 20
	// minCollectPause is between two of them at least.
	minCollectPause = time.Second
)

// Guard watches the memory of the process until Close. It is safe for concurrent use;
// a nil one watches nothing.
type Guard struct {
	mark   Mark
	source source
	note   func() // a connection is refused
	log    *slog.Logger

	above   atomic.Bool
	used    atomic.Int64
	entered atomic.Uint64 // how often the mark was passed

	collected time.Time     // when the last collection made here ended
	took      time.Duration // and how long it took

	stop  chan struct{} // closed by Close
	once  sync.Once
	tasks sync.WaitGroup
}

// Watch starts to watch, unless there is no mark: then the guard is never above it. note
// is called for each connection that is refused. Close ends it.
func Watch(mark Mark, note func(), log *slog.Logger) *Guard {
	return watch(mark, findSource(mark.Percent > 0), note, log)
}

func watch(mark Mark, from source, note func(), log *slog.Logger) *Guard {
	g := &Guard{mark: mark, source: from, note: note, log: log, stop: make(chan struct{})}
	log.Debug("memory that the process may use", slog.Int64("bytes", from.allowed), slog.String("because of", from.name), slog.Int64("mark", g.high()))
	g.look(time.Now())
	if g.high() > 0 {
		g.tasks.Go(g.run)
	}
	return g
}

// Close ends the watch.
func (g *Guard) Close() {
	if g == nil {
		return
	}
	g.once.Do(func() { close(g.stop) })
	g.tasks.Wait()
}

// Refusal is why a client that comes now is not let in, a sentence for it, "" if it is.
// It counts that, so it is asked once for each.
func (g *Guard) Refusal() string {
	if g == nil || !g.above.Load() {
		return ""
	}
	g.note()
	return refusal
}

const refusal = "Over capacity: the server is short of memory and takes no new connections at the moment (memory_mark)"

// Stats is what a Guard knows, in bytes.
type Stats struct {
	// Used is what the process uses, as it was measured last, without what it can give
	// back at once. For a share of what a control group may use it is what that uses.
	Used int64
	// Mark is from when on new connections are refused, 0: never. Allowed is what may be
	// used.
	Mark, Allowed int64
	// Above: they are refused now. Times is how often that has begun.
	Above bool
	Times uint64
}

// Stats returns it.
func (g *Guard) Stats() Stats {
	if g == nil {
		return Stats{}
	}
	if g.high() == 0 {
		g.used.Store(g.source.read().used)
	}
	return Stats{
		Used: g.used.Load(), Mark: g.high(), Allowed: g.source.allowed,
		Above: g.above.Load(), Times: g.entered.Load(),
	}
}

func (g *Guard) high() int64 { return g.mark.of(g.source.allowed) }

func (g *Guard) run() {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			g.look(now)
		case <-g.stop:
			return
		}
	}
}

// look measures, and tells of a change. It has one caller at a time.
func (g *Guard) look(now time.Time) {
	r := g.source.read()
	above := g.above.Load()
	next, unknown := g.decide(above, r)
	if unknown && now.Sub(g.collected) > max(minCollectPause, collectShare*g.took) {
		began := time.Now()
		runtime.GC()
		g.collected = time.Now()
		g.took = g.collected.Sub(began)
		r = g.source.read()
		next, _ = g.decide(above, r)
	}
	g.used.Store(r.used)
	if next == above {
		return
	}
	figures := []any{
		slog.Int64("used", r.used), slog.Int64("memory_mark", g.high()), slog.Int64("allowed", g.source.allowed), slog.String("because of", g.source.name),
	}
	g.above.Store(next)
	if !next {
		g.log.Info("memory is below its mark again: new connections are taken", figures...)
		return
	}
	g.entered.Add(1)
	g.log.Warn("memory is above its mark: new connections are refused until it is below", figures...)
}

// reading is what is used, in bytes, and how much of it a collection may find to be
// garbage, at most.
type reading struct{ used, garbage int64 }

// decide says whether to be above the mark. unknown: only a collection can tell, and
// until then it stays as it is.
func (g *Guard) decide(above bool, r reading) (next, unknown bool) {
	high := g.high()
	bound := high
	if above {
		bound -= high / hysteresis
	}
	// Half-way to the end nobody waits for a collection.
	sure := high + max(0, g.source.allowed-high)/2
	switch {
	case high == 0 || r.used < bound:
		return false, false
	case above:
		// What was live at the last collection may have gone since.
		return true, true
	case r.used-r.garbage >= bound || r.used >= sure:
		return true, false
	}
	return false, true
}
