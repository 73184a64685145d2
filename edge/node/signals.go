package node

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// reloadPause is how long hang-ups are gathered after one was served: each reload
// reads files and logs, and they may come in a loop.
const reloadPause = time.Second

// Signals is what the process is told from outside, from its first moment to its
// last.
type Signals struct {
	// stop ends with the first signal that asks for a stop.
	stop context.Context //nolint:containedctx // it is the life of the process
	// hangups has a signal when something may be to be reloaded. They never end
	// the process, also while it starts or stops.
	hangups chan os.Signal
}

// CatchSignals begins to listen, for the life of the process. SIGTERM, SIGQUIT
// and an interrupt ask for a stop, SIGHUP for a reload. second is called when a
// stop is asked for again; it should end the process at once. Left to the
// runtime, a SIGQUIT would write the stacks of all goroutines.
func CatchSignals(second func()) *Signals {
	s := &Signals{hangups: make(chan os.Signal, 1)}
	signal.Notify(s.hangups, syscall.SIGHUP)
	stops := make(chan os.Signal, 1)
	signal.Notify(stops, syscall.SIGTERM, syscall.SIGQUIT, os.Interrupt)
	ctx, stop := context.WithCancel(context.Background())
	s.stop = ctx
	go func() {
		<-stops
		stop()
		<-stops
		second()
	}()
	return s
}

// Context ends when a stop is asked for.
func (s *Signals) Context() context.Context { return s.stop }

// Serve reloads what a node can at hang-ups, until it is to stop or stopped
// serving by itself.
func (s *Signals) Serve(n *Node) {
	hangups := s.hangups
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-hangups:
			n.Reload()
			hangups = nil
			pause.Reset(reloadPause)
		case <-pause.C:
			hangups = s.hangups
		case <-s.stop.Done():
			return
		case <-n.Failed():
			return
		}
	}
}
