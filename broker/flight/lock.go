package flight

import (
	"context"
	"sync"
)

// Lock is a mutex that one can give up waiting for. Its zero value is unlocked.
// It is safe for concurrent use and must not be copied. Between uses it is three
// words: there may be one for each channel.
//
// It goes from hand to hand, in the order of coming: woken all together, ten
// thousand clients that come back would each wake the others again.
type Lock struct {
	mu   sync.Mutex
	held bool
	// waiting is how many wait that have not been given the lock.
	waiting int32
	// given has capacity 1 and gets the lock for one of those that wait; nil
	// when nobody does.
	given chan struct{}
}

// Lock takes the lock, or waits for it; who has it calls Unlock. The error is
// the context's, as it is: then the caller does not have the lock. A lock that
// is free is taken even if ctx has ended.
func (l *Lock) Lock(ctx context.Context) error {
	given := l.take()
	if given == nil {
		return nil
	}
	select {
	case <-given:
		return nil
	case <-ctx.Done():
	}
	l.giveUp()
	return ctx.Err()
}

// take takes the lock if it is free, else it returns what to wait for.
func (l *Lock) take() chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.held {
		l.held = true
		return nil
	}
	if l.given == nil {
		l.given = make(chan struct{}, 1)
	}
	l.waiting++
	return l.given
}

// giveUp takes the caller out of those that wait. If none is left of them, it is
// the caller that the lock has been given to meanwhile.
func (l *Lock) giveUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting > 0 {
		l.waiting--
		return
	}
	// Under mu, so that nobody who comes now can take it and be waited for.
	<-l.given
	l.passLocked()
}

// Unlock gives the lock to who has waited longest, or makes it free. It need not
// be called by who took the lock. It panics if nobody has it.
func (l *Lock) Unlock() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.held {
		panic("flight: Unlock of a Lock that is not locked")
	}
	l.passLocked()
}

func (l *Lock) passLocked() {
	if l.waiting == 0 {
		l.held, l.given = false, nil
		return
	}
	l.waiting--
	// There is room: who was given the lock before has taken it.
	l.given <- struct{}{}
}
