//go:build linux

package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// measure runs work for the step's duration and reports what changed meanwhile.
// seen is the counter of what is measured; expected what it should have become.
func (b *bench) measure(seen *atomic.Int64, work func(until time.Time) (expected int64)) result {
	b.latency.reset()
	before, failed := seen.Load(), b.failures.Load()
	server, own, start := cpu(b.t.pid), ownCPU(), time.Now()
	expected := work(start.Add(b.o.duration))
	elapsed := time.Since(start)
	// What is under way arrives, or is lost.
	for settle := time.Now().Add(3 * time.Second); seen.Load()-before < expected && time.Now().Before(settle); {
		wait(10 * time.Millisecond)
	}
	n := seen.Load() - before
	r := result{
		Rate: float64(n) / elapsed.Seconds(), Unit: "deliveries",
		RSSMiB: float64(rss(b.t.pid)) / (1 << 20),
		Lost:   max(0, expected-n), Errors: b.failures.Load() - failed,
		ServerCores: (cpu(b.t.pid) - server).Seconds() / elapsed.Seconds(), GeneratorCore: (ownCPU() - own).Seconds() / elapsed.Seconds(),
	}
	r.setLatency(&b.latency)
	r.ServerCPU = (cpu(b.t.pid) - server).Seconds() / float64(max(n, 1)) * 1e6
	return r
}

// goodP99 is the latency that a searched rate must keep.
const goodP99 = 100 * time.Millisecond

// search raises the offered rate until a step is bad, and returns the best
// good one. step measures one offered rate.
func (b *bench) search(ctx context.Context, from float64, step func(offered float64) (result, error)) (result, error) {
	var best result
	bad := 0
	for offered := from; ctx.Err() == nil; offered *= 1.2 {
		r, err := step(offered)
		if err != nil {
			return best, err
		}
		r.Offered = offered
		good := r.P99 < ms(goodP99) && r.Lost == 0 && r.Errors == 0
		if good && r.Rate > best.Rate*1.02 {
			best, bad = r, 0
			continue
		}
		if best.Rate == 0 {
			best = r
		}
		// One bad step may be the machine's.
		if bad++; bad == 3 {
			break
		}
	}
	return best, ctx.Err()
}

func wait(d time.Duration) { <-time.After(d) }

func ownCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// parallel calls work for 0 to n-1 from a number of goroutines.
func parallel(n, workers int, work func(i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && errs[w] == nil; i = int(next.Add(1)) - 1 {
				errs[w] = work(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// paced calls send at a rate from a number of goroutines until a time and
// returns how often. Late calls are made up for.
func paced(rate float64, workers int, until time.Time, send func(worker, i int) error) (int64, error) {
	var sent atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, workers)
	start := time.Now()
	for w := range workers {
		wg.Go(func() {
			for i := w; ; i += workers {
				due := start.Add(time.Duration(float64(i) / rate * float64(time.Second)))
				if due.After(until) {
					return
				}
				if d := time.Until(due); d > 0 {
					wait(d)
				} else if time.Now().After(until) {
					return
				}
				if errs[w] = send(w, i); errs[w] != nil {
					return
				}
				sent.Add(1)
			}
		})
	}
	wg.Wait()
	return sent.Load(), errors.Join(errs...)
}

// flood publishes from each publisher as fast as it is answered.
func flood(publishers []*publisher, until time.Time, channel func(i int) string, batch int) (int64, error) {
	var sent atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, len(publishers))
	for w, p := range publishers {
		wg.Go(func() {
			for i := w; time.Now().Before(until); i += len(publishers) {
				if errs[w] = p.publish(channel(i), batch); errs[w] != nil {
					return
				}
				sent.Add(int64(batch))
			}
		})
	}
	wg.Wait()
	return sent.Load(), errors.Join(errs...)
}
