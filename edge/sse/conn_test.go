package sse

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"reecho/edge/limit"
	"reecho/edge/socket"
)

// newTestConn is a connection of a client that reads when its test says so;
// interrupted counts the writes that were ended.
func newTestConn(t *testing.T, cfg Config) (c *conn, interrupted *int) {
	t.Helper()
	cfg = cfg.withDefaults()
	interrupted = new(int)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	return newConn(&cfg, r, func() { *interrupted++ }), interrupted
}

func closeCode(err error) int {
	var e *socket.CloseError
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// What waits comes out in order, in batches, and a close behind it.
func TestConnQueues(t *testing.T) {
	t.Parallel()
	c, _ := newTestConn(t, Config{})
	for _, text := range []string{"a", "b"} {
		if err := c.Send([][]byte{socket.Frame([]byte(text))}); err != nil {
			t.Fatal(err)
		}
	}
	if c.Queued() == 0 || c.Remote().String() != "192.0.2.1:1234" {
		t.Errorf("%d bytes wait for %s", c.Queued(), c.Remote())
	}
	c.Close(4200, "reconnect")
	if err := c.Send([][]byte{socket.Frame([]byte("c"))}); !errors.Is(err, socket.ErrClosed) {
		t.Errorf("sending behind the close: got %v", err)
	}
	frames, err := c.take()
	if err != nil || len(frames) != 2 {
		t.Fatalf("took %d frames, %v", len(frames), err)
	}
	c.moved()
	c.done()
	if frames, err = c.take(); len(frames) != 0 || closeCode(err) != 4200 {
		t.Errorf("took %d frames, %v", len(frames), err)
	}
	if err := c.end(errPolled); closeCode(err) != 4200 || c.Queued() != 0 {
		t.Errorf("it ended with %v, %d bytes wait", err, c.Queued())
	}
}

// Too much that waits for this client alone closes it, unless it asked for it;
// nothing of it is written any more.
func TestConnIsBounded(t *testing.T) {
	t.Parallel()
	ledger := limit.NewLedger(slog.New(slog.DiscardHandler))
	c, _ := newTestConn(t, Config{MaxQueuedBytes: 10_000, Ledger: ledger})
	large := func() [][]byte { return [][]byte{socket.Frame(make([]byte, 20_000))} }
	if err := errors.Join(c.Answer(large()), c.Answer(large())); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(large()); !errors.Is(err, socket.ErrSlow) {
		t.Errorf("got %v, want %v", err, socket.ErrSlow)
	}
	if frames, err := c.take(); len(frames) != 0 || !errors.Is(err, socket.ErrSlow) {
		t.Errorf("took %d frames, %v", len(frames), err)
	}
	if n := ledger.Total(limit.QueuedBytes); n != 1 {
		t.Errorf("%d are counted, want 1", n)
	}
	if c.Shed() {
		t.Error("shed though it is closed")
	}
}

// The budget may close it as too slow.
func TestConnIsShed(t *testing.T) {
	t.Parallel()
	c, _ := newTestConn(t, Config{})
	if err := c.Send([][]byte{socket.Frame([]byte("a"))}); err != nil {
		t.Fatal(err)
	}
	if !c.Shed() || c.Shed() {
		t.Error("want to be shed once")
	}
	if err := c.end(nil); !errors.Is(err, socket.ErrSlow) {
		t.Errorf("it ended with %v", err)
	}
}

// A client that takes nothing for the timeout is given up, and the write to it
// is ended when it had as long again; one that takes something is not.
func TestConnTimesOut(t *testing.T) {
	t.Parallel()
	for _, reads := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ledger := limit.NewLedger(slog.New(slog.DiscardHandler))
			c, interrupted := newTestConn(t, Config{WriteTimeout: 10 * time.Second, Ledger: ledger})
			for range 10 {
				if err := c.Send([][]byte{socket.Frame(make([]byte, batchBytes))}); err != nil {
					t.Fatal(err)
				}
			}
			if frames, err := c.take(); len(frames) != 1 || err != nil {
				t.Fatalf("took %d frames, %v", len(frames), err)
			}
			timer := time.NewTicker(time.Second)
			defer timer.Stop()
			for range 30 {
				<-timer.C
				if reads {
					c.moved()
				}
				c.Tick(time.Now())
			}
			late := !reads
			if err := c.Send(nil); errors.Is(err, socket.ErrClosed) != late || (*interrupted > 0) != late || (ledger.Total(limit.WriteTimeout) == 1) != late {
				t.Errorf("reads %v: %v, %d writes ended, %d counted", reads, err, *interrupted, ledger.Total(limit.WriteTimeout))
			}
		})
	}
}
