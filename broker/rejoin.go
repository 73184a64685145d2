package broker

import "context"

// Rejoiner is a Dialer whose server keeps nothing, and is connected to one of several
// that do. Its connections do not notice when that becomes another one.
type Rejoiner interface {
	// Rejoined receives when it has, and everything that is listened to here is known
	// there. What was sent meanwhile has not come here, nor what was sent from here.
	Rejoined() <-chan struct{}
}

// watchRejoins does what each part does after a disturbance, until ctx ends.
func (b *Broker) watchRejoins(ctx context.Context, r Rejoiner) {
	for {
		select {
		case <-r.Rejoined():
		case <-ctx.Done():
			return
		}
		for l := range b.retainedLanes() {
			b.publishers[l.index].elected()
		}
		b.doubtLives()
		b.disturb(AllStreams)
		b.nodes.Again()
	}
}
