//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

var meshes = []meshScenario{
	{"mesh-event", meshEvent},
	{"mesh-publish", meshPublish},
	{"mesh-channels", meshChannels},
	{"mesh-presence", meshPresence},
	{"mesh-storm-1000", meshStorm{clients: 1000, channels: 1000}.run},
	{"mesh-storm-5000", meshStorm{clients: 5000, channels: 1000}.run},
}

// meshEvent is an event with one subscriber on none to all of the servers, at a rate
// at which servers sleep between two events and at one at which they do not.
func meshEvent(ctx context.Context, o options, t *table) error {
	for _, size := range []int{1, meshSize} {
		err := withMesh(ctx, o, size, nil, func(m *mesh) error {
			row := fmt.Sprintf("nothing, %d servers", size)
			t.add(row, "CPU ms/s", micros(m.idle)/1000)
			for on := 0; on <= size; on++ {
				if err := m.subscribeOn(on); err != nil {
					return err
				}
				for _, rate := range []float64{200, 2000} {
					row := fmt.Sprintf("%d servers, subscriber on %d, %.0f/s", size, on, rate)
					if err := m.event(t, row, on, rate); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eventChannels is over how many channels events are spread: over all streams.
const eventChannels = 60

func eventChannel(on, i int) string { return fmt.Sprintf("match.%d-%d", on, i%eventChannels) }

// subscribeOn gives each channel a subscriber on some of the servers, on others for
// each channel.
func (m *mesh) subscribeOn(on int) error {
	for i := range eventChannels {
		for j := range on {
			b := m.nodes[(i+j)%len(m.nodes)]
			if _, err := b.subscribe(1, func(int, *conn) string { return public(eventChannel(on, i)) }); err != nil {
				return err
			}
		}
	}
	wait(time.Second)
	return nil
}

// event measures events at a rate, published on all servers.
func (m *mesh) event(t *table, row string, on int, rate float64) error {
	publishers, err := m.publishers(6 * len(m.nodes))
	if err != nil {
		return err
	}
	var answered histogram
	m.latency()
	events, failed, cpu, start := m.events(), m.failures(), m.cpu(), time.Now()
	n, err := paced(rate, len(publishers), start.Add(m.nodes[0].o.duration), func(w, i int) error {
		return publishers[w].timed(eventChannel(on, i), &answered)
	})
	if err != nil {
		return err
	}
	if err := await("deliveries came", n*int64(on), func() int64 { return m.events() - events }); err != nil {
		return err
	}
	t.add(row, "CPU µs/event", m.work(cpu, time.Since(start), n))
	t.add(row, "publish p50 ms", ms(answered.quantile(.5)))
	t.add(row, "p99 ms", ms(answered.quantile(.99)))
	if on > 0 {
		latency := m.latency()
		t.add(row, "delivery p50 ms", ms(latency.quantile(.5)))
		t.add(row, "delivery p99 ms", ms(latency.quantile(.99)))
	}
	return m.unfailed(failed)
}

// unfailed is an error if a client was told of one since.
func (m *mesh) unfailed(before int64) error {
	if n := m.failures() - before; n > 0 {
		return fmt.Errorf("%d connections failed", n)
	}
	return nil
}

// timed publishes one event and notes how long the answer took.
func (p *publisher) timed(channel string, answered *histogram) error {
	start := time.Now()
	if err := p.publish(channel, 1); err != nil {
		return err
	}
	answered.add(time.Since(start))
	return nil
}

// meshPublish is events nobody listens to, from callers that wait for each answer,
// by what an answer promises.
func meshPublish(ctx context.Context, o options, t *table) error {
	for _, size := range []int{1, meshSize} {
		for _, sync := range []string{"1s", "always"} {
			err := withMesh(ctx, o, size, []string{"--sync-interval", sync}, func(m *mesh) error {
				for _, callers := range []int{1, 16, 128} {
					row := fmt.Sprintf("%d servers, sync %s, %d callers", size, sync, callers)
					if err := m.publish(t, row, callers); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *mesh) publish(t *table, row string, callers int) error {
	publishers, err := m.publishers(callers)
	if err != nil {
		return err
	}
	var answered histogram
	cpu, start := m.cpu(), time.Now()
	until := start.Add(m.nodes[0].o.duration)
	var publishing sync.WaitGroup
	errs := make([]error, callers)
	for w, p := range publishers {
		publishing.Go(func() {
			for i := w; time.Now().Before(until) && errs[w] == nil; i += callers {
				errs[w] = p.timed(fmt.Sprintf("user.%d", i%5000), &answered)
			}
		})
	}
	publishing.Wait()
	elapsed := time.Since(start)
	t.add(row, "events/s", float64(answered.count())/elapsed.Seconds())
	t.add(row, "CPU µs/event", m.work(cpu, elapsed, answered.count()))
	t.add(row, "p50 ms", ms(answered.quantile(.5)))
	t.add(row, "p99 ms", ms(answered.quantile(.99)))
	return errors.Join(errs...)
}
