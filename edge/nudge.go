package edge

import "context"

// nudge wakes the goroutine of run; several before it wakes are one.
type nudge chan struct{}

func newNudge() nudge { return make(nudge, 1) }

func (n nudge) give() {
	select {
	case n <- struct{}{}:
	default: // it is about to
	}
}

// run calls do after each nudge, until ctx ends.
func (n nudge) run(ctx context.Context, do func()) {
	for {
		select {
		case <-n:
			do()
		case <-ctx.Done():
			return
		}
	}
}
