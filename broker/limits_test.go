package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
)

// overload makes the queue of a broker with a window of 1 full, and returns
// what a publish was told then.
func overload(t *testing.T, b *broker.Broker, records ...broker.Record) error {
	t.Helper()
	batch := make([]broker.Record, 2000)
	for i := range batch {
		batch[i] = record("busy", "more than ten bytes")
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		done := make(chan error, 1)
		go func() { done <- b.Publish(t.Context(), batch) }()
		var err error
		for running := true; running && err == nil; {
			select {
			case batchErr := <-done:
				if batchErr != nil {
					t.Fatalf("a batch larger than the queue, which was empty: %v", batchErr)
				}
				running = false
			default:
				err = b.Publish(t.Context(), records)
			}
		}
		if err != nil {
			if batchErr := <-done; batchErr != nil && !errors.Is(batchErr, broker.ErrOverloaded) {
				t.Fatal(batchErr)
			}
			return err
		}
	}
	t.Fatal("the queue never filled")
	return nil
}

// What is refused because the queue is full is not stored, none of it; what is
// larger than the queue is taken when the queue is empty. Seen: a queue smaller
// than one event refused it for ever, and of a batch the first part was stored.
func TestFullQueueRefusesAllOrNothing(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{Partitions: 1, PublishWindow: 1, PublishQueueBytes: 10, EventsPerChannel: 1 << 20})
	stored := 0
	err := overload(t, b, record("match.1", fmt.Sprint("large event ", stored)), record("match.2", "x"))
	if !errors.Is(err, broker.ErrOverloaded) {
		t.Fatalf("got %v, want ErrOverloaded", err)
	}
	tails := 0
	for _, name := range []string{"match.1", "match.2"} {
		n := 0
		if err := b.Scan(t.Context(), 0, 0, 1<<40, func(ref broker.Ref, _ broker.Event) bool {
			if ref.Channel == name {
				n++
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if name == "match.1" {
			tails = n
		} else if n != tails {
			t.Errorf("match.1 has %d events, match.2 %d: a part of a refused call is stored", tails, n)
		}
	}
}

// An event that can never be stored is refused before anything is, with the
// limit. Seen: 4 MiB of data that JSON makes longer were a 500, and an event
// larger than its stream was answered as stored and dropped at once.
func TestTooLargeIsRefusedAsAWhole(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		cfg   broker.Config
		limit int
	}{
		{"message", broker.Config{}, 8 << 20},
		{"stream", broker.Config{MaxBytes: 4 << 20}, 1 << 20},
		{"rule", broker.Config{Rules: []broker.Rule{{App: "app-1", Channels: "match.*", MaxBytes: 8 << 20}}}, 2 << 20},
		{"not retained", broker.Config{Rules: []broker.Rule{{App: "app-1", Channels: "match.*", Off: true}}}, 8 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := brokertest.Start(t, tt.cfg)
			large := record("match.1", strings.Repeat("x", tt.limit))
			for _, records := range [][]broker.Record{{large}, {record("other", "small"), large}} {
				err := b.Publish(t.Context(), records)
				var tooLarge *broker.TooLargeError
				if !errors.Is(err, broker.ErrTooLarge) || !errors.As(err, &tooLarge) {
					t.Fatalf("got %v, want ErrTooLarge", err)
				}
				if tooLarge.Channel != "match.1" || tooLarge.Size != tt.limit || tooLarge.Limit >= tt.limit || tooLarge.Limit < tt.limit*9/10 {
					t.Errorf("got %+v", *tooLarge)
				}
			}
			if _, ok, err := b.Last(t.Context(), "app-1", "other"); ok || err != nil {
				t.Errorf("an event beside the refused one is stored: %v, %v", ok, err)
			}
			wantLargest(t, b, "match.1", tt.limit)
		})
	}
}

// wantLargest stores an event just below the limit and reads it.
func wantLargest(t *testing.T, b *broker.Broker, channel string, limit int) {
	t.Helper()
	fits := record(channel, strings.Repeat("y", limit-1024))
	fits.Exclude = strings.Repeat("1", 40)
	mustPublish(t, b, fits)
	if b.Retention("app-1", channel).Off {
		return
	}
	if last, ok, err := b.Last(t.Context(), "app-1", channel); err != nil || !ok || len(last.Frame) != len(fits.Frame) {
		t.Errorf("the largest event: %d bytes, %v, %v", len(last.Frame), ok, err)
	}
	events, _, err := b.Read(t.Context(), "app-1", channel, 0, 10)
	if err != nil || len(events) != 1 {
		t.Errorf("read %d events, %v", len(events), err)
	}
}

// Once an event is handed over, only the store decides. Seen: a caller that
// went away got 503 for an event that was stored.
func TestCallerThatLeavesDoesNotDecide(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{Partitions: 1, PublishWindow: 1, EventsPerChannel: 1 << 20})
	const events = 500
	want := 0
	for i := range events {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Publish(ctx, []broker.Record{record("match.1", fmt.Sprint(i))}) }()
		cancel()
		switch err := <-done; {
		case err == nil:
			want++
		case !errors.Is(err, context.Canceled):
			t.Fatal(err)
		}
	}
	got := 0
	if err := b.Scan(t.Context(), 0, 0, 1<<40, func(broker.Ref, broker.Event) bool { got++; return true }); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("%d publishes were answered as stored, %d events are", want, got)
	}
}
