//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// meshSize is how many servers a mesh has.
const meshSize = 3

// meshScenario compares servers that are one with each other or with one that is
// alone. It starts them itself, and is run several times.
type meshScenario struct {
	name string
	run  func(context.Context, options, *table) error
}

// runMesh runs a scenario as often as wanted and prints its table, also of what was
// measured before one failed.
func runMesh(ctx context.Context, o options, s meshScenario) error {
	if o.url != "" {
		return errors.New("it starts its own servers: leave --url away")
	}
	var t table
	var failed error
	for i := 0; i < o.repeat && failed == nil; i++ {
		failed = s.run(ctx, o, &t)
	}
	return errors.Join(failed, t.print(os.Stdout, s.name))
}

// mesh is servers under measurement: several that are one, or one that is alone.
type mesh struct {
	nodes []*bench // the clients of each server
	// idle is the CPU that all servers take in a second while nothing happens.
	idle time.Duration
}

// settleTime is how long a mesh is left alone before its idle CPU is taken: after a
// start its streams are moved to even out who leads what.
const settleTime = 4 * time.Second

// withMesh runs servers with flags while do runs.
func withMesh(ctx context.Context, o options, size int, flags []string, do func(*mesh) error) error {
	m := new(mesh)
	defer m.stop()
	if err := m.start(ctx, o, size, flags); err != nil {
		return err
	}
	wait(settleTime)
	before := m.cpu()
	wait(settleTime)
	m.idle = time.Duration(float64(total(m.since(before))) / settleTime.Seconds())
	return do(m)
}

func (m *mesh) start(ctx context.Context, o options, size int, flags []string) error {
	// Room for 100,000 channels on one server.
	flags = append([]string{"--channel-memory", "4GiB"}, flags...)
	if size > 1 {
		peers, err := freePorts(size)
		if err != nil {
			return err
		}
		flags = append(flags, "--cluster-name", "bench", "--cluster-secret", o.secret+strings.Repeat("-", 16), "--cluster-peers", strings.Join(peers, ","))
		return m.startAll(ctx, o, peers, flags)
	}
	return m.startAll(ctx, o, []string{""}, flags)
}

// startAll starts a server for each address of the cluster, all at once: none is
// ready without the others.
func (m *mesh) startAll(ctx context.Context, o options, peers, flags []string) error {
	for i, peer := range peers {
		own := flags
		if peer != "" {
			own = append([]string{"--node-name", string(rune('a' + i)), "--cluster-listen", peer}, flags...)
		}
		t, err := newTarget(o, own...)
		if err != nil {
			return err
		}
		b, err := newBench(o, t)
		if err != nil {
			t.stop()
			return err
		}
		m.nodes = append(m.nodes, b)
	}
	return parallel(len(m.nodes), len(m.nodes), func(i int) error {
		if err := m.nodes[i].t.start(ctx); err != nil {
			return err
		}
		return m.nodes[i].t.ready(ctx)
	})
}

func (m *mesh) stop() {
	for _, b := range m.nodes {
		b.close()
		b.t.stop()
	}
}

// freePorts are addresses nobody listens on.
func freePorts(n int) ([]string, error) {
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// ready waits until the server is.
func (t *target) ready(ctx context.Context) error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); wait(100 * time.Millisecond) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.addr+"/ready", nil)
		if err != nil {
			return err
		}
		if answer, err := http.DefaultClient.Do(request); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
	}
	return fmt.Errorf("%s is not ready after a minute", t.addr)
}

// cpu is the CPU time of each server so far.
func (m *mesh) cpu() []time.Duration {
	all := make([]time.Duration, len(m.nodes))
	for i, b := range m.nodes {
		all[i] = cpu(b.t.pid)
	}
	return all
}

// since is what each server has taken since; nothing for one that is gone.
func (m *mesh) since(before []time.Duration) []time.Duration {
	now := m.cpu()
	for i := range now {
		now[i] = max(0, now[i]-before[i])
	}
	return now
}

// work is the CPU of all servers since, for what was done, each time, in µs: what
// they take anyway is left out.
func (m *mesh) work(before []time.Duration, elapsed time.Duration, times int64) (sum float64) {
	for _, share := range m.workOf(before, elapsed, times) {
		sum += share
	}
	return sum
}

// workOf is work for each server: what they take anyway is shared equally.
func (m *mesh) workOf(before []time.Duration, elapsed time.Duration, times int64) []float64 {
	shares := make([]float64, len(m.nodes))
	idle := elapsed.Seconds() * float64(m.idle) / float64(len(m.nodes))
	for i, d := range m.since(before) {
		shares[i] = micros(d-time.Duration(idle)) / float64(max(times, 1))
	}
	return shares
}

func total[T ~int64](all []T) (sum T) {
	for _, d := range all {
		sum += d
	}
	return sum
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// memory is the resident memory of each server.
func (m *mesh) memory() []int64 {
	all := make([]int64, len(m.nodes))
	for i, b := range m.nodes {
		all[i] = rss(b.t.pid)
	}
	return all
}

// sum adds up a counter of the clients of all servers.
func (m *mesh) sum(counter func(*bench) int64) (n int64) {
	for _, b := range m.nodes {
		n += counter(b)
	}
	return n
}

func (m *mesh) events() int64 { return m.sum(func(b *bench) int64 { return b.events.Load() }) }

func (m *mesh) failures() int64 { return m.sum(func(b *bench) int64 { return b.failures.Load() }) }

// latency is that of what clients got of all servers since it was last asked.
func (m *mesh) latency() *histogram {
	all := new(histogram)
	for _, b := range m.nodes {
		all.merge(&b.latency)
		b.latency.reset()
	}
	return all
}

// publishers are n, spread over the servers.
func (m *mesh) publishers(n int) ([]*publisher, error) {
	all := make([]*publisher, n)
	for i := range all {
		p, err := m.nodes[i%len(m.nodes)].publisher()
		if err != nil {
			return nil, err
		}
		all[i] = p
	}
	return all, nil
}

// await waits until a counter has reached what is wanted.
func await(what string, want int64, count func() int64) error {
	deadline := time.Now().Add(2 * time.Minute)
	for ; count() < want; wait(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d %s", count(), want, what)
		}
	}
	return nil
}
