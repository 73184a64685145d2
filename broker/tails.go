package broker

import (
	"context"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go"
)

// maxTails is how many subjects one request for last sequences may name;
// nats-server answers at most 1,024.
const maxTails = 1000

// Tails returns the sequence of the newest stored event of each channel, 0 for
// none, in the order of refs. It costs a request for each stream and each thousand
// channels in it. With several replicas the answer may be a little behind. The
// errors are those of Log.Read.
func (b *Broker) Tails(ctx context.Context, refs []Ref) ([]uint64, error) {
	tails := make([]uint64, len(refs))
	// One for each lane: a request goes to one stream.
	type part struct {
		subjects []string
		at       map[string]int // subject → index in tails
	}
	parts := make([]part, len(b.lanes))
	for i, ref := range refs {
		l := b.laneOf(ref)
		if !l.retained() {
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
			found, err := b.lastSequences(ctx, b.lanes[p], batch)
			if err != nil {
				return nil, fmt.Errorf("read the ends of %d channels: %w", len(batch), err)
			}
			for s, sequence := range found {
				if i, asked := parts[p].at[s]; asked {
					tails[i] = sequence
				}
			}
		}
	}
	return tails, nil
}

// lastSequences returns the newest sequence by subject, of those that have one.
func (b *Broker) lastSequences(ctx context.Context, l *lane, subjects []string) (map[string]uint64, error) {
	found := make(map[string]uint64, len(subjects))
	for rest := subjects; ; {
		more := false
		err := b.get(ctx, l, get{MultiLast: rest, MaxBytes: readBytes}, func(m *nats.Msg) {
			found[value(m.Header, "Nats-Subject")] = number(m.Header, headerSequence)
		}, func(end *nats.Msg) {
			more = number(end.Header, headerPending) > 0
		})
		if err != nil || !more {
			return found, err
		}
		// The events together were too large for one answer.
		rest = slices.DeleteFunc(slices.Clone(rest), func(s string) bool { _, known := found[s]; return known })
	}
}
