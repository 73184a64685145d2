package flight

import "context"

// Nudge wakes the goroutine of Run; several before it wakes are one. NewNudge makes one.
type Nudge chan struct{}

// NewNudge returns one that was not given.
func NewNudge() Nudge { return make(Nudge, 1) }

// Give wakes the goroutine of Run. It never blocks.
func (n Nudge) Give() {
	select {
	case n <- struct{}{}:
	default: // it is about to
	}
}

// Run calls do after each Give, until ctx ends.
func (n Nudge) Run(ctx context.Context, do func()) {
	for {
		select {
		case <-n:
			do()
		case <-ctx.Done():
			return
		}
	}
}
