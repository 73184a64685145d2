package webhook

import "sync/atomic"

// Reason is why events were dropped: the value of a metric's label.
type Reason string

// The reasons.
const (
	DroppedLate    Reason = "retry_time"  // the endpoint did not take them for webhook_retry_time
	DroppedFull    Reason = "queue_bytes" // too many waited for the endpoint: the oldest go
	DroppedMemory  Reason = "memory"      // too many waited to be stored (webhook_memory)
	DroppedInvalid Reason = "invalid"     // [unexpected] what was stored cannot be read
)

// stats counts events of one endpoint on this node.
type stats struct {
	delivered, retried, pending        atomic.Int64
	late, full, memory, invalid, posts atomic.Int64
	failing                            atomic.Bool
}

func (s *stats) dropped(r Reason) *atomic.Int64 {
	switch r {
	case DroppedLate:
		return &s.late
	case DroppedFull:
		return &s.full
	case DroppedMemory:
		return &s.memory
	}
	return &s.invalid
}

// Stats is what one endpoint got from this node, since that was started. The endpoint is
// delivered to by one node at a time: the sum over all nodes is what it got.
type Stats struct {
	App string // its id
	// Endpoint names it without what may be secret in its URL.
	Endpoint string
	// Delivered are events that the endpoint took, Posts the requests that it took.
	Delivered, Posts int64
	// Retried are requests that it did not take and that were, or will be, made again.
	Retried int64
	// Dropped are events that it never gets, by reason.
	Dropped map[Reason]int64
	// Pending are events that wait to be delivered by this node.
	Pending int64
	// Failing: it has not taken the newest request.
	Failing bool
}

// Stats returns that of every endpoint of every app, in the order of the configuration.
func (s *Service) Stats() []Stats {
	if s == nil {
		return nil
	}
	var all []Stats
	for _, e := range s.endpoints {
		c := &e.stats
		all = append(all, Stats{
			App: e.app.ID, Endpoint: e.label, Delivered: c.delivered.Load(), Posts: c.posts.Load(), Retried: c.retried.Load(),
			Dropped: map[Reason]int64{
				DroppedLate: c.late.Load(), DroppedFull: c.full.Load(), DroppedMemory: c.memory.Load(), DroppedInvalid: c.invalid.Load(),
			},
			Pending: c.pending.Load(), Failing: c.failing.Load(),
		})
	}
	return all
}
