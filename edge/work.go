package edge

import (
	"context"
	"sync"

	"reecho/edge/socket"
)

// work is what the server does for a connection while its messages wait. It ends with the connection, so that nothing is done
// for clients that left. The zero value is ready.
type work struct {
	mu     sync.Mutex
	over   bool // the connection is gone, or told to close
	doing  int
	cancel map[int]context.CancelFunc
}

var _ socket.HangupReceiver = (*client)(nil)

// begin returns the context of the next thing. The caller calls end when it is
// done.
func (w *work) begin(ctx context.Context) (doing context.Context, end func()) {
	doing, cancel := context.WithCancel(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancel == nil {
		w.cancel = make(map[int]context.CancelFunc, 1)
	}
	w.doing++
	number := w.doing
	w.cancel[number] = cancel
	if w.over {
		cancel()
	}
	return doing, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		cancel()
		delete(w.cancel, number)
	}
}

// stop ends what is being done, and what would be begun.
func (w *work) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	for _, cancel := range w.cancel {
		cancel()
	}
}

func (w *work) stopped() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.over
}

// HungUp implements socket.HangupReceiver.
func (c *client) HungUp() { c.work.stop() }
