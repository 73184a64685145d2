package broker

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// publisher stores the events of one lane, in order, with a bounded
// number of them unacknowledged.
type publisher struct {
	broker *Broker
	lane   *lane
	nc     *nats.Conn
	inbox  string // acknowledgements come to inbox + "." + number
	// idPrefix begins message ids. It is another one in each run, whose numbers
	// begin again: none may be taken for a duplicate of the run before.
	idPrefix string

	// mu is held while an event is given to the connection, which buffers
	// it: that order is the order in the stream.
	mu       sync.Mutex
	closed   bool
	failure  error  // not nil: the log has failed, nothing is taken
	broken   bool   // and stores nothing of what it got before
	refused  int    // events refused because of that
	next     uint64 // number of the next event sent
	inFlight map[uint64]*pending
	queue    []*pending
	queued   int    // bytes
	reserved int    // bytes that may join them
	waited   uint64 // events that have waited so
	newest   uint64 // the highest sequence acknowledged
	// silent: an event was given up, and the stream has answered nothing since.
	silent bool
	// stalled is the same where others share the stream and have to be waited for:
	// nothing is taken until the stream has a leader.
	stalled bool
	// refusal is the stream's newest answer if that was an error.
	refusal   error
	refusedAt time.Time
	// repairing: an event was not acknowledged in time. Until none is in
	// flight, later events wait, so that they do not overtake it.
	repairing bool
	message   nats.Msg // reused for each send
	id        [1]string
	exclude   [1]string
}

const (
	// ackTimeout is how long an acknowledgement may take before the event is
	// sent again under the same id.
	ackTimeout = 500 * time.Millisecond
	// watchPeriod is how often a partition looks for late acknowledgements,
	// and the pause between retries while its stream has no leader.
	watchPeriod = 40 * time.Millisecond
)

// openPublishers makes a publisher for each stream. Each has one subscription for
// all acknowledgements, which are told apart by number: one subscription for each
// publish would cost more than the publish.
func (b *Broker) openPublishers() error {
	prefix := rand.Text()[:10]
	b.publishers = make([]*publisher, len(b.lanes))
	for i, l := range b.lanes {
		if !l.retained() {
			continue
		}
		p := &publisher{
			broker: b, lane: l, nc: b.publish, inbox: nats.NewInbox(),
			idPrefix: prefix + strconv.Itoa(i) + "-", inFlight: make(map[uint64]*pending),
		}
		p.message.Header = nats.Header{}
		if _, err := b.publish.Subscribe(p.inbox+".*", p.acknowledged); err != nil {
			return fmt.Errorf("subscribe to acknowledgements: %w", err)
		}
		b.publishers[i] = p
		b.tasks.Go(func() { p.watch(b.run) })
	}
	return b.watchElections()
}

// take sends an event or puts it into the queue. With an error it does neither:
// ErrOverloaded, ErrClosed, or how the log has failed.
func (p *publisher) take(c *call, r *Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.admitLocked(len(r.Frame)); err != nil {
		return err
	}
	p.addLocked(p.pending(c, r))
	return nil
}

// reserve makes room for events of so many bytes, which takeReserved brings or
// unreserve gives up: a call with events for several streams must not be stored
// in one and refused by another. The errors are those of take.
func (p *publisher) reserve(bytes int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.admitLocked(bytes); err != nil {
		return err
	}
	p.reserved += bytes
	return nil
}

func (p *publisher) unreserve(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reserved -= bytes
}

// takeReserved takes those of records that are of this lane, in one go, so that
// no others come between them. They are finished with an error if the log has
// failed or was closed since there was room.
func (p *publisher) takeReserved(c *call, records []Record, lanes []*lane, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reserved -= bytes
	var all [16]*pending // few calls have more
	taken := all[:0]
	for i := range records {
		if lanes[i] != p.lane {
			continue
		}
		if err := p.refuseLocked(); err != nil {
			c.finish(err)
			continue
		}
		e := p.pending(c, &records[i])
		if p.broker.cfg.Shared {
			before := newestOf(taken, e.subject)
			taken = append(taken, e)
			if before != nil {
				before.then = e
				p.reserved += len(e.record.Frame)
				continue
			}
		}
		p.addLocked(e)
	}
}

// newestOf is the last of events that is of a subject, nil if none is.
func newestOf(events []*pending, subject string) *pending {
	for _, e := range slices.Backward(events) {
		if e.subject == subject {
			return e
		}
	}
	return nil
}

// admitLocked reports whether events of so many bytes can be taken. What is
// larger than the queue may be is taken when nothing waits: it would never be
// otherwise.
func (p *publisher) admitLocked(bytes int) error {
	if err := p.refuseLocked(); err != nil {
		return err
	}
	if waits := p.queued + p.reserved; waits > 0 && waits+bytes > p.broker.cfg.PublishQueueBytes {
		return ErrOverloaded
	}
	return nil
}

// refuseLocked returns why nothing is taken at all, and counts that.
func (p *publisher) refuseLocked() error {
	switch {
	case p.closed:
		return ErrClosed
	case p.failure != nil:
		p.refused++
		return p.failure
	case p.stalled:
		return errStalled
	}
	return nil
}

func (p *publisher) pending(c *call, r *Record) *pending {
	return &pending{call: c, record: r, subject: p.lane.subject(storedRoot, r.Ref()), first: c.began}
}

// addLocked sends e or puts it into the queue.
func (p *publisher) addLocked(e *pending) {
	if len(p.queue) == 0 && !p.repairing && len(p.inFlight) < p.broker.cfg.PublishWindow {
		p.firstSendLocked(e, time.Now())
		return
	}
	p.queue = append(p.queue, e)
	p.queued += len(e.record.Frame)
	p.waited++
}

// finishLocked ends e, which is not stored, and what was to follow it.
func (p *publisher) finishLocked(e *pending, err error) {
	e.call.finish(err)
	p.followLocked(e, err)
}

// followLocked sends what was to follow e, or ends it too if e is not stored.
func (p *publisher) followLocked(e *pending, err error) {
	next := e.then
	if next == nil {
		return
	}
	p.reserved -= len(next.record.Frame)
	if err == nil {
		err = p.refuseLocked()
	}
	if err != nil {
		p.finishLocked(next, err)
		return
	}
	p.addLocked(next)
}

// firstSendLocked gives e its number and sends it. What the connection does not
// take is not stored.
func (p *publisher) firstSendLocked(e *pending, now time.Time) {
	p.next++
	e.number = p.next
	p.inFlight[e.number] = e
	if err := p.sendLocked(e, now); err != nil {
		delete(p.inFlight, e.number)
		p.finishLocked(e, fmt.Errorf("%w: %w", ErrUnavailable, err))
	}
}

// sendLocked gives e to the connection. The message and its header are reused:
// the connection has copied them when PublishMsg returns.
func (p *publisher) sendLocked(e *pending, now time.Time) error {
	m := &p.message
	e.sent = now
	number := strconv.FormatUint(e.number, 36)
	if p.id[0] = e.record.ID; p.id[0] == "" {
		p.id[0] = p.idPrefix + number
	}
	m.Header[headerMessageID] = p.id[:]
	if e.record.Exclude != "" {
		p.exclude[0] = e.record.Exclude
		m.Header[headerExclude] = p.exclude[:]
	} else {
		delete(m.Header, headerExclude)
	}
	m.Subject, m.Reply, m.Data = e.subject, p.inbox+"."+number, e.record.Frame
	if err := p.nc.PublishMsg(m); err != nil {
		return fmt.Errorf("publish to %s: %w", e.subject, err)
	}
	return nil
}

// acknowledged handles an answer of the stream.
func (p *publisher) acknowledged(m *nats.Msg) {
	number, err := strconv.ParseUint(m.Subject[len(p.inbox)+1:], 36, 64)
	if err != nil {
		return
	}
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		p.noLeader()
		return
	}
	a, err := parseAck(m.Data)
	p.mu.Lock()
	e := p.inFlight[number]
	if a.passing && p.broker.cfg.Shared {
		p.refusedLocked(e, err)
		p.mu.Unlock()
		return
	}
	p.answeredLocked(a, err)
	if e == nil {
		// An earlier try was acknowledged too.
		p.mu.Unlock()
		return
	}
	delete(p.inFlight, number)
	p.pumpLocked()
	p.mu.Unlock()
	if err == nil && p.lane.acknowledge != nil {
		p.lane.acknowledge(a.sequence)
	}
	// It was stored by an earlier try, perhaps while other nodes could not be
	// reached.
	if err == nil && (e.retried || a.duplicate) {
		p.broker.nudge(p.lane, liveRoot+e.subject[len(storedRoot):], a.sequence)
	}
	e.record.Sequence = a.sequence
	e.call.finish(err)
	if e.then != nil {
		p.mu.Lock()
		p.followLocked(e, err)
		p.mu.Unlock()
	}
}

// answeredLocked takes down what the answer says of the stream.
func (p *publisher) answeredLocked(a ack, err error) {
	p.silent = false
	if err == nil {
		p.stalled = false
	}
	p.newest = max(p.newest, a.sequence)
	switch {
	case errors.Is(err, ErrUnavailable):
		p.refusal, p.refusedAt = err, time.Now()
	case p.refusal != nil:
		p.refusal = nil
	}
}

// pumpLocked sends what the window has room for.
func (p *publisher) pumpLocked() {
	if p.repairing {
		if len(p.inFlight) > 0 {
			return
		}
		p.repairing = false
	}
	for len(p.queue) > 0 && len(p.inFlight) < p.broker.cfg.PublishWindow {
		// A process that was stopped must not send what has been given up elsewhere.
		if e, now := p.shiftLocked(), time.Now(); now.Sub(e.first) > p.broker.cfg.PublishTimeout {
			p.finishLocked(e, ErrLate)
		} else {
			p.firstSendLocked(e, now)
		}
	}
}

// shiftLocked takes the oldest event out of the queue.
func (p *publisher) shiftLocked() *pending {
	e := p.queue[0]
	p.queue[0] = nil
	p.queue = p.queue[1:]
	p.queued -= len(e.record.Frame)
	if len(p.queue) == 0 {
		p.queue = nil
	}
	return e
}

// numbersLocked are the events in flight, oldest first.
func (p *publisher) numbersLocked() []uint64 {
	numbers := make([]uint64, 0, len(p.inFlight))
	for number := range p.inFlight {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	return numbers
}

// fail makes the publisher take nothing until resume. What waits is refused;
// what is under way may still be answered; broken: not for long.
func (p *publisher) fail(err error, broken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failure, p.broken = err, broken
	for len(p.queue) > 0 {
		p.refused++
		p.finishLocked(p.shiftLocked(), err)
	}
}

// resume ends fail. It returns how many publishes were refused.
func (p *publisher) resume() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	refused := p.refused
	p.failure, p.refusal, p.refused, p.silent, p.stalled, p.broken = nil, nil, 0, false, false, false
	return refused
}

// isSilent reports that an event was not answered within PublishTimeout, and
// nothing since.
func (p *publisher) isSilent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.silent
}

// refuses is the error that the stream answers events with, nil if it takes
// them, or has not been asked lately.
func (p *publisher) refuses(now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.refusedAt) > refusalAge {
		p.refusal = nil
	}
	return p.refusal
}

// newestAcknowledged is the highest sequence the stream has promised.
func (p *publisher) newestAcknowledged() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.newest
}

// close fails everything under way, of which some may be stored.
func (p *publisher) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for number, e := range p.inFlight {
		delete(p.inFlight, number)
		p.finishLocked(e, ErrClosed)
	}
	for _, e := range p.queue {
		p.finishLocked(e, ErrClosed)
	}
	p.queue = nil
}
