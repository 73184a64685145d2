package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// scanner is one pass over a stream.
type scanner struct {
	// refs are the channels of the subjects met so far: most come again.
	refs  map[string]Ref
	to    uint64
	visit func(ref Ref, ev Event) bool
	// delivered is how many events the consumer has delivered.
	delivered uint64
	// events and bytes are of the newest batch.
	events, bytes int
}

const (
	// A batch of a scan is of scanBatchBytes, about, judged by the one before,
	// and of scanBatchMax events at most: a server closes a connection for
	// which too much waits.
	scanBatchFirst = 256
	scanBatchMax   = 2048
	scanBatchBytes = 8 << 20
	// scanInactive is when a consumer goes whose owner died.
	scanInactive = 30 * time.Second
)

// Scan reads all events of a stream from one sequence to another, both
// included, in order, and calls visit with the channel each is of, until it
// returns false. Visit may keep the event. With an error, which is
// ErrUnavailable if the server does not answer, a part of the events has been
// visited. It is made for reading many channels in one pass: a consumer
// costs a quarter of direct gets per event, and a millisecond to make.
func (b *Broker) Scan(ctx context.Context, stream int, from, to uint64, visit func(ref Ref, ev Event) bool) error {
	l := b.lanes[stream]
	if err := b.scan(ctx, l, max(from, 1), to, visit); err != nil {
		return fmt.Errorf("scan stream %s from %d: %w", l.stream, from, err)
	}
	return nil
}

// scan makes a consumer for one pass. It is in memory and on one replica, because
// it is of no use to anybody afterwards, and acknowledges nothing.
func (b *Broker) scan(ctx context.Context, l *lane, from, to uint64, visit func(ref Ref, ev Event) bool) error {
	js, err := jetstream.New(b.reader())
	if err != nil {
		return err
	}
	consumer, err := js.CreateConsumer(ctx, l.stream, jetstream.ConsumerConfig{
		Description: "reecho: one pass over the stream", AckPolicy: jetstream.AckNonePolicy,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: scanInactive,
	})
	if err != nil {
		return unanswered(err)
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		// Else it ends by itself.
		_ = js.DeleteConsumer(ending, l.stream, consumer.CachedInfo().Name)
	}()
	if consumer.CachedInfo().NumPending == 0 {
		return nil
	}
	s := scanner{refs: make(map[string]Ref), to: to, visit: visit}
	for size := scanBatchFirst; ; size = s.nextBatch() {
		batch, err := consumer.FetchNoWait(size)
		if err != nil {
			return unanswered(err)
		}
		more, err := s.take(batch)
		if err != nil || !more {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// nextBatch is how many events to fetch next.
func (s *scanner) nextBatch() int {
	return min(max(scanBatchBytes*s.events/max(s.bytes, 1), 1), scanBatchMax)
}

// take takes all of a batch, also what nobody wants any more, and reports
// whether there is something to be fetched.
func (s *scanner) take(batch jetstream.MessageBatch) (more bool, err error) {
	more = true
	s.events, s.bytes = 0, 0
	for m := range batch.Messages() {
		s.events++
		s.bytes += len(m.Data())
		if more && err == nil {
			more, err = s.takeOne(m)
		}
	}
	// An empty batch: what was pending has been trimmed.
	if lost := batch.Error(); lost != nil {
		err = errors.Join(err, unanswered(lost))
	}
	return more && s.events > 0, err
}

// takeOne has one event visited, and reports whether more are wanted.
func (s *scanner) takeOne(m jetstream.Msg) (more bool, err error) {
	meta, err := m.Metadata()
	if err != nil {
		return false, err
	}
	// The consumer numbers what it delivers, and delivers nothing again.
	if s.delivered++; meta.Sequence.Consumer != s.delivered {
		return false, errTorn
	}
	ref, err := refOf(s.refs, m.Subject())
	if err != nil || meta.Sequence.Stream > s.to {
		return false, err
	}
	ev := Event{
		Sequence: meta.Sequence.Stream, Time: meta.Timestamp.UnixNano(),
		Exclude: value(m.Headers(), headerExclude), Frame: m.Data(),
	}
	return s.visit(ref, ev) && ev.Sequence < s.to && meta.NumPending > 0, nil
}
