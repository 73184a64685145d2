package broker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
)

// Publish stores records and returns when the log has decided on all of them:
// from the moment they are handed over the end of ctx changes nothing, because
// what is stored must not be answered as refused. That takes PublishTimeout at
// most. Records of one channel keep their order. Frames must not be changed
// until it returns.
//
// Errors: ErrTooLarge, ErrOverloaded and the context's, when nothing is stored;
// ErrUnavailable or ErrClosed, when some records may be. A log that has failed
// refuses at once.
func (b *Broker) Publish(ctx context.Context, records []Record) error {
	if len(records) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("publish %d events: %w", len(records), err)
	}
	var one [1]*lane
	lanes, err := b.accept(records, one[:0])
	if err != nil {
		return err
	}
	c := &call{began: time.Now(), left: len(records), done: make(chan struct{})}
	admitted := hold{until: c.began.Add(b.cfg.PublishTimeout)}
	defer admitted.release()
	if err := b.admit(ctx, records, lanes, &admitted); err != nil {
		return err
	}
	if err := b.hand(c, records, lanes); err != nil {
		return err
	}
	<-c.done
	if c.err == nil {
		b.published.Observe(time.Since(c.began))
	}
	return c.err
}

// accept appends the lane of each record to lanes, or returns a TooLargeError.
func (b *Broker) accept(records []Record, lanes []*lane) ([]*lane, error) {
	lanes = slices.Grow(lanes, len(records))
	for i := range records {
		r := &records[i]
		if err := r.Ref().check(); err != nil {
			return nil, err
		}
		l := b.laneOf(r.Ref())
		if limit := l.maxFrame(r.Ref()); len(r.Frame) > limit {
			return nil, &TooLargeError{Channel: r.Channel, Size: len(r.Frame), Limit: limit}
		}
		lanes = append(lanes, l)
	}
	return lanes, nil
}

// hand gives records to the publishers of their lanes, all of them or, with an
// error, none. Each publisher has what is its own in one go.
func (b *Broker) hand(c *call, records []Record, lanes []*lane) error {
	if len(records) == 1 {
		return b.handOne(c, &records[0], lanes[0])
	}
	sizes := make([]int, len(b.lanes)) // by lane, in bytes
	for i := range records {
		sizes[lanes[i].index] += len(records[i].Frame)
	}
	if err := b.reserve(sizes); err != nil {
		return err
	}
	for i, n := range sizes {
		if p := b.publishers[i]; p != nil && n > 0 {
			p.takeReserved(c, records, lanes, n)
		}
	}
	for i := range records {
		if l := lanes[i]; !l.retained() {
			c.finish(b.deliver(l, &records[i]))
		}
	}
	return nil
}

func (b *Broker) handOne(c *call, r *Record, l *lane) error {
	if p := b.publishers[l.index]; p != nil {
		return p.take(c, r)
	}
	c.finish(b.deliver(l, r))
	return nil
}

// reserve makes room for events of so many bytes in each lane, or, with an error,
// in none.
func (b *Broker) reserve(sizes []int) error {
	for i, n := range sizes {
		p := b.publishers[i]
		if p == nil || n == 0 {
			continue
		}
		if err := p.reserve(n); err != nil {
			b.unreserve(sizes[:i])
			return err
		}
	}
	return nil
}

func (b *Broker) unreserve(sizes []int) {
	for i, n := range sizes {
		if p := b.publishers[i]; p != nil {
			p.unreserve(n)
		}
	}
}

// deliver sends an event of a channel of which nothing is retained. It goes by
// the connection of publishes, because what goes out by that of live events does
// not come back to this node.
func (b *Broker) deliver(l *lane, r *Record) error {
	m := nats.Msg{Subject: l.subject(liveRoot, r.Ref()), Data: r.Frame}
	if r.Exclude != "" {
		m.Header = nats.Header{headerExclude: {r.Exclude}}
	}
	if err := b.publish.PublishMsg(&m); err != nil {
		return fmt.Errorf("%w: publish to %s: %w", ErrUnavailable, m.Subject, err)
	}
	return nil
}
