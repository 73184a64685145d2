//go:build unix

package receipt

import (
	"strconv"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
)

// What a key costs: the same publish without one, with a new one, and tried again.
func BenchmarkPublish(b *testing.B) {
	d := start(b, Config{Bytes: 1 << 30}, broker.Config{})
	run := func(name string, publish func(i int)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			began := brokertest.CPUTime(b)
			for i := 0; b.Loop(); i++ {
				publish(i)
			}
			b.ReportMetric(float64(brokertest.CPUTime(b)-began)/float64(b.N)/float64(time.Microsecond), "cpu-µs/op")
		})
	}
	run("without", func(int) {
		if err := d.broker.Publish(b.Context(), publish("", "a", "match.1").Records); err != nil {
			b.Fatal(err)
		}
	})
	from := 0
	run("new", func(i int) {
		mustPublish(b, d, publish("k"+strconv.Itoa(from), "a", "match.1"))
		from++
	})
	run("again", func(int) { mustPublish(b, d, publish("k0", "a", "match.1")) })
}
