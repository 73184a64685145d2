// Package metrics serves what the parts of a node have counted, for Prometheus. It asks
// them when it is asked, and counts nothing itself. It is the only importer of
// prometheus.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

const (
	// maxConnections and maxScrapes bound what whoever asks can take: a scrape makes a
	// few hundred KB.
	maxConnections = 16
	maxScrapes     = 4
	// scrapeTimeout is Prometheus' own default.
	scrapeTimeout = 10 * time.Second
	headerTimeout = 5 * time.Second
	maxHeader     = 16 << 10
)

// Path is where the metrics are.
const Path = "/metrics"

// Server answers with the metrics. Close ends it.
type Server struct {
	http    *http.Server
	serving sync.WaitGroup
}

// Serve serves the metrics of a node on ln, which it closes in the end.
func Serve(ln net.Listener, from Sources, log *slog.Logger) *Server {
	s := &Server{http: &http.Server{
		Handler: Handler(from, log), ReadHeaderTimeout: headerTimeout, IdleTimeout: time.Minute,
		WriteTimeout: 2 * scrapeTimeout, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}}
	s.serving.Go(func() {
		if err := s.http.Serve(netutil.LimitListener(ln, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are served no more", slog.Any("error", err))
		}
	})
	return s
}

// Close finishes the answers under way, at most until ctx ends.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		_ = s.http.Close()
	}
	s.serving.Wait()
	if err != nil {
		return fmt.Errorf("stop serving metrics: %w", err)
	}
	return nil
}

// Handler answers at Path, and tells where that is at any other.
func Handler(from Sources, log *slog.Logger) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		&collector{from: from}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	mux := http.NewServeMux()
	mux.Handle("GET "+Path, promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError), MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout,
		EnableOpenMetrics: true,
	}))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "There is nothing at this path. The metrics are at "+Path+"\n") // the caller may be gone
	})
	return mux
}

// collector is the prometheus.Collector of the families.
type collector struct{ from Sources }

var _ prometheus.Collector = (*collector)(nil)

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for i := range families {
		ch <- families[i].desc()
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	now := c.from.take()
	for i := range families {
		f := &families[i]
		out := &samples{family: f}
		f.collect(now, out)
		out.send(ch)
	}
}
