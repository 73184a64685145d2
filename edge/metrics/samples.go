package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"reecho/broker/histogram"
)

// kind is what a family is.
type kind string

const (
	counter  kind = "counter" // only grows, from 0 at the start
	gauge    kind = "gauge"   // what is now
	duration kind = "histogram"
)

// family is a metric, with a sample for each set of its labels' values. The values come
// from the configuration and from this program, and never from clients.
type family struct {
	name    string
	kind    kind
	help    string
	labels  []string
	collect func(now *snapshot, out *samples)
}

func (f *family) desc() *prometheus.Desc {
	return prometheus.NewDesc(f.name, f.help, f.labels, nil)
}

// samples are those of a family.
type samples struct {
	family *family
	order  []string
	byKey  map[string]*sample
}

type sample struct {
	labels []string
	value  float64
	took   histogram.Snapshot
}

// number is what a sample is made of.
type number interface {
	~int | ~int64 | ~uint64 | ~float64
}

// add adds to the sample of some labels: two things that have the same are counted
// together.
func add[N number](s *samples, value N, labels ...string) {
	s.of(labels).value += float64(value)
}

func (s *samples) took(h histogram.Snapshot, labels ...string) { s.of(labels).took = h }

func (s *samples) of(labels []string) *sample {
	key := strings.Join(labels, "\x00")
	one := s.byKey[key]
	if one == nil {
		if s.byKey == nil {
			s.byKey = make(map[string]*sample)
		}
		one = &sample{labels: labels}
		s.byKey[key] = one
		s.order = append(s.order, key)
	}
	return one
}

func (s *samples) send(ch chan<- prometheus.Metric) {
	desc := s.family.desc()
	for _, key := range s.order {
		one := s.byKey[key]
		switch s.family.kind {
		case counter:
			ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, one.value, one.labels...)
		case gauge:
			ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, one.value, one.labels...)
		case duration:
			buckets := make(map[float64]uint64, len(histogram.Bounds))
			for i, bound := range histogram.Bounds {
				buckets[bound.Seconds()] = one.took.Cumulative[i]
			}
			ch <- prometheus.MustNewConstHistogram(desc, one.took.Count, one.took.Sum.Seconds(), buckets, one.labels...)
		}
	}
}

func (s *samples) has(labels ...string) bool { return s.byKey[strings.Join(labels, "\x00")] != nil }
