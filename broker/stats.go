package broker

import (
	"time"

	"reecho/broker/histogram"
)

// Stats is what a Broker has counted, and what waits in it now.
type Stats struct {
	// Published is how long calls of Publish took until all was stored.
	Published histogram.Snapshot
	// InFlight are events sent to their stream and not acknowledged, Window how many may
	// be of each stream. Queued are bytes that wait behind them, QueueLimit how many may
	// for each stream, and FullestQueue how many do for that with the most.
	InFlight, Window                 int
	Queued, QueueLimit, FullestQueue int
	// Waited is how many events found the window of their stream full.
	Waited uint64
	// Removed is how often the oldest events of an app were removed because it had more
	// than its share.
	Removed uint64
	// Shared: there is a cluster. Peers are the other nodes that are alive, Skew how far
	// the clock of one of them is from this node's at most.
	Shared bool
	Peers  int
	Skew   time.Duration
	// CutOff is Broker.CutOff.
	CutOff time.Duration
}

// Stats returns it. It asks no server.
func (b *Broker) Stats() Stats {
	s := Stats{
		Published: b.published.Snapshot(), Window: b.cfg.PublishWindow, QueueLimit: b.cfg.PublishQueueBytes,
		Shared: b.cfg.Shared, CutOff: b.CutOff(), Removed: b.removals.Load(),
	}
	for _, p := range b.publishers {
		if p == nil {
			continue
		}
		p.mu.Lock()
		s.InFlight += len(p.inFlight)
		s.Queued += p.queued
		s.Waited += p.waited
		s.FullestQueue = max(s.FullestQueue, p.queued)
		p.mu.Unlock()
	}
	for _, peer := range b.nodes.Peers() {
		s.Peers++
		s.Skew = max(s.Skew, peer.Ahead.Abs())
	}
	return s
}
