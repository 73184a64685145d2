package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"reecho/edge/node"
)

// reloadPause is how long hang-ups are gathered after one was served.
const reloadPause = time.Second

// signals is what the process is told from outside, from its first moment to its
// last.
type signals struct {
	// stop ends with the first signal that asks for a stop. The second one ends
	// the process at once.
	stop context.Context //nolint:containedctx // it is the life of the process
	// hangups has a signal when something may be to be reloaded. They never end
	// the process, also while it starts or stops.
	hangups chan os.Signal
}

func catchSignals() *signals {
	s := &signals{hangups: make(chan os.Signal, 1)}
	signal.Notify(s.hangups, syscall.SIGHUP)
	stops := make(chan os.Signal, 1)
	signal.Notify(stops, syscall.SIGTERM, syscall.SIGQUIT, os.Interrupt)
	ctx, stop := context.WithCancel(context.Background())
	s.stop = ctx
	go func() {
		<-stops
		stop()
		<-stops
		// Not left to the runtime, which would write the stacks of all
		// goroutines for a SIGQUIT.
		fmt.Fprintln(os.Stderr, "reecho: a second signal ends it at once")
		os.Exit(exitFailure)
	}()
	return s
}

// serve reloads what a node can at hang-ups, until it is to stop.
func (s *signals) serve(n *node.Node) {
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
