//go:build unix

package webhook

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/edge/app"
	"reecho/edge/pusher"
)

// Webhooks from what happens to their delivery, stored on the way: channels that become
// occupied, each with its record, and client events. webhooks/s is until all were
// delivered, in batches of 100 at most, and ns/op only until they were told; cpu-µs/op has
// what the receiver needs in it.
func BenchmarkDurable(b *testing.B) {
	for _, bench := range []struct {
		name string
		do   func(n *Service, a *app.App, i int)
	}{
		{"occupied", func(s *Service, a *app.App, i int) { s.Channel(a, fmt.Sprint("room-", i)).Occupied(true) }},
		{"client events of 1000 channels", tellOf(1000)},
		{"client events of one channel", tellOf(1)},
	} {
		b.Run(bench.name+" alone", func(b *testing.B) { benchmarkDurable(b, brokertest.Start(b, broker.Config{}), bench.do) })
		b.Run(bench.name+" in a mesh", func(b *testing.B) {
			n := brokertest.StartMesh(b, 3, broker.Config{}).Nodes[0]
			benchmarkDurable(b, n.Broker, bench.do)
		})
	}
}

func tellOf(channels int) func(s *Service, a *app.App, i int) {
	return func(s *Service, a *app.App, i int) {
		s.Channel(a, fmt.Sprint("private-", i%channels)).Tell(pusher.WebhookEvent{
			Name: pusher.WebhookClientEvent, Event: "client-x", SocketID: "1.2", Data: `{"x":1,"y":2,"text":"a hundred bytes of data or so, as a client sends it when somebody types"}`,
		})
	}
}

func benchmarkDurable(b *testing.B, over *broker.Broker, do func(s *Service, a *app.App, i int)) {
	b.Helper()
	delivered := int64(0) // when it was looked
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer server.Close()
	a := newApp(app.Webhook{URL: server.URL, BatchEvents: 100, BatchTime: 50 * time.Millisecond, Concurrency: 8, AllowPrivate: true})
	apps, err := app.NewRegistry([]*app.App{a})
	if err != nil {
		b.Fatal(err)
	}
	s, err := New(b.Context(), Config{Grace: time.Millisecond, Memory: 1 << 30, QueueBytes: 1 << 30}, apps, over, silent)
	if err != nil {
		b.Fatal(err)
	}
	if err := over.Nodes().Start(); err != nil {
		b.Fatal(err)
	}
	begin, before, told := time.Now(), brokertest.CPUTime(b), 0
	for b.Loop() {
		do(s, a, told)
		told++
		// What waits in memory would only make it larger.
		for int64(told)-delivered > 20_000 {
			_ = broker.Pause(b.Context(), time.Millisecond)
			delivered = s.Stats()[0].Delivered
		}
	}
	for s.Stats()[0].Delivered < int64(told) && b.Context().Err() == nil {
		_ = broker.Pause(b.Context(), time.Millisecond)
	}
	b.ReportMetric(float64((brokertest.CPUTime(b)-before).Microseconds())/float64(told), "cpu-µs/op")
	b.ReportMetric(float64(told)/time.Since(begin).Seconds(), "webhooks/s")
	b.StopTimer()
	if err := s.Close(b.Context()); err != nil {
		b.Error(err)
	}
}
