package acme

import (
	"context"
	"errors"
	"fmt"
	"time"

	"reecho/broker"
)

// leaseTime is how long a lease is good after it was renewed last: that long others wait
// for a node that died while it ordered.
const leaseTime = 30 * time.Second

var (
	// errHeld means that another node orders.
	errHeld = errors.New("another node orders the certificate")
	// errLeaseLost ends an order that another node may have begun, too.
	errLeaseLost = errors.New("the right to order was lost: the store did not answer for too long")
)

// holder is the value of a lease; without a Node it is free.
type holder struct {
	Node string `json:"node,omitempty"`
}

// lease is the right to order, which one node has at a time. It is a value that the store
// forgets by itself, and that is only replaced by who knows its revision.
type lease struct {
	vault    *vault
	self     holder
	revision uint64
	renewed  time.Time // not later than when the store had it
	every    time.Duration
}

// take takes the lease for a node, or returns errHeld.
func (v *vault) take(ctx context.Context, node string) (*lease, error) {
	var have holder
	revision, err := v.read(ctx, leaseKeys+v.order, &have)
	if err != nil {
		return nil, fmt.Errorf("ask who orders: %w", err)
	}
	if have.Node != "" {
		return nil, errHeld
	}
	l := &lease{vault: v, self: holder{node}, revision: revision, every: leaseTime / 3}
	if err := l.renew(ctx); errors.Is(err, broker.ErrConflict) {
		return nil, errHeld
	} else if err != nil {
		return nil, fmt.Errorf("take the right to order: %w", err)
	}
	return l, nil
}

func (l *lease) renew(ctx context.Context) (err error) {
	began := time.Now()
	revision, err := l.vault.write(ctx, leaseKeys+l.vault.order, l.self, l.revision, leaseTime)
	if err == nil {
		l.revision, l.renewed = revision, began
	}
	return err
}

// hold renews the lease, in a goroutine that ends with stop, and returns a context that
// ends with errLeaseLost when others may have the lease.
func (l *lease) hold(ctx context.Context) (held context.Context, stop func()) {
	held, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for broker.Pause(held, l.every) == nil {
			// It has to be over before the store forgets it.
			renewing, end := context.WithDeadline(held, l.renewed.Add(leaseTime*5/6))
			err := l.renew(renewing)
			end()
			if err != nil {
				cancel(errLeaseLost)
				return
			}
		}
	}()
	return held, func() {
		cancel(nil)
		<-done
	}
}

// release gives the lease back; if that fails it ends by itself. hold has been stopped.
func (l *lease) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = l.vault.write(ctx, leaseKeys+l.vault.order, holder{}, l.revision, time.Second)
}
