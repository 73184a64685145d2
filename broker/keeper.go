package broker

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
)

// Keeper is a Dialer whose server can be looked after: its data folder is
// tried, and the server restarted when it has failed, because nats-server stops
// a stream for good after one failed write.
type Keeper interface {
	Dialer
	// Failures receives why the server has stopped storing events.
	Failures() <-chan error
	// Check reports whether the data folder is there and, with a size above 0,
	// takes that many bytes; flush: also to the disk. It returns when ctx ends.
	Check(ctx context.Context, size int, flush bool) error
	// Blind is when the server last could not open a file for want of descriptors,
	// long ago if never. What it was asked then it may have answered without what
	// is in the file.
	Blind() time.Time
	// Restart ends the server, lets connections come back to a new one over the
	// same data, and may be tried again after an error.
	Restart(ctx context.Context) error
}

// mend tries to make the log work again.
func (h *health) mend(ctx context.Context) {
	if err := h.tryMend(ctx); err != nil {
		if ctx.Err() == nil {
			h.setCause(err)
		}
		return
	}
	clear(h.refuses)
	since, refused := h.end()
	h.broker.log.Info("the event log works again", slog.Duration("after", time.Since(since)), slog.Int("refused", refused))
	// Live events may have been dropped, and answers to readers.
	h.broker.disturb(AllStreams)
}

// end is the change from failed to working. It returns when the log failed and
// how many publishes were refused since.
func (h *health) end() (since time.Time, refused int) {
	h.change.Lock()
	defer h.change.Unlock()
	h.mu.Lock()
	since = h.since
	h.cause, h.broken, h.answer = nil, false, nil
	h.proven, h.mended = time.Now(), time.Now()
	h.mu.Unlock()
	for _, p := range h.broker.publishers {
		if p != nil {
			refused += p.resume()
		}
	}
	return since, refused
}

// tryMend restarts the server if that is broken, not before the folder takes
// something again: a server that starts over a full disk fails as before. The
// server of others is only asked whether it works again.
func (h *health) tryMend(ctx context.Context) error {
	if h.broker.keeper == nil {
		return h.ask(ctx)
	}
	if err := h.check(ctx, mendBytes, true); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, mendTimeout)
	defer cancel()
	if h.needsRestart() {
		if err := h.broker.keeper.Restart(ctx); err != nil {
			return err
		}
	}
	if err := h.broker.reconnected(ctx); err != nil {
		return err
	}
	if err := h.broker.reopenStreams(ctx); err != nil {
		h.breakDown(ctx, err)
		return err
	}
	return h.ask(ctx)
}

func (h *health) needsRestart() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.broken
}

// reconnected waits until every connection is back.
func (b *Broker) reconnected(ctx context.Context) error {
	ticker := time.NewTicker(reconnectPoll)
	defer ticker.Stop()
	for _, nc := range append([]*nats.Conn{b.publish, b.live.nc}, b.reads...) {
		for !nc.IsConnected() {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return fmt.Errorf("wait for the connections to the NATS server: %w", ctx.Err())
			}
		}
	}
	return nil
}

// reconnectPoll is the pause between two looks at a connection.
const reconnectPoll = 5 * time.Millisecond
