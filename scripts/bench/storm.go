//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// missedEvents is how many events each client of a resume storm missed.
	missedEvents = 50
	stormWorkers = 64
)

// storm is clients that come back all at once, each to one of a number of
// channels where it missed events.
type storm struct {
	clients, channels int
	// cold: the server was killed and started again, so that nothing is in
	// its memory.
	cold bool
	// connect: the connections are part of what is measured.
	connect bool
}

var storms = []scenario{
	{"resume-1000-hot", storm{clients: 1000, channels: 1000}.run},
	{"resume-1000-cold", storm{clients: 1000, channels: 1000, cold: true}.run},
	{"resume-10000-hot", storm{clients: 10000, channels: 1000}.run},
	{"resume-10000-cold", storm{clients: 10000, channels: 1000, cold: true}.run},
	{"reconnect-5000-hot", storm{clients: 5000, channels: 100, connect: true}.run},
	{"reconnect-5000-cold", storm{clients: 5000, channels: 100, cold: true, connect: true}.run},
}

func (s storm) channel(i int) string { return fmt.Sprintf("match.%d", i%s.channels) }

func (s storm) run(ctx context.Context, b *bench) (result, error) {
	positions, err := s.miss(ctx, b)
	if err != nil {
		return result{}, err
	}
	conns := make([]*conn, s.clients)
	dial := func(i int) (err error) {
		if conns[i], err = b.dial(); err == nil {
			err = b.watch(conns[i])
		}
		return err
	}
	comeBack := func(i int) error {
		if s.connect {
			if err := dial(i); err != nil {
				return err
			}
		}
		return conns[i].send(s.again(i, positions))
	}
	if !s.connect {
		if err := parallel(s.clients, stormWorkers, dial); err != nil {
			return result{}, err
		}
		wait(time.Second)
	}
	stopLive, err := s.live(b)
	if err != nil {
		return result{}, err
	}
	var failed error
	memory := rss(b.t.pid)
	b.beside.reset()
	r := b.measure(&b.events, func(time.Time) int64 {
		failed = parallel(s.clients, stormWorkers, comeBack)
		return s.awaitLast(b)
	})
	stopLive()
	s.describe(b, &r, rss(b.t.pid)-memory)
	return r, failed
}

// again is how a client subscribes that comes back.
func (s storm) again(i int, positions map[string]string) string {
	return `{"event":"pusher:subscribe","data":{"channel":"` + s.channel(i) + `","replay":{"after":"` + positions[s.channel(i)] + `"}}}`
}

// miss stores what the clients miss. It returns the positions of the channels
// before that.
func (s storm) miss(ctx context.Context, b *bench) (map[string]string, error) {
	if err := s.publish(b, 1); err != nil {
		return nil, fmt.Errorf("publish what the clients have: %w", err)
	}
	positions, err := s.positions(b)
	if err != nil {
		return nil, fmt.Errorf("get positions: %w", err)
	}
	if err := s.publish(b, missedEvents); err != nil {
		return nil, fmt.Errorf("publish what is missed: %w", err)
	}
	if s.cold {
		if err := b.t.restart(ctx); err != nil {
			return nil, fmt.Errorf("start the server again: %w", err)
		}
	}
	wait(time.Second)
	return positions, nil
}

// awaitLast waits until the last client is whole, and returns how many events
// all get.
func (s storm) awaitLast(b *bench) int64 {
	want := int64(s.clients * missedEvents)
	for end := time.Now().Add(30 * time.Second); b.events.Load() < want && time.Now().Before(end); {
		wait(time.Millisecond)
	}
	return want
}

// describe turns the rate of events into one of resumes. How old the events of
// the past are says nothing, so the latencies become those of the live ones.
func (s storm) describe(b *bench, r *result, memory int64) {
	seconds := float64(s.clients*missedEvents) / r.Rate
	r.Note = fmt.Sprintf("the last of %d clients was whole after %.2f s; %.0f events/s; %.0f µs of server CPU per client; %+.0f MiB; latencies are those of live events meanwhile",
		s.clients, seconds, r.Rate, r.ServerCores*seconds*1e6/float64(s.clients), float64(memory)/(1<<20))
	r.setLatency(&b.beside)
	r.Rate, r.Unit = float64(s.clients)/seconds, fmt.Sprintf("resumes of %d events", missedEvents)
}

// live keeps 100 events a second going to 10 others while the storm lasts.
func (s storm) live(b *bench) (stop func(), err error) {
	if _, err := b.subscribe(10, func(int, *conn) string { return public(liveChannel) }); err != nil {
		return nil, err
	}
	p, err := b.publisher()
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for {
			select {
			case <-time.After(10 * time.Millisecond):
				if p.publish(liveChannel, 1) != nil {
					b.failures.Add(1)
					return
				}
			case <-done:
				return
			}
		}
	})
	return func() { close(done); publishing.Wait() }, nil
}

// positions asks for the present position of each channel.
func (s storm) positions(b *bench) (map[string]string, error) {
	var mu sync.Mutex
	all := make(map[string]string)
	err := parallel(10, 10, func(w int) error {
		nc, r, _, _, err := b.connect()
		if err != nil {
			return err
		}
		defer nc.Close()
		for i := w; i < s.channels; i += 10 {
			if _, err := nc.Write(maskedFrame(`{"event":"pusher:subscribe","data":{"channel":"` + s.channel(i) + `","replay":{}}}`)); err != nil {
				return err
			}
			frame, err := readFrame(r)
			if err != nil {
				return err
			}
			_, after, ok := bytes.Cut(frame, []byte(`\"position\":\"`))
			position, _, _ := strings.Cut(string(after), `\"`)
			if !ok {
				return fmt.Errorf("no position in %s", frame)
			}
			mu.Lock()
			all[s.channel(i)] = position
			mu.Unlock()
		}
		return nil
	})
	return all, err
}

// publish stores events on every channel, one channel after the other in each
// round: in the streams they are interleaved.
func (s storm) publish(b *bench, rounds int) error {
	publishers, err := b.publishers(16)
	if err != nil {
		return err
	}
	const batch = 10
	for range rounds {
		err := parallel(s.channels/batch, len(publishers), func(i int) error {
			var items []string
			for j := range batch {
				items = append(items, `{"name":"bench","channel":"`+s.channel(i*batch+j)+`","data":"`+b.data()+`"}`)
			}
			// A publisher belongs to one request at a time.
			p := <-b.free(publishers)
			defer func() { b.pool <- p }()
			return p.post("/batch_events", `{"batch":[`+strings.Join(items, ",")+`]}`)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// free is a pool of publishers.
func (b *bench) free(all []*publisher) chan *publisher {
	b.poolOnce.Do(func() {
		b.pool = make(chan *publisher, len(all))
		for _, p := range all {
			b.pool <- p
		}
	})
	return b.pool
}
