package broker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
)

func of(app, channel, frame string) broker.Record {
	return broker.Record{App: app, Channel: channel, Frame: []byte(frame)}
}

// mustReadAll returns the frames that are stored of a channel.
func mustReadAll(t *testing.T, b *broker.Broker, app, channel string) []string {
	t.Helper()
	var frames []string
	for from, more := uint64(1), true; more; {
		var events []broker.Event
		var err error
		if events, more, err = b.Log(broker.Ref{App: app, Channel: channel}).Read(t.Context(), from, 500); err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			frames = append(frames, string(ev.Frame))
			from = ev.Sequence + 1
		}
	}
	return frames
}

const lane = 1 << 20 // bytes, the smallest there is

// flood publishes a number of times what the lane holds, of the busy app, over
// several channels.
func flood(t *testing.T, b *broker.Broker, times int) {
	t.Helper()
	const size, batch = 4 << 10, 32
	frame := strings.Repeat("x", size)
	for i := 0; i < times*lane/size/batch; i++ {
		records := make([]broker.Record, batch)
		for j := range records {
			records[j] = of("busy", fmt.Sprint("c", (i+j)%7), frame)
		}
		mustPublish(t, b, records...)
	}
}

var twoApps = []broker.AppShare{{App: "busy"}, {App: "quiet"}}

// An app that publishes five times what is kept loses its own oldest events
// and none of another app, which publishes before, during and after. It was
// 0 of 30 that were left.
func TestShare(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{Partitions: 1, MaxBytes: lane, EventsPerChannel: 1 << 20, Apps: twoApps})
	want := 0
	quiet := func() {
		t.Helper()
		for range 10 {
			mustPublish(t, b, of("quiet", "room", fmt.Sprint(want)))
			want++
		}
	}
	quiet()
	flood(t, b, 3)
	quiet()
	flood(t, b, 2)
	quiet()
	got := mustReadAll(t, b, "quiet", "room")
	if len(got) != want || got[0] != "0" || got[want-1] != fmt.Sprint(want-1) {
		t.Errorf("%d of %d events are left: %v", len(got), want, got)
	}
	kept := 0
	for i := range 7 {
		kept += len(mustReadAll(t, b, "busy", fmt.Sprint("c", i)))
	}
	// Half of four fifths are its part; it may have what nobody needs.
	if kept*(4<<10) < lane*3/10 {
		t.Errorf("%d events are left of the busy app", kept)
	}
}

// Who has the stream alone may fill it: nothing is removed before it is full.
func TestShareOfOneAlone(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{Partitions: 1, MaxBytes: lane, EventsPerChannel: 1 << 20, Apps: twoApps})
	flood(t, b, 2)
	state, err := b.Log(broker.Ref{App: "busy", Channel: "c0"}).State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if state.Removed != 0 || state.Bytes < lane*9/10 {
		t.Errorf("got %+v, want a full stream", state)
	}
}

// Both publish at once, each as fast as it can, the quiet one within its part.
func TestShareUnderLoad(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{
		Partitions: 2, MaxBytes: 2 * lane, EventsPerChannel: 1 << 20, Apps: []broker.AppShare{{App: "busy"}, {App: "quiet", Percent: 30}, {App: "idle", Percent: 10}},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 4)
	for i := range cap(done) {
		go func() {
			frame := []byte(strings.Repeat("x", 3<<10))
			for n := 0; ; n++ {
				if err := b.Publish(ctx, []broker.Record{{App: "busy", Channel: fmt.Sprint("c", (n+i)%20), Frame: frame}}); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	const events = 200
	for i := range events {
		mustPublish(t, b, of("quiet", fmt.Sprint("room", i%4), fmt.Sprint(i)))
	}
	deadline := time.Now().Add(patience)
	for poll := time.NewTicker(5 * time.Millisecond); ; <-poll.C {
		state, err := b.Log(broker.Ref{App: "busy", Channel: "c0"}).State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if state.Last > 1000 && state.Removed > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing is removed: %+v", state)
		}
	}
	cancel()
	for range cap(done) {
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("publish: %v", err)
		}
	}
	left := 0
	for i := range 4 {
		left += len(mustReadAll(t, b, "quiet", fmt.Sprint("room", i)))
	}
	if left != events {
		t.Errorf("%d of %d events are left", left, events)
	}
}

// What was removed is known after a restart, too, also where the apps are not
// bounded any more.
func TestRemovedIsRemembered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := broker.Config{Partitions: 1, MaxBytes: lane, EventsPerChannel: 1 << 20, Apps: twoApps}
	b, stop := brokertest.Open(t, dir, cfg)
	mustPublish(t, b, of("quiet", "room", "one"), of("busy", "c0", "first"))
	flood(t, b, 2)
	before, err := b.Log(broker.Ref{App: "busy", Channel: "c0"}).State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if before.First != 1 || before.Removed < 2 || before.RemovedTime.IsZero() || before.Shrunk.IsZero() {
		t.Errorf("got %+v", before)
	}
	other, err := b.Log(broker.Ref{App: "quiet", Channel: "room"}).State(t.Context())
	if err != nil || other.Removed != 0 || other.Shrunk.IsZero() {
		t.Errorf("of the quiet app: %+v, error %v", other, err)
	}
	stop()
	cfg.Apps = nil
	b = brokertest.StartIn(t, dir, cfg)
	after, err := b.Log(broker.Ref{App: "busy", Channel: "c0"}).State(t.Context())
	if err != nil || after.Removed < before.Removed || after.RemovedTime.Before(before.RemovedTime) || after.Shrunk.IsZero() {
		t.Errorf("after a restart: %+v, error %v, want %+v", after, err, before)
	}
}

// What a call brings at once is more than the room that removing makes, from one
// caller and from several, to all streams. Seen: it waited for its own end, and
// callers that had a part of what they wanted for each other's, for ever.
func TestShareOfLargeCalls(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ callers, records, size int }{
		{1, 100, 10_000}, {1, 3, 300_000}, {16, 20, 10_000}, {16, 100, 1000},
	} {
		t.Run(fmt.Sprintf("%d callers, %d events of %d", tt.callers, tt.records, tt.size), func(t *testing.T) {
			t.Parallel()
			b := brokertest.Start(t, broker.Config{Partitions: 4, MaxBytes: 4 * lane, EventsPerChannel: 1 << 20, Apps: twoApps, PublishTimeout: time.Hour})
			for i := range 8 {
				mustPublish(t, b, of("quiet", fmt.Sprint("room", i), "0"))
			}
			frame := strings.Repeat("x", tt.size)
			var wait sync.WaitGroup
			for i := range tt.callers {
				wait.Go(func() {
					// More than all streams hold.
					for n := 0; n < 8*lane/tt.callers; n += tt.records * tt.size {
						records := make([]broker.Record, tt.records)
						for j := range records {
							records[j] = of("busy", fmt.Sprint("c", i, "-", j), frame)
						}
						if err := b.Publish(t.Context(), records); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wait.Wait()
			for i := range 8 {
				// More than a stream holds at once: nothing is left of anybody.
				if tt.records*tt.size < lane/2 && len(mustReadAll(t, b, "quiet", fmt.Sprint("room", i))) != 1 {
					t.Errorf("the event of room%d was pushed out", i)
				}
			}
		})
	}
}

// Who waits for room does not wait any longer when the log fails.
func TestShareWhenTheLogFails(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	b := brokertest.StartIn(t, dir, broker.Config{Partitions: 1, MaxBytes: lane, EventsPerChannel: 1 << 20, Apps: twoApps, PublishTimeout: time.Hour})
	mustPublish(t, b, of("quiet", "room", "0"))
	frame := strings.Repeat("x", 30_000)
	failed := make(chan error, 8)
	for i := range cap(failed) {
		go func() {
			for {
				if err := b.Publish(t.Context(), []broker.Record{of("busy", fmt.Sprint("c", i), frame)}); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	poll(t, "something is removed", func() bool {
		state, err := b.Log(broker.Ref{App: "busy", Channel: "c0"}).State(t.Context())
		return err == nil && state.Removed > 0
	})
	away := dir + ".away"
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	for range cap(failed) {
		if err := <-failed; !errors.Is(err, broker.ErrUnavailable) {
			t.Errorf("publish: %v", err)
		}
	}
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	poll(t, "the log works again", func() bool { return b.Ready(t.Context()) == nil })
}
