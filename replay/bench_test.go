//go:build unix

package replay

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"reecho/broker"
	"reecho/broker/brokertest"
)

// BenchmarkHistory reads 50 events of each of 1,000 interleaved channels at
// once, as after a restart.
func BenchmarkHistory(b *testing.B) {
	const channels, events = 1000, 50
	log := brokertest.Start(b, broker.Config{})
	interleave(b, log, channels, events)
	h := NewHistory(LogsOf(log), 64<<20)
	defer h.Close()
	b.ReportAllocs()
	start := brokertest.CPUTime(b)
	for b.Loop() {
		var readers sync.WaitGroup
		for i := range channels {
			readers.Go(func() {
				got, _, err := h.Read(context.Background(), Range{Log: logOf(log, match(i)), UpTo: 1 << 40, Events: 1000, Bytes: 1 << 20})
				if err != nil || len(got) != events {
					b.Errorf("%s: %d events, %v", match(i), len(got), err)
				}
			})
		}
		readers.Wait()
	}
	b.ReportMetric(float64(brokertest.CPUTime(b)-start)/float64(b.N)/(channels*events), "cpu-ns/event")
}

// BenchmarkNewest reads the newest 50 events of one channel among 1,000 that are
// interleaved in a long log: what a client that asks for the last 50 of a cold
// channel costs.
func BenchmarkNewest(b *testing.B) {
	const channels, events = 1000, 300
	log := brokertest.Start(b, broker.Config{Partitions: 1})
	interleave(b, log, channels, events)
	h := NewHistory(LogsOf(log), 64<<20)
	defer h.Close()
	last, _, err := logOf(log, match(0)).Last(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	start := brokertest.CPUTime(b)
	for i := 0; b.Loop(); i++ {
		got, _, err := h.Read(b.Context(), Range{Log: logOf(log, match(i%channels)), UpTo: last.Sequence + channels, Events: 50, Bytes: 1 << 20, Keep: KeepNewest})
		if err != nil || len(got) != 50 {
			b.Fatalf("%d events, %v", len(got), err)
		}
	}
	b.ReportMetric(float64(brokertest.CPUTime(b)-start)/1e3/float64(b.N), "cpu-us/read")
}

func match(i int) string { return fmt.Sprintf("match.%d", i) }

// interleave stores events of 250 bytes of so many channels, whose number is a
// multiple of 100.
func interleave(b *testing.B, log *broker.Broker, channels, events int) {
	b.Helper()
	frame := make([]byte, 250)
	for range events {
		for first := 0; first < channels; first += 100 {
			records := make([]broker.Record, 100)
			for i := range records {
				records[i] = broker.Record{App: "77", Channel: match(first + i), Frame: frame}
			}
			if err := log.Publish(b.Context(), records); err != nil {
				b.Fatal(err)
			}
		}
	}
}
