package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Each calls visit with every key that has a value, in the order in which the values
// were put. Values that are put meanwhile may be among them. With an error a part of
// them has been visited.
func (s *Store) Each(ctx context.Context, visit func(key string, v Value)) error {
	r := storeReader{store: s, visit: visit}
	err := r.scan(ctx)
	if err == nil {
		err = r.rest(ctx)
	}
	if err != nil {
		return fmt.Errorf("read a store: %w", err)
	}
	return nil
}

// storeReader is one pass over a store.
type storeReader struct {
	store *Store
	visit func(key string, v Value)
	seen  uint64
}

// scan reads what a consumer has, which is fast, and may lack the newest: its replica
// can be behind.
func (r *storeReader) scan(ctx context.Context) error {
	s := r.store
	var consumer jetstream.Consumer
	err := again(ctx, func(ctx context.Context) (err error) {
		consumer, err = s.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
			Description: "reecho: one pass over a table", AckPolicy: jetstream.AckNonePolicy,
			DeliverPolicy: jetstream.DeliverAllPolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: scanInactive,
		})
		return err
	})
	if err != nil {
		return err
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		// Else it ends by itself.
		_ = s.stream.DeleteConsumer(ending, consumer.CachedInfo().Name)
	}()
	for pending := consumer.CachedInfo().NumPending; pending > 0; {
		batch, err := consumer.FetchNoWait(scanBatchMax)
		if err != nil {
			return unanswered(err)
		}
		taken := 0
		for m := range batch.Messages() {
			taken++
			meta, err := m.Metadata()
			if err != nil {
				return err
			}
			pending = meta.NumPending
			r.take(m.Subject(), Value{Text: m.Data(), Put: meta.Timestamp, Revision: meta.Sequence.Stream})
		}
		if taken == 0 || ctx.Err() != nil {
			return ctx.Err() // the rest is asked for
		}
	}
	return nil
}

// rest reads what comes behind, from the stream's leader.
func (r *storeReader) rest(ctx context.Context) error {
	for {
		var m *jetstream.RawStreamMsg
		err := again(ctx, func(ctx context.Context) (err error) {
			m, err = r.store.stream.GetMsg(ctx, r.seen+1, jetstream.WithGetMsgSubject(r.store.prefix+"*"))
			return err
		})
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			return nil
		case err != nil:
			return err
		}
		r.take(m.Subject, Value{Text: m.Data, Put: m.Time, Revision: m.Sequence})
	}
}

func (r *storeReader) take(subject string, v Value) {
	r.seen = max(r.seen, v.Revision)
	if key, err := Untoken(strings.TrimPrefix(subject, r.store.prefix)); err == nil {
		r.visit(key, v)
	}
}
