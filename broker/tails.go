package broker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
)

// maxTails is how many subjects one request for last sequences may name;
// nats-server answers at most 1,024.
const maxTails = 1000

// Tail is where a channel ends.
type Tail struct {
	// Sequence is that of the newest stored event, 0 for none.
	Sequence uint64
	// Known: all that was stored until then is in the answer. The zero Time: that is
	// not known.
	Known time.Time
}

// Tails returns where each channel ends, in the order of refs. It costs a request
// for each stream and each thousand channels in it. With several replicas the answer
// may be behind, and says so. The errors are those of Log.Read.
func (b *Broker) Tails(ctx context.Context, refs []Ref) ([]Tail, error) {
	tails := make([]Tail, len(refs))
	now := time.Now()
	// One for each lane: a request goes to one stream.
	type part struct {
		subjects []string
		at       map[string]int // subject → index in tails
	}
	parts := make([]part, len(b.lanes))
	for i, ref := range refs {
		l := b.laneOf(ref)
		if !l.retained() {
			tails[i].Known = now
			continue
		}
		s := l.subject(storedRoot, ref)
		p := &parts[l.index]
		if p.at == nil {
			p.at = make(map[string]int)
		}
		p.subjects = append(p.subjects, s)
		p.at[s] = i
	}
	for p := range parts {
		for rest := parts[p].subjects; len(rest) > 0; {
			batch := rest[:min(len(rest), maxTails)]
			rest = rest[len(batch):]
			found, known, err := b.lastSequences(ctx, b.lanes[p], batch)
			if err != nil {
				return nil, fmt.Errorf("read the ends of %d channels: %w", len(batch), err)
			}
			for _, s := range batch {
				tails[parts[p].at[s]] = Tail{Sequence: found[s], Known: known}
			}
		}
	}
	return tails, nil
}

// lastSequences returns the newest sequence by subject, of those that have one, and
// until when all that was stored is in the answer.
func (b *Broker) lastSequences(ctx context.Context, l *lane, subjects []string) (found map[string]uint64, known time.Time, err error) {
	found, known = make(map[string]uint64, len(subjects)), time.Now()
	for rest := subjects; ; {
		more, upTo, asked := false, uint64(0), time.Now()
		err := b.get(ctx, l, get{MultiLast: b.pulse.with(l, rest), MaxBytes: readBytes}, func(m *nats.Msg) {
			found[value(m.Header, "Nats-Subject")] = number(m.Header, headerSequence)
		}, func(end *nats.Msg) {
			more, upTo = number(end.Header, headerPending) > 0, number(end.Header, headerUpTo)
		})
		if of := b.pulse.known(l, upTo, asked); of.Before(known) {
			known = of
		}
		if err != nil || !more {
			return found, known, err
		}
		// The events together were too large for one answer.
		rest = slices.DeleteFunc(slices.Clone(rest), func(s string) bool { _, known := found[s]; return known })
	}
}
