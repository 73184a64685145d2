package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// scanner is one pass over a stream.
type scanner struct {
	// refs are the channels of the subjects met so far: most come again.
	refs  map[string]Ref
	to    uint64
	visit func(ref Ref, ev Event) bool
	// seen is the newest event that came, pending how many there were behind it.
	seen, pending uint64
	ended         bool // nothing more is wanted
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
	asked := time.Now()
	err := b.scan(ctx, l, max(from, 1), to, visit)
	if err == nil {
		err = b.believe(asked)
	}
	if err != nil {
		return fmt.Errorf("scan stream %s from %d: %w", l.stream, from, err)
	}
	return nil
}

// scan makes a consumer for one pass. It is in memory and on one replica, because
// it is of no use to anybody afterwards, and acknowledges nothing.
func (b *Broker) scan(ctx context.Context, l *lane, from, to uint64, visit func(ref Ref, ev Event) bool) error {
	js, err := b.jetStream(b.reader())
	if err != nil {
		return err
	}
	consumer, err := b.scanConsumer(ctx, js, l, from)
	if err != nil {
		return unanswered(err)
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		// Else it ends by itself.
		_ = js.DeleteConsumer(ending, l.stream, consumer.CachedInfo().Name)
	}()
	if consumer.CachedInfo().NumPending == 0 && !l.replicated() {
		return nil
	}
	s := scanner{refs: make(map[string]Ref), seen: from - 1, to: to, visit: visit}
	late := time.Now().Add(behindTimeout)
	for size := scanBatchFirst; ; size = s.nextBatch() {
		batch, err := consumer.FetchNoWait(size)
		if err != nil {
			return unanswered(err)
		}
		if err := s.take(batch, b.cfg.Shared); err != nil {
			return err
		}
		if ended, err := b.scanned(ctx, l, &s); err != nil || ended {
			return err
		}
		if s.events > 0 {
			late = time.Now().Add(behindTimeout)
			continue
		}
		if time.Now().After(late) {
			return unanswered(errBehind)
		}
		if err := Pause(ctx, behindPause); err != nil {
			return err
		}
	}
}

func (b *Broker) scanConsumer(ctx context.Context, js jetstream.JetStream, l *lane, from uint64) (consumer jetstream.Consumer, err error) {
	create := func(ctx context.Context) error {
		consumer, err = js.CreateConsumer(ctx, l.stream, jetstream.ConsumerConfig{
			Description: "reecho: one pass over the stream", AckPolicy: jetstream.AckNonePolicy,
			DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from,
			MemoryStorage: true, Replicas: 1, InactiveThreshold: scanInactive,
		})
		return err
	}
	if !b.cfg.Shared {
		err = create(ctx)
		return consumer, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	err = again(ctx, create)
	return consumer, err
}

// scanned reports whether nothing more is to be seen. "No more" of a consumer whose
// replica is behind proves nothing, nor does an empty batch, which may have been
// lost: then the stream is asked what comes next.
func (b *Broker) scanned(ctx context.Context, l *lane, s *scanner) (bool, error) {
	switch {
	case s.ended:
		return true, nil
	case s.events > 0 && s.pending > 0:
		return false, ctx.Err()
	case s.events > 0 && !l.replicated():
		return true, nil
	}
	next, ok, err := b.nextEvent(ctx, l, s.seen+1)
	return err == nil && (!ok || next.Sequence > s.to), err
}

// nextEvent returns the first event of a stream whose sequence is from or above.
func (b *Broker) nextEvent(ctx context.Context, l *lane, from uint64) (Event, bool, error) {
	if l.replicated() {
		return b.firstOfLeader(ctx, l, l.stored(), from)
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return b.oneDirect(ctx, l.stream, fmt.Appendf(nil, `{"seq":%d,"next_by_subj":%q}`, from, l.stored()))
}

// nextBatch is how many events to fetch next.
func (s *scanner) nextBatch() int {
	if s.events == 0 {
		return scanBatchFirst
	}
	return min(max(scanBatchBytes*s.events/max(s.bytes, 1), 1), scanBatchMax)
}

// take takes all of a batch, also what nobody wants any more. A consumer that other
// servers have made is not known here at once: until it is, nobody answers.
func (s *scanner) take(batch jetstream.MessageBatch, shared bool) (err error) {
	s.events, s.bytes = 0, 0
	for m := range batch.Messages() {
		s.events++
		s.bytes += len(m.Data())
		if !s.ended && err == nil {
			err = s.takeOne(m)
		}
	}
	lost := batch.Error()
	if shared && s.events == 0 && errors.Is(lost, nats.ErrNoResponders) {
		lost = nil
	}
	if lost != nil {
		err = errors.Join(err, unanswered(lost))
	}
	return err
}

// takeOne has one event visited.
func (s *scanner) takeOne(m jetstream.Msg) error {
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	// The consumer numbers what it delivers, and delivers nothing again.
	if s.delivered++; meta.Sequence.Consumer != s.delivered {
		return unanswered(errTorn)
	}
	s.seen, s.pending = meta.Sequence.Stream, meta.NumPending
	ref, err := refOf(s.refs, m.Subject())
	if s.ended = s.seen > s.to; err != nil || s.ended {
		return err
	}
	ev := Event{
		Sequence: s.seen, Time: meta.Timestamp.UnixNano(),
		Exclude: value(m.Headers(), headerExclude), Frame: m.Data(),
	}
	s.ended = !s.visit(ref, ev) || s.seen >= s.to
	return nil
}
