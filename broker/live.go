package broker

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
)

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

// liveQueue is how many messages wait for the dispatcher. What does not fit is
// dropped and read again from the stream.
const liveQueue = 8192

// openLive connects for live events. The connection has no echo, because what
// goes out on it, ephemeral events, the node has delivered itself.
func (b *Broker) openLive(d Dialer) (*live, error) {
	l := &live{broker: b, queue: make(chan *nats.Msg, liveQueue), bySubject: make(map[string]*Subscription)}
	nc, err := d.Connect(nats.Name("live"), nats.NoEcho(),
		// What is told here is that the queue is full.
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {
			l.behind.Store(true)
			b.disturb(AllStreams)
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			b.doubtLives()
			b.disturb(AllStreams)
		}))
	if err != nil {
		return nil, err
	}
	l.nc = nc
	for lane := range b.retainedLanes() {
		if _, err := nc.ChanSubscribe(lane.nudgeSubject(), l.queue); err != nil {
			nc.Close()
			return nil, fmt.Errorf("subscribe to nudges: %w", err)
		}
	}
	b.tasks.Go(func() { l.dispatch(b.run) })
	return l, nil
}

// fence waits until the server knows all subscriptions made before. nats.go waits
// only with a deadline.
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

func (l *live) remove(s *Subscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.bySubject, s.subject)
}

func (l *live) find(subject string) *Subscription {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.bySubject[subject]
}

// dispatch hands on what has come, until run ends. Once it is through after
// messages were dropped it tells of that again: more of them may have been since.
func (l *live) dispatch(run context.Context) {
	for {
		select {
		case m := <-l.queue:
			l.deliver(m)
			if len(l.queue) == 0 && l.behind.CompareAndSwap(true, false) {
				l.broker.disturb(AllStreams)
			}
		case <-run.Done():
			return
		}
	}
}

func (l *live) deliver(m *nats.Msg) {
	if s := l.find(m.Subject); s != nil {
		ev := liveEvent(m)
		if ev.Sequence == 0 && told(s.receiver, m) {
			return
		}
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

// told hands on what another node tells, if that is what the message is.
func told(r Receiver, m *nats.Msg) bool {
	life := value(m.Header, headerFrom)
	if life == "" {
		return false
	}
	if h, ok := r.(Hearer); ok {
		h.Told(life, m.Data)
	}
	return true
}

// Tell sends what this node has to say of a channel to the other nodes that follow it
// (see Hearer). It comes there before and behind the events of PublishEphemeral as they
// were sent, or is lost.
func (b *Broker) Tell(ref Ref, text []byte) error {
	return b.ephemeral(ref, text, headerFrom, b.nodes.Self().Life)
}

// PublishEphemeral sends an event that is not stored to the other nodes that
// follow the channel. It never comes back to this node. Frame must not be
// changed until it returns. It gives no promise of delivery.
func (b *Broker) PublishEphemeral(ref Ref, frame []byte, exclude string) error {
	if err := b.ephemeral(ref, frame, headerExclude, exclude); err != nil {
		return fmt.Errorf("send an ephemeral event: %w", err)
	}
	return nil
}

// ephemeral sends what is not stored, with a header unless that is "".
func (b *Broker) ephemeral(ref Ref, data []byte, header, text string) error {
	if err := ref.check(); err != nil {
		return err
	}
	m := nats.Msg{Subject: b.cfg.Relay + b.laneOf(ref).subject(liveRoot, ref), Data: data}
	if text != "" {
		m.Header = nats.Header{header: {text}}
	}
	return b.live.nc.PublishMsg(&m)
}

// headerNudged is the live subject that a nudge is about.
const headerNudged = "Reecho-Nudged"

// nudge tells every node that follows the channel that sequence is stored.
func (b *Broker) nudge(l *lane, liveSubject string, sequence uint64) {
	m := nats.Msg{Subject: b.cfg.Relay + l.nudgeSubject(), Header: nats.Header{
		headerNudged:   {liveSubject},
		headerSequence: {strconv.FormatUint(sequence, 10)},
	}}
	// The sweep of the tails finds what a lost nudge would have told.
	_ = b.publish.PublishMsg(&m)
}
