package broker

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// liveQueue is how many messages wait for the dispatcher. What does not fit is
// dropped and read again from the stream.
const liveQueue = 8192

// Headers of live messages (nats-server, stream.go).
const (
	headerSequence  = "Nats-Sequence"
	headerPrevious  = "Nats-Last-Sequence"
	headerPending   = "Nats-Num-Pending"
	headerTime      = "Nats-Time-Stamp"
	headerMessageID = "Nats-Msg-Id"
	headerExclude   = "Reecho-Exclude"
)

// Receiver takes the events of one channel from the live path, which may drop,
// double and delay them: whoever needs every event compares Previous.
type Receiver interface {
	// Live gets events in the order they arrived, from one goroutine at a
	// time. It may keep the frame. It may block; what is dropped meanwhile
	// shows in Disturbed.
	Live(ev Event)
	// Nudge says that an event of this sequence is stored and may not have
	// come by the live path.
	Nudge(sequence uint64)
}

// live is the connection that live events come in on. All subscriptions feed
// one queue and one goroutine: a goroutine for each channel would cost more
// than its subscription.
type live struct {
	broker *Broker
	nc     *nats.Conn
	queue  chan *nats.Msg
	// behind: messages were dropped, and more may be dropped unreported until
	// the queue is empty, because nats.go tells only of the first.
	behind atomic.Bool

	mu        sync.RWMutex
	bySubject map[string]*Subscription
}

// Subscription is a node's interest in one channel.
type Subscription struct {
	live     *live
	lane     *lane
	subject  string
	ref      Ref
	receiver Receiver
	sub      *nats.Subscription
}

func (b *Broker) openLive(d Dialer) (*live, error) {
	l := &live{broker: b, queue: make(chan *nats.Msg, liveQueue), bySubject: make(map[string]*Subscription)}
	nc, err := d.Connect(nats.Name("live"), nats.NoEcho(),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {
			l.behind.Store(true)
			b.disturb()
		}),
		nats.ReconnectHandler(func(*nats.Conn) { b.disturb() }))
	if err != nil {
		return nil, err
	}
	l.nc = nc
	for _, lane := range b.lanes {
		if !lane.retained() {
			continue
		}
		if _, err := nc.ChanSubscribe(lane.nudgeSubject(), l.queue); err != nil {
			nc.Close()
			return nil, fmt.Errorf("subscribe to nudges: %w", err)
		}
	}
	b.tasks.Go(func() { l.dispatch(b.run) })
	return l, nil
}

// fence waits until the server knows all subscriptions made before.
func (l *live) fence(ctx context.Context) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultPublishTimeout)
		defer cancel()
	}
	return l.nc.FlushWithContext(ctx)
}

func (l *live) add(s *Subscription) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bySubject[s.subject] != nil {
		return fmt.Errorf("[unexpected] channel %q is subscribed to twice", s.ref.Channel)
	}
	l.bySubject[s.subject] = s
	return nil
}

// Close ends the delivery. A call of the receiver may still be under way.
func (s *Subscription) Close() {
	s.live.mu.Lock()
	delete(s.live.bySubject, s.subject)
	s.live.mu.Unlock()
	if s.sub != nil {
		// The only error is a connection that is closed already.
		_ = s.sub.Unsubscribe()
	}
}

func (l *live) find(subject string) *Subscription {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.bySubject[subject]
}

func (l *live) dispatch(run context.Context) {
	for {
		select {
		case m := <-l.queue:
			l.deliver(m)
			if len(l.queue) == 0 && l.behind.CompareAndSwap(true, false) {
				l.broker.disturb()
			}
		case <-run.Done():
			return
		}
	}
}

func (l *live) deliver(m *nats.Msg) {
	if s := l.find(m.Subject); s != nil {
		ev := liveEvent(m)
		// There is no other writer.
		if ev.Sequence > s.lane.seen.Load() {
			s.lane.seen.Store(ev.Sequence)
		}
		s.receiver.Live(ev)
		return
	}
	if name := m.Header.Get(headerNudged); name != "" {
		if s := l.find(name); s != nil {
			s.receiver.Nudge(number(m.Header, headerSequence))
		}
	}
}

// liveEvent reads a republished or an ephemeral message.
func liveEvent(m *nats.Msg) Event {
	ev := Event{Frame: m.Data, Exclude: value(m.Header, headerExclude), Sequence: number(m.Header, headerSequence)}
	if ev.Sequence != 0 {
		ev.Previous = number(m.Header, headerPrevious)
		ev.Time = stamp(m.Header)
	}
	return ev
}

// value is Header.Get without its work: the keys are spelled as sent.
func value(h nats.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func number(h nats.Header, key string) uint64 {
	n, err := strconv.ParseUint(value(h, key), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func stamp(h nats.Header) int64 {
	t, err := time.Parse(time.RFC3339Nano, value(h, headerTime))
	if err != nil {
		return 0
	}
	return t.UnixNano()
}

// PublishEphemeral sends an event that is not stored to the other nodes that
// follow the channel. It never comes back to this node. Frame must not be
// changed until it returns. It gives no promise of delivery.
func (b *Broker) PublishEphemeral(app, channel string, frame []byte, exclude string) error {
	if err := checkNames(app, channel); err != nil {
		return err
	}
	m := nats.Msg{Subject: b.laneOf(app, channel).subject(liveRoot, app, channel), Data: frame}
	if exclude != "" {
		m.Header = nats.Header{headerExclude: {exclude}}
	}
	if err := b.live.nc.PublishMsg(&m); err != nil {
		return fmt.Errorf("send an ephemeral event: %w", err)
	}
	return nil
}

// headerNudged is the live subject that a nudge is about.
const headerNudged = "Reecho-Nudged"

// nudge tells every node that follows the channel that sequence is stored.
func (b *Broker) nudge(l *lane, liveSubject string, sequence uint64) {
	m := nats.Msg{Subject: l.nudgeSubject(), Header: nats.Header{
		headerNudged:   {liveSubject},
		headerSequence: {strconv.FormatUint(sequence, 10)},
	}}
	// The sweep of the tails finds what a lost nudge would have told.
	_ = b.publish.PublishMsg(&m)
}
