//go:build linux

// Command bench measures a Pusher-compatible server from outside: real
// processes, real sockets, the server on its own cores. It prints one JSON line
// for each scenario.
//
//	scripts/bench/run                      all scenarios against reecho
//	scripts/bench/run --scenario fanout-1000,publish
//	scripts/bench/run --scenario mesh      all of three servers that are one
//	scripts/bench/run --url 127.0.0.1:6001 --pid 4711 --app-id … --key … --secret …
//
// The scenarios whose names begin with mesh- start three servers of one cluster, all
// on the server's cores, and one that is alone to compare them with. They run --repeat
// times and print a table: the median of each figure, and in parentheses the least and
// the most. CPU is that of all servers, without what they take when nothing happens.
//
//	mesh-event     an event with one subscriber on none to all of the servers
//	mesh-publish   publishes by sync_interval and by callers that wait for answers
//	mesh-channels  100,000 channels that one server follows, and then another one
//	mesh-presence  100,000 members of presence channels that come and go
//	mesh-storm-N   N clients come back to their server, or to another one
//
// With --url it aims at any running server with the given app. The rates that
// are searched for ("highest rate with p99 below 100 ms") are found by raising
// the offered rate until the latency or the throughput gives way.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// options are the command line.
type options struct {
	scenarios  string
	duration   time.Duration
	binary     string
	serverCPUs string
	url        string
	pid        int
	appID      string
	key        string
	secret     string
	payload    int
	repeat     int
}

// result is one line of output.
type result struct {
	Scenario      string  `json:"scenario"`
	Rate          float64 `json:"rate_per_s"`
	Unit          string  `json:"unit"`
	Offered       float64 `json:"offered_per_s,omitempty"`
	P50           float64 `json:"p50_ms"`
	P90           float64 `json:"p90_ms"`
	P99           float64 `json:"p99_ms"`
	Max           float64 `json:"max_ms"`
	ServerCPU     float64 `json:"server_cpu_s_per_million"`
	ServerCores   float64 `json:"server_cores_busy"`
	GeneratorCore float64 `json:"generator_cores_busy"`
	RSSMiB        float64 `json:"server_rss_mib"`
	BytesPerConn  float64 `json:"rss_bytes_per_connection,omitempty"`
	// BytesPerDelivery is what came over the connections.
	BytesPerDelivery float64 `json:"bytes_per_delivery,omitempty"`
	Lost             int64   `json:"lost"`
	Errors           int64   `json:"errors"`
	Note             string  `json:"note,omitempty"`
}

func (r *result) setLatency(h *histogram) {
	r.P50, r.P90, r.P99 = ms(h.quantile(.5)), ms(h.quantile(.9)), ms(h.quantile(.99))
	r.Max = ms(time.Duration(h.max.Load()))
}

func main() {
	var o options
	flag.StringVar(&o.scenarios, "scenario", "all", "comma-separated names, all for those of one server, or mesh: "+strings.Join(scenarioNames(), " "))
	flag.DurationVar(&o.duration, "duration", 5*time.Second, "time of each measured step")
	flag.StringVar(&o.binary, "binary", "", "reecho binary to start")
	flag.StringVar(&o.serverCPUs, "server-cpus", "", "cores of the server, as taskset takes them")
	flag.StringVar(&o.url, "url", "", "HOST:PORT of a running server instead of --binary")
	flag.IntVar(&o.pid, "pid", 0, "process of that server, for CPU and memory")
	flag.StringVar(&o.appID, "app-id", "77", "app id")
	flag.StringVar(&o.key, "key", "bench-key", "app key")
	flag.StringVar(&o.secret, "secret", "bench-secret", "app secret")
	flag.IntVar(&o.payload, "payload", 200, "bytes of an event's data")
	flag.IntVar(&o.repeat, "repeat", 3, "how often a scenario of a mesh is run")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(o options) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	raiseFileLimit()
	fmt.Fprintf(os.Stderr, "bench: generator on %d cores, server on cores %q\n", runtime.NumCPU(), o.serverCPUs)
	for _, s := range slices.Concat(scenarios, storms) {
		if !o.wants("all", s.name) {
			continue
		}
		if err := runScenario(ctx, o, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for _, s := range meshes {
		if !o.wants("mesh", s.name) {
			continue
		}
		if err := runMesh(ctx, o, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// wants reports whether a scenario, or the group of it, was named.
func (o options) wants(group, name string) bool {
	names := strings.Split(o.scenarios, ",")
	return slices.Contains(names, group) || slices.Contains(names, name)
}

// runScenario gives each scenario a fresh server.
func runScenario(ctx context.Context, o options, s scenario) error {
	t, err := startTarget(ctx, o)
	if err != nil {
		return err
	}
	defer t.stop()
	b, err := newBench(o, t)
	if err != nil {
		return err
	}
	defer b.close()
	r, err := s.run(ctx, b)
	if err != nil {
		return err
	}
	r.Scenario = s.name
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(os.Stdout, "%s\n", line)
	return err
}

func raiseFileLimit() {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil {
		l.Cur = l.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &l) // what there is has to do
	}
}
