package broker

import (
	"context"
	"log/slog"
	"maps"
	"time"
)

// Witness is a Dialer whose server remembers of its streams what they could not
// tell if they had lost something while it did not run.
type Witness interface {
	Dialer
	// Acknowledged are the sequences that Acknowledge was last told, by stream,
	// when the server started.
	Acknowledged() map[string]uint64
	// Damaged says of each stream whose files are not as the server left them
	// what is wrong.
	Damaged() map[string]string
	// Acknowledge keeps the newest sequence that each stream has promised, beside
	// the streams. The streams have been compared with what was kept before.
	Acknowledge(newest map[string]uint64) error
}

// witnessPeriod is how often what was promised is kept. A server that is killed
// may forget the promises of the last period, not the events.
const witnessPeriod = time.Second

// openWitness keeps what the streams promise, from now on.
func (b *Broker) openWitness(d Dialer) {
	w, is := d.(Witness)
	if !is {
		return
	}
	b.witness = w
	b.witnessed = b.acknowledge(nil)
	b.tasks.Go(func() { b.watchPromises(b.run) })
}

func (b *Broker) watchPromises(ctx context.Context) {
	ticker := time.NewTicker(witnessPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			// The folder of a log that has failed may be another's.
			if b.Failure() == nil {
				b.witnessed = b.acknowledge(b.witnessed)
			}
		case <-ctx.Done():
			return
		}
	}
}

// acknowledge keeps what was promised, if that is not what was kept before, and
// returns what is kept.
func (b *Broker) acknowledge(before map[string]uint64) map[string]uint64 {
	newest := make(map[string]uint64, len(b.lanes))
	for _, l := range b.lanes {
		if l.onDisk() {
			newest[l.stream] = max(l.found, b.publishers[l.index].newestAcknowledged(), l.seen.Load())
		}
	}
	if maps.Equal(newest, before) {
		return before
	}
	if err := b.witness.Acknowledge(newest); err != nil {
		// What stands there is older, and still true.
		b.log.Debug("cannot keep what was acknowledged", slog.Any("error", err))
		return before
	}
	return newest
}
