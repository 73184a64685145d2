package broker

import (
	"context"

	"github.com/nats-io/nats.go"
)

// Subscription is a node's interest in one channel, from Log.Subscribe to Close.
type Subscription struct {
	live     *live
	lane     *lane
	subject  string
	ref      Ref
	receiver Receiver
	sub      *nats.Subscription
}

// Receiver takes the events of one channel from the live path, which may drop,
// double and delay them: whoever needs every event compares Previous.
type Receiver interface {
	// Live gets events in the order they arrived, from one goroutine at a
	// time. It may keep the frame. It may block; what is dropped meanwhile
	// shows in Disturbed.
	Live(ev Event)
	// Nudge says that an event of this sequence is stored and may not have
	// come by the live path.
	Nudge(sequence uint64)
}

// Hearer is a Receiver that takes what other nodes tell of the channel beside its
// events.
type Hearer interface {
	// Told gets what the node of a life told with Tell, from the same goroutine as
	// Live, and in the order in which one node sent both. It must not keep text.
	Told(life string, text []byte)
}

// open asks the server for the channel's events, and waits until it sends them.
func (s *Subscription) open(ctx context.Context) error {
	sub, err := s.live.nc.ChanSubscribe(s.subject, s.live.queue)
	if err != nil {
		return err
	}
	s.sub = sub
	return s.live.fence(ctx)
}

// Close ends the delivery. A call of the receiver may still be under way. It is
// called once, by who subscribed.
func (s *Subscription) Close() {
	s.live.remove(s)
	if s.sub != nil {
		// The only error is a connection that is closed already.
		_ = s.sub.Unsubscribe()
	}
}
