package broker

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// ackTimeout is how long an acknowledgement may take before the event is
	// sent again under the same id.
	ackTimeout = 500 * time.Millisecond
	// watchPeriod is how often a partition looks for late acknowledgements,
	// and the pause between retries while its stream has no leader.
	watchPeriod = 40 * time.Millisecond
)

// Record is an event to store.
type Record struct {
	App     string
	Channel string
	Frame   []byte // the finished JSON text
	Exclude string // the socket id that does not get the event, "" none
}

// call is one Publish under way.
type call struct {
	mu   sync.Mutex
	left int
	err  error
	done chan struct{}
}

// finish counts n records as stored, or failed with err.
func (c *call) finish(n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && c.err == nil {
		c.err = err
	}
	c.left -= n
	if c.left == 0 {
		close(c.done)
	}
}

// Publish stores records and returns when all of them are stored. Records of
// one channel keep their order. Frames must not be changed until it returns.
//
// Errors: ErrOverloaded, ErrUnavailable, ErrClosed, the context's, or what the
// stream says of an event it refuses. With any of them some records may be
// stored.
func (b *Broker) Publish(ctx context.Context, records []Record) error {
	if len(records) == 0 {
		return nil
	}
	c := &call{left: len(records), done: make(chan struct{})}
	var admitted hold
	defer admitted.release()
	for i := range records {
		r := &records[i]
		if err := b.publishOne(ctx, c, r, &admitted); err != nil {
			c.finish(len(records)-i, err)
			break
		}
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return fmt.Errorf("wait for %d events to be stored: %w", len(records), ctx.Err())
	}
}

// publishOne stores r, or delivers it only if nothing of its channel is
// retained.
func (b *Broker) publishOne(ctx context.Context, c *call, r *Record, admitted *hold) error {
	l := b.laneOf(r.App, r.Channel)
	if p := b.publishers[l.index]; p != nil {
		if err := l.share.admit(ctx, r, admitted); err != nil {
			return err
		}
		return p.publish(c, r)
	}
	m := nats.Msg{Subject: l.subject(liveRoot, r.App, r.Channel), Data: r.Frame}
	if r.Exclude != "" {
		m.Header = nats.Header{headerExclude: {r.Exclude}}
	}
	if err := b.publish.PublishMsg(&m); err != nil {
		return fmt.Errorf("publish to %s: %w", m.Subject, err)
	}
	c.finish(1, nil)
	return nil
}

// publisher stores the events of one lane, in order, with a bounded
// number of them unacknowledged.
type publisher struct {
	broker   *Broker
	lane     *lane
	nc       *nats.Conn
	inbox    string // acknowledgements come to inbox + "." + number
	idPrefix string

	// mu is held while an event is given to the connection, which buffers
	// it: that order is the order in the stream.
	mu       sync.Mutex
	closed   bool
	next     uint64 // number of the next event sent
	inFlight map[uint64]*pending
	queue    []*pending
	queued   int // bytes
	// repairing: an event was not acknowledged in time. Until none is in
	// flight, later events wait, so that they do not overtake it.
	repairing bool
	message   nats.Msg // reused for each send
	id        [1]string
	exclude   [1]string
}

// pending is an event on its way into the stream.
type pending struct {
	call    *call
	record  *Record
	subject string
	number  uint64
	first   time.Time // when it was first sent
	sent    time.Time // when it was last sent
	retried bool
}

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
	return nil
}

// publish sends r, or queues it when the window is full.
func (p *publisher) publish(c *call, r *Record) error {
	e := &pending{call: c, record: r, subject: p.lane.subject(storedRoot, r.App, r.Channel)}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return ErrClosed
	case len(p.queue) == 0 && !p.repairing && len(p.inFlight) < p.broker.cfg.PublishWindow:
		return p.firstSendLocked(e)
	case p.queued+len(r.Frame) > p.broker.cfg.PublishQueueBytes:
		return ErrOverloaded
	}
	p.queue = append(p.queue, e)
	p.queued += len(r.Frame)
	return nil
}

func (p *publisher) firstSendLocked(e *pending) error {
	p.next++
	e.number = p.next
	e.first = time.Now()
	p.inFlight[e.number] = e
	if err := p.sendLocked(e); err != nil {
		delete(p.inFlight, e.number)
		return err
	}
	return nil
}

// sendLocked gives e to the connection. The message and its header are reused:
// the connection has copied them when PublishMsg returns.
func (p *publisher) sendLocked(e *pending) error {
	m := &p.message
	e.sent = time.Now()
	number := strconv.FormatUint(e.number, 36)
	p.id[0] = p.idPrefix + number
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
	if e == nil {
		// An earlier try was acknowledged too.
		p.mu.Unlock()
		return
	}
	delete(p.inFlight, number)
	p.pumpLocked()
	p.mu.Unlock()
	if err == nil && (e.retried || a.duplicate) {
		p.broker.nudge(p.lane, liveRoot+e.subject[len(storedRoot):], a.sequence)
	}
	e.call.finish(1, err)
}

// noLeader means that nobody serves the stream at the moment: what is in
// flight is sent again by watch.
func (p *publisher) noLeader() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.repairing = len(p.inFlight) > 0
	for _, e := range p.inFlight {
		e.sent = time.Time{}
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
		e := p.queue[0]
		p.queue[0] = nil
		p.queue = p.queue[1:]
		p.queued -= len(e.record.Frame)
		if err := p.firstSendLocked(e); err != nil {
			e.call.finish(1, err)
		}
	}
	if len(p.queue) == 0 {
		p.queue = nil
	}
}

// watch sends late events again until ctx ends.
func (p *publisher) watch(ctx context.Context) {
	ticker := time.NewTicker(watchPeriod)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			p.repair(now)
			// Partitions must not retry in step.
			ticker.Reset(watchPeriod/2 + mathrand.N(watchPeriod)) //nolint:gosec // jitter
		case <-ctx.Done():
			return
		}
	}
}

// repair resends every event in flight, oldest first, if one of them is late,
// and gives up on those that were tried too long.
func (p *publisher) repair(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	late := false
	for _, e := range p.inFlight {
		late = late || now.Sub(e.sent) > ackTimeout
	}
	if !late {
		return
	}
	if !p.repairing {
		p.broker.log.Warn("the event log does not answer, trying again", slog.String("stream", p.lane.stream))
	}
	p.repairing = true
	for _, number := range p.numbersLocked() {
		e := p.inFlight[number]
		switch {
		case now.Sub(e.first) > p.broker.cfg.PublishTimeout:
			delete(p.inFlight, number)
			e.call.finish(1, ErrUnavailable)
		case now.Sub(e.sent) > ackTimeout:
			e.retried = true
			// An error leaves it late, for the next round.
			_ = p.sendLocked(e)
		}
	}
	p.pumpLocked()
}

func (p *publisher) numbersLocked() []uint64 {
	numbers := make([]uint64, 0, len(p.inFlight))
	for number := range p.inFlight {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	return numbers
}

// close fails everything under way.
func (p *publisher) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for number, e := range p.inFlight {
		delete(p.inFlight, number)
		e.call.finish(1, ErrClosed)
	}
	for _, e := range p.queue {
		e.call.finish(1, ErrClosed)
	}
	p.queue = nil
}

// ack is what a stream says of a stored event.
type ack struct {
	sequence  uint64
	duplicate bool
}

// parseAck reads {"stream":"…","seq":n[,"duplicate":true]} without
// encoding/json, which costs as much as the rest of an acknowledgement.
// Anything else, above all an error, goes the slow way.
func parseAck(data []byte) (ack, error) {
	_, rest, found := bytes.Cut(data, []byte(`"seq":`))
	if !found || !bytes.HasPrefix(data, []byte(`{"stream":`)) {
		return parseRareAck(data)
	}
	n := 0
	for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
		n++
	}
	sequence, err := strconv.ParseUint(string(rest[:n]), 10, 64)
	if err != nil {
		return parseRareAck(data)
	}
	return ack{sequence: sequence, duplicate: bytes.Contains(rest[n:], []byte(`"duplicate":true`))}, nil
}

func parseRareAck(data []byte) (ack, error) {
	var answer struct {
		Sequence  uint64 `json:"seq"`
		Duplicate bool   `json:"duplicate"`
		Error     *struct {
			Code        int    `json:"code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return ack{}, fmt.Errorf("read the answer of the event log: %w", err)
	}
	switch {
	case answer.Error != nil:
		return ack{}, fmt.Errorf("the event log refused the event: %s (code %d)", answer.Error.Description, answer.Error.Code)
	case answer.Sequence == 0:
		return ack{}, fmt.Errorf("[unexpected] answer of the event log: %.100s", data)
	}
	return ack{sequence: answer.Sequence, duplicate: answer.Duplicate}, nil
}
