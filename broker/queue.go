package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Queue is durable lines of items, one line for each key, which are read in the order
// in which they were put and stay until they are removed. It is safe for concurrent use.
//
// It is a stream that is read from its beginning, and not one of JetStream's work queues:
// what the reader of such a one had when it died comes again after a while, and behind
// what came later.
type Queue struct{ store *Store }

// QueueConfig describes a Queue.
type QueueConfig struct {
	// Name is unique among the queues and stores; letters, digits, - and _.
	Name string
	// MaxAge is how long an item is kept that nobody removes.
	MaxAge time.Duration
	// MaxBytes bounds all lines together; the oldest items go first.
	MaxBytes int64
}

// Item is one of a line.
type Item struct {
	Sequence uint64 // higher than that of the item before
	Text     []byte
	Put      time.Time // by the clock of the server that stored it
}

// OpenQueue opens a queue, or makes it, or brings it in line with cfg.
func (b *Broker) OpenQueue(ctx context.Context, cfg QueueConfig) (*Queue, error) {
	s, err := b.OpenStore(ctx, StoreConfig{Name: cfg.Name, MaxAge: cfg.MaxAge, MaxBytes: cfg.MaxBytes, perKey: -1})
	if err != nil {
		return nil, err
	}
	return &Queue{s}, nil
}

// Put puts an item at the end of a line. One with an id that was put in the last two
// minutes is put no more than once, so that who has got no answer can put it again.
// Answers that mean "not now" are waited out. The error is ErrUnavailable, at once,
// while the log has failed; or that of ctx, and then the item may be stored.
func (q *Queue) Put(ctx context.Context, key, id string, text []byte) error {
	s := q.store
	err := again(ctx, func(ctx context.Context) error {
		if err := s.broker.health.failure(); err != nil {
			return finalError{err}
		}
		ack, err := s.js.Publish(ctx, s.prefix+Token(key), text, jetstream.WithMsgID(id))
		if err == nil && s.acknowledge != nil {
			s.acknowledge(ack.Sequence)
		}
		if failure := s.broker.health.failure(); err != nil && failure != nil {
			return finalError{errors.Join(failure, err)}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("put into a queue: %w", err)
	}
	return nil
}

const (
	// queueAhead is how many items are fetched before they are wanted.
	queueAhead = 128
	// queueDoubt is after how long without an item the leader is asked for the next: that
	// a consumer has none proves nothing.
	queueDoubt = 10 * time.Second
)

// Read calls take with each item of a line, from its beginning, and with those that come
// later, until ctx ends, whose error it returns. It waits for take. What is removed
// meanwhile may be among them.
func (q *Queue) Read(ctx context.Context, key string, take func(Item)) error {
	r := queueReader{queue: q, subject: q.store.prefix + Token(key), next: 1, take: take}
	for {
		err := r.read(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		q.store.broker.log.Debug("a queue cannot be read, trying again", slog.Any("error", err))
		if err := Pause(ctx, tryPause); err != nil {
			return err
		}
	}
}

// queueReader reads one line.
type queueReader struct {
	queue   *Queue
	subject string
	next    uint64 // sequence from which on nothing was taken
	take    func(Item)
}

// read reads over one consumer. That is an ordered one, which sees when something is
// missing and is made anew where that was.
func (r *queueReader) read(ctx context.Context) error {
	js, err := r.queue.store.broker.jetStream(r.queue.store.broker.reader())
	if err != nil {
		return err
	}
	consumer, err := js.OrderedConsumer(ctx, r.queue.store.name, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{r.subject}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy,
		OptStartSeq: r.next, InactiveThreshold: scanInactive,
	})
	if err != nil {
		return err
	}
	items, err := consumer.Messages(jetstream.PullMaxMessages(queueAhead))
	if err != nil {
		return err
	}
	defer items.Stop()
	for {
		waiting, cancel := context.WithTimeout(ctx, queueDoubt)
		m, err := items.Next(jetstream.NextContext(waiting))
		cancel()
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			if err = r.isEnd(ctx); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Stream < r.next {
			continue
		}
		r.next = meta.Sequence.Stream + 1
		r.take(Item{Sequence: meta.Sequence.Stream, Text: m.Data(), Put: meta.Timestamp})
	}
}

// isEnd returns nil if the leader has nothing that was not read.
func (r *queueReader) isEnd(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	_, err := r.queue.store.stream.GetMsg(ctx, r.next, jetstream.WithGetMsgSubject(r.subject))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil
	case err != nil:
		return err
	}
	return errBehind
}

// Remove removes the items of a line up to a sequence, this one too. Answers that mean
// "not now" are waited out.
func (q *Queue) Remove(ctx context.Context, key string, upTo uint64) error {
	s := q.store
	err := again(ctx, func(ctx context.Context) error {
		return s.stream.Purge(ctx, jetstream.WithPurgeSubject(s.prefix+Token(key)), jetstream.WithPurgeSequence(upTo+1))
	})
	if err != nil {
		return fmt.Errorf("remove from a queue: %w", err)
	}
	return nil
}

// RemoveOne removes one item of any line. It costs as much as Remove.
func (q *Queue) RemoveOne(ctx context.Context, sequence uint64) error {
	err := again(ctx, func(ctx context.Context) error {
		return q.store.stream.DeleteMsg(ctx, sequence)
	})
	if err != nil && !errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) { // that is: it is gone
		return fmt.Errorf("remove from a queue: %w", err)
	}
	return nil
}
