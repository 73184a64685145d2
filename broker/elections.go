package broker

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
)

// electedSubject is where the leader of a stream says that it is that, to the account
// that has the stream.
const electedSubject = "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED."

// watchElections listens to which streams have got another leader. It sends nothing
// to subscribers of what the one before has stored at the end, and knows nothing of
// what was on its way to that.
func (b *Broker) watchElections() error {
	if !b.cfg.Shared {
		return nil
	}
	if _, err := b.publish.Subscribe(electedSubject+"*", b.elected); err != nil {
		return fmt.Errorf("subscribe to elections: %w", err)
	}
	b.tasks.Go(func() { b.watchLives(b.run) })
	return nil
}

func (b *Broker) elected(m *nats.Msg) {
	stream := strings.TrimPrefix(m.Subject, electedSubject)
	b.doubtLives() // a stream that is made anew gets a leader too
	for i, l := range b.lanes {
		if l.stream == stream && b.publishers[i] != nil {
			b.publishers[i].elected()
			b.disturb(i)
		}
	}
}
