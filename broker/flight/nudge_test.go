package flight

import (
	"context"
	"testing"
	"testing/synctest"
)

// What is given before the goroutine wakes is done once, what comes meanwhile after it.
func TestNudge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		n, times, gate := NewNudge(), 0, make(chan struct{})
		n.Give()
		n.Give()
		go n.Run(ctx, func() {
			<-gate
			times++
		})
		synctest.Wait()
		n.Give()
		n.Give()
		close(gate)
		synctest.Wait()
		if times != 2 {
			t.Errorf("done %d times, want once for those before and once for those meanwhile", times)
		}
		cancel()
	})
}
