package broker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// proof is a look at the log that calls of Ready wait for, one for all of them:
// checks of a node come often, and from many places.
type proof struct {
	done chan struct{} // closed when err is final
	err  error
}

// Ready returns nil if publishes can be stored, else why not and since when. It
// asks for nothing that is known since half a second, so anybody may call it at
// any rate; else it writes to the data folder and asks every stream. In a cluster it
// returns why this node does not fit in, too.
func (b *Broker) Ready(ctx context.Context) error {
	if err := b.accord.ready(); err != nil {
		return err
	}
	p, err := b.health.know() //nolint:contextcheck // a proof is shared by callers, so it has none of theirs
	if p == nil {
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("ask the event log: %w", ctx.Err())
	}
}

// know returns what is known, or a proof to wait for, which it begins if none is
// under way.
func (h *health) know() (*proof, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch err := h.failureLocked(); {
	case h.broker.run.Err() != nil:
		return nil, ErrClosed
	case err != nil:
		return nil, err
	case h.proof != nil:
		return h.proof, nil
	case time.Since(h.proven) < readyAge:
		return nil, h.answer
	}
	p := &proof{done: make(chan struct{})}
	h.proof = p
	h.broker.tasks.Go(func() { h.prove(p) })
	return p, nil
}

// prove finds out whether the log works, for Ready. A folder that takes nothing
// is a failure at once, and says more than streams that do not answer.
func (h *health) prove(p *proof) {
	ctx, cancel := context.WithTimeout(h.broker.run, checkTimeout)
	defer cancel()
	if h.broker.keeper != nil {
		if err := h.broker.keeper.Check(ctx, checkBytes, false); err != nil && h.broker.run.Err() == nil {
			h.fail(ctx, err)
			p.err = h.failure()
		}
	}
	if p.err == nil {
		p.err = errors.Join(h.refusals(time.Now()), h.broker.pulse.failure(time.Now()), h.ask(ctx))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer, h.proven, h.proof = p.err, time.Now(), nil
	close(p.done)
}
