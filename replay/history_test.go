package replay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/broker/brokertest/seed"
)

// channelOf names a channel of the tests.
func channelOf(i int) string { return fmt.Sprintf("match.%d", i) }

// logOf is the log of a channel of app 77.
func logOf(b *broker.Broker, channel string) Log {
	return LogsOf(b).Log(broker.Ref{App: "77", Channel: channel})
}

// mustFill stores events 0, 1, … of each channel, interleaved, and returns
// their sequences by channel.
func mustFill(t *testing.T, b *broker.Broker, channels, events int, text string) [][]uint64 {
	t.Helper()
	for n := range events {
		for first := 0; first < channels; first += 100 {
			var records []broker.Record
			for i := first; i < min(first+100, channels); i++ {
				records = append(records, broker.Record{App: "77", Channel: channelOf(i), Frame: []byte(fmt.Sprint(n, text))})
			}
			if err := b.Publish(t.Context(), records); err != nil {
				t.Fatal(err)
			}
		}
	}
	sequences := make([][]uint64, channels)
	for i := range sequences {
		stored, _, err := logOf(b, channelOf(i)).Read(t.Context(), 0, events)
		if err != nil || len(stored) != events {
			t.Fatalf("%d events, %v", len(stored), err)
		}
		for _, ev := range stored {
			sequences[i] = append(sequences[i], ev.Sequence)
		}
	}
	return sequences
}

// However many reads come at once, and however little memory there is, each gets
// its range: all of it, its newest part, or an error.
func TestHistoryRead(t *testing.T) {
	t.Parallel()
	const channels, events, size = 20, 40, 100
	b := brokertest.Start(t, broker.Config{Partitions: 2})
	sequences := mustFill(t, b, channels, events, strings.Repeat(".", size))
	for name, memory := range map[string]int{"much memory": 64 << 20, "memory for a few": 8 * size * events, "memory for none": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := NewHistory(LogsOf(b), memory)
			defer h.Close()
			rng := rand.New(rand.NewPCG(seed.First(t), 2))
			var readers sync.WaitGroup
			for i := range 4 * channels {
				of := sequences[i%channels]
				first, end := rng.IntN(events), events
				if i%3 == 0 {
					end = first + rng.IntN(events-first)
				}
				upTo := of[first] - 1 // of none
				if end > first {
					upTo = of[end-1]
				}
				limit := 1 + rng.IntN(events)
				r := Range{
					Log: logOf(b, channelOf(i%channels)), After: of[first] - 1, UpTo: upTo,
					Events: limit, Bytes: 1 << 20, Keep: Keep(rng.IntN(3)), Past: i%2 == 0,
					Asker: netip.AddrFrom4([4]byte{10, 0, 0, byte(rng.IntN(5))}),
				}
				readers.Go(func() { checkRange(t, h, r, first, end) })
			}
			readers.Wait()
		})
	}
}

func checkRange(t *testing.T, h *History, r Range, first, end int) {
	t.Helper()
	got, cut, err := h.Read(context.Background(), r)
	n := max(end-first, 0)
	if n > r.Events && r.Keep == KeepAll {
		if !errors.Is(err, ErrRangeTooLarge) {
			t.Errorf("%d events, limit %d: %d, %v", n, r.Events, len(got), err)
		}
		return
	}
	if cut != (n > r.Events) {
		t.Errorf("%d events, limit %d: cut %v", n, r.Events, cut)
	}
	want := end - min(n, r.Events)
	if r.Keep == KeepOldest {
		want, end = first, first+min(n, r.Events)
	}
	for _, ev := range got {
		if text := fmt.Sprint(want, "."); !strings.HasPrefix(string(ev.Frame), text) {
			t.Errorf("%s: got %.4s…, want %s…", r.Log.Ref().Channel, ev.Frame, text)
		}
		want++
	}
	if want != end || err != nil {
		t.Errorf("%s: up to %d of %d, %v", r.Log.Ref().Channel, want, end, err)
	}
}

// Reads that a pass has no room for are the first of the next one, in the order
// in which they came: none is overtaken again and again.
func TestHistoryPostponed(t *testing.T) {
	t.Parallel()
	const channels = 5
	b := brokertest.Start(t, broker.Config{Partitions: 1})
	mustFill(t, b, channels, 2, "")
	h := NewHistory(LogsOf(b), 1)
	defer h.Close()
	c := &newReadQueue().back
	var came []*rangeRead
	for i := range channels {
		came = append(came, &rangeRead{
			Range: Range{Log: logOf(b, channelOf(i)), UpTo: 1000, Events: 10, Bytes: 1000}, done: make(chan struct{}),
		})
	}
	for _, r := range came {
		c.waiting.add(r)
	}
	for i := range came {
		h.readTogether(logOf(b, channelOf(0)).Stream(), c)
		if len(came[i].events) != 2 || !slices.Equal(c.waiting.first, came[i+1:]) || c.waiting.n != len(came)-i-1 {
			t.Fatalf("pass %d: %d events, %d wait", i, len(came[i].events), c.waiting.n)
		}
	}
	if cap(c.waiting.first) != 0 {
		t.Error("the queue holds on to what was read")
	}
}

// The bytes of a range are bounded, but for one event.
func TestHistoryBytes(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{})
	mustFill(t, b, 1, 10, strings.Repeat(".", 99)) // 100 bytes each
	h := NewHistory(LogsOf(b), 1<<20)
	defer h.Close()
	for _, tt := range []struct {
		bytes, want int
		keep        Keep
		err         error
	}{
		{1000, 10, KeepAll, nil},
		{999, 0, KeepAll, ErrRangeTooLarge},
		{999, 9, KeepNewest, nil},
		{150, 1, KeepNewest, nil},
		{10, 1, KeepNewest, nil},
		{0, 1, KeepNewest, nil},
		{1000, 10, KeepOldest, nil},
		{999, 9, KeepOldest, nil},
		{10, 1, KeepOldest, nil},
	} {
		got, cut, err := h.Read(t.Context(), Range{Log: logOf(b, channelOf(0)), UpTo: 1000, Events: 100, Bytes: tt.bytes, Keep: tt.keep})
		if len(got) != tt.want || !errors.Is(err, tt.err) || cut != (tt.want > 0 && tt.want < 10) {
			t.Errorf("%d bytes: %d events, cut %v, %v", tt.bytes, len(got), cut, err)
		}
	}
}

// Nothing is read for somebody who has gone, and Close ends who waits.
func TestHistoryAbandoned(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{Partitions: 1})
	mustFill(t, b, 1, 1, "")
	h := NewHistory(LogsOf(b), 1<<20)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		if _, _, err := h.Read(gone, Range{Log: logOf(b, channelOf(0)), UpTo: 1, Events: 1, Bytes: 1}); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	h.Close()
	if _, _, err := h.Read(t.Context(), Range{Log: logOf(b, channelOf(0)), UpTo: 1, Events: 1, Bytes: 1}); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
