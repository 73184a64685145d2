package broker_test

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/natsd"
)

// countedChecks counts the looks at the data folder that calls of Ready cause;
// those of the broker itself write nothing or come every few seconds.
type countedChecks struct {
	*natsd.Server
	writes atomic.Int64
}

func (c *countedChecks) Check(ctx context.Context, size int, flush bool) error {
	if size > 0 {
		c.writes.Add(1)
	}
	return c.Server.Check(ctx, size, flush)
}

// Anybody may ask whether the log works, so an answer is kept for half a
// second, and those who ask at once share one look.
func TestReadyIsKept(t *testing.T) {
	t.Parallel()
	server, err := natsd.Start(t.Context(), natsd.Config{Dir: t.TempDir()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close(context.Background()) }()
	counted := &countedChecks{Server: server}
	b, err := broker.New(t.Context(), broker.Config{}, counted, false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close(context.Background()) }()
	start := time.Now()
	var calls sync.WaitGroup
	for range 50 {
		calls.Go(func() {
			for range 1000 {
				if err := b.Ready(t.Context()); err != nil {
					t.Errorf("not ready: %v", err)
					return
				}
			}
		})
	}
	calls.Wait()
	// One for each half second, however slow the machine, and the broker's own.
	if n, most := counted.writes.Load(), 2+int64(time.Since(start)/(400*time.Millisecond)); n > most {
		t.Errorf("%d looks for 50,000 calls, want at most %d", n, most)
	}
}
