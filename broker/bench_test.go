//go:build unix

package broker_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/broker/natsd"
)

// BenchmarkPublish stores events of 250 bytes, spread over 5,000 channels, from
// one caller, from many, and many at a time. CPU is that of the whole process:
// both sides of the embedded server.
func BenchmarkPublish(b *testing.B) {
	for _, tt := range []struct {
		name           string
		callers, batch int
	}{{"callers=1", 1, 1}, {"callers=64", 64, 1}, {"callers=64/batch=10", 64, 10}} {
		b.Run(tt.name, func(b *testing.B) { benchmarkPublish(b, brokertest.Start(b, broker.Config{}), tt.callers, tt.batch) })
	}
}

func benchmarkPublish(b *testing.B, br *broker.Broker, callers, batch int) {
	b.Helper()
	frame := []byte(strings.Repeat("x", 250))
	b.ReportAllocs()
	start, begin := brokertest.CPUTime(b), time.Now()
	work := make(chan int, callers)
	done := make(chan error, callers)
	for range callers {
		go func() {
			records := make([]broker.Record, batch)
			for i := range work {
				for j := range records {
					records[j] = broker.Record{App: "77", Channel: fmt.Sprintf("user.%d", (i*batch+j)%5000), Frame: frame}
				}
				if err := br.Publish(b.Context(), records); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	n := 0
	for ; b.Loop(); n++ {
		work <- n
	}
	close(work)
	for range callers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	events := float64(n * batch)
	b.ReportMetric(float64(brokertest.CPUTime(b)-start)/events/1000, "cpu-µs/event")
	b.ReportMetric(events/time.Since(begin).Seconds(), "events/s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkSyncInterval is what flushing to the disk costs; DefaultSyncInterval
// is the smallest that costs less than about 5 %.
func BenchmarkSyncInterval(b *testing.B) {
	for _, cfg := range []natsd.Config{
		{SyncInterval: 2 * time.Minute}, {SyncInterval: 10 * time.Second}, {SyncInterval: time.Second}, {SyncInterval: 100 * time.Millisecond}, {SyncAlways: true},
	} {
		name := cfg.SyncInterval.String()
		if cfg.SyncAlways {
			name = "always"
		}
		b.Run(name, func(b *testing.B) {
			log := slog.New(slog.DiscardHandler)
			cfg.Dir = b.TempDir()
			server, err := natsd.Start(b.Context(), cfg, log)
			if err != nil {
				b.Fatal(err)
			}
			br, err := broker.New(b.Context(), broker.Config{}, server, false, log)
			if err != nil {
				b.Fatal(err)
			}
			benchmarkPublish(b, br, 64, 10)
			if err := br.Close(b.Context()); err != nil {
				b.Error(err)
			}
			if err := server.Close(b.Context()); err != nil {
				b.Error(err)
			}
		})
	}
}
