package session

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"reecho/broker"
	"reecho/replay"
)

// nowhere is records that keep nothing.
type nowhere struct{}

var _ Records = nowhere{}

// Get implements Records.
func (nowhere) Get(context.Context, string) (broker.Value, error) { return broker.Value{}, nil }

// Put implements Records.
func (nowhere) Put(context.Context, string, []byte, uint64) (uint64, error) { return 1, nil }

// List implements Records.
func (nowhere) List(context.Context, string) ([]string, error) { return nil, nil }

// Void implements Records.
func (nowhere) Void() time.Time { return time.Time{} }

// BenchmarkSession is the memory of a session with one channel whose client is
// connected and has confirmed something: what the store has of it, and the
// connection's hold. What edge adds for the pings is not in it.
func BenchmarkSession(b *testing.B) {
	const sessions = 10_000
	line := replay.NewLine("epochepoch", "77", "match.1")
	for b.Loop() {
		before := heapBytes()
		// Time is left out: saves have their turns again at once, and are not put off.
		st := Open(Config{SavesPerSecond: 1 << 20}, nowhere{}, nil, slog.New(slog.DiscardHandler))
		st.closing.Store(true)
		holds := make([]*Hold, sessions)
		for i := range holds {
			h := &Hold{}
			holds[i] = h
			if err := st.Claim(h, Who{App: "77", ID: fmt.Sprintf("%036d", i), Socket: "1234567890.1234567890"}, page{}); err != nil {
				b.Fatal(err)
			}
			if err := h.Load(b.Context()); err != nil {
				b.Fatal(err)
			}
			r, _ := h.Request("match.1", line)
			if err := r.Begin(b.Context(), line.At(1)); err != nil {
				b.Fatal(err)
			}
			h.Confirm([]Reached{{Channel: "match.1", Position: line.At(2)}}, time.Now())
		}
		settle(holds)
		b.ReportMetric(float64(heapBytes()-before)/sessions, "heap-B/session")
		runtime.KeepAlive(holds)
		st.Close(b.Context())
	}
}

// settle waits until all is saved.
func settle(holds []*Hold) {
	for _, h := range holds {
		for !h.session.settled() {
			runtime.Gosched()
		}
	}
}

func (s *session) settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.changed && !s.saving && !s.delayed
}

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
