package broker

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
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

// finish counts one record as stored, or failed with err.
func (c *call) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && c.err == nil {
		c.err = err
	}
	c.left--
	if c.left == 0 {
		close(c.done)
	}
}

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
	var admitted hold
	defer admitted.release()
	if err := b.admit(ctx, records, lanes, &admitted); err != nil {
		return err
	}
	c := &call{left: len(records), done: make(chan struct{})}
	if err := b.hand(c, records, lanes); err != nil {
		return err
	}
	<-c.done
	return c.err
}

// accept appends the lane of each record to lanes, or returns a TooLargeError.
func (b *Broker) accept(records []Record, lanes []*lane) ([]*lane, error) {
	lanes = slices.Grow(lanes, len(records))
	for i := range records {
		r := &records[i]
		if err := checkNames(r.App, r.Channel); err != nil {
			return nil, err
		}
		l := b.laneOf(r.App, r.Channel)
		if limit := l.maxFrame(r.App, r.Channel); len(r.Frame) > limit {
			return nil, &TooLargeError{Channel: r.Channel, Size: len(r.Frame), Limit: limit}
		}
		lanes = append(lanes, l)
	}
	return lanes, nil
}

// hand gives records to the publishers of their lanes, all of them or, with an
// error, none.
func (b *Broker) hand(c *call, records []Record, lanes []*lane) error {
	if len(records) == 1 {
		return b.handOne(c, &records[0], lanes[0])
	}
	sizes := make([]int, len(b.lanes)) // by lane, in bytes
	for i := range records {
		sizes[lanes[i].index] += len(records[i].Frame)
	}
	// Always in the order of the lanes: two calls must not wait for each other.
	for i, n := range sizes {
		if p := b.publishers[i]; p != nil && n > 0 {
			p.mu.Lock()
			defer p.mu.Unlock()
			if err := p.admitLocked(n); err != nil {
				return err
			}
		}
	}
	for i := range records {
		if p := b.publishers[lanes[i].index]; p != nil {
			p.addLocked(c, &records[i])
		} else {
			c.finish(b.deliver(lanes[i], &records[i]))
		}
	}
	return nil
}

func (b *Broker) handOne(c *call, r *Record, l *lane) error {
	p := b.publishers[l.index]
	if p == nil {
		c.finish(b.deliver(l, r))
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.admitLocked(len(r.Frame)); err != nil {
		return err
	}
	p.addLocked(c, r)
	return nil
}

// messageOverhead is more than NATS adds to an event: the headers' names, a
// message id, a socket id, the rest of the subject, and what a file adds to a
// record.
const messageOverhead = 512

// maxFrame is Log.MaxFrame.
func (l *lane) maxFrame(app, channel string) int {
	return l.maxMessage - messageOverhead - maxToken*(len(app)+len(channel))
}

// deliver sends an event of a channel of which nothing is retained.
func (b *Broker) deliver(l *lane, r *Record) error {
	m := nats.Msg{Subject: l.subject(liveRoot, r.App, r.Channel), Data: r.Frame}
	if r.Exclude != "" {
		m.Header = nats.Header{headerExclude: {r.Exclude}}
	}
	if err := b.publish.PublishMsg(&m); err != nil {
		return fmt.Errorf("%w: publish to %s: %w", ErrUnavailable, m.Subject, err)
	}
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
	failure  error  // not nil: the log has failed, nothing is taken
	broken   bool   // and stores nothing of what it got before
	refused  int    // events refused because of that
	next     uint64 // number of the next event sent
	inFlight map[uint64]*pending
	queue    []*pending
	queued   int    // bytes
	newest   uint64 // the highest sequence acknowledged
	// silent: an event was given up, and the stream has answered nothing since.
	silent bool
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

// pending is an event on its way into the stream.
type pending struct {
	call    *call
	record  *Record
	subject string
	number  uint64
	first   time.Time // when it was taken
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

// admitLocked reports whether events of so many bytes can be taken. What is
// larger than the queue may be is taken when nothing waits: it would never be
// otherwise.
func (p *publisher) admitLocked(bytes int) error {
	switch {
	case p.closed:
		return ErrClosed
	case p.failure != nil:
		p.refused++
		return p.failure
	case p.queued > 0 && p.queued+bytes > p.broker.cfg.PublishQueueBytes:
		return ErrOverloaded
	}
	return nil
}

// addLocked sends r or puts it into the queue.
func (p *publisher) addLocked(c *call, r *Record) {
	e := &pending{call: c, record: r, subject: p.lane.subject(storedRoot, r.App, r.Channel), first: time.Now()}
	if len(p.queue) == 0 && !p.repairing && len(p.inFlight) < p.broker.cfg.PublishWindow {
		p.firstSendLocked(e, e.first)
		return
	}
	p.queue = append(p.queue, e)
	p.queued += len(r.Frame)
}

func (p *publisher) firstSendLocked(e *pending, now time.Time) {
	p.next++
	e.number = p.next
	p.inFlight[e.number] = e
	if err := p.sendLocked(e, now); err != nil {
		delete(p.inFlight, e.number)
		e.call.finish(fmt.Errorf("%w: %w", ErrUnavailable, err))
	}
}

// sendLocked gives e to the connection. The message and its header are reused:
// the connection has copied them when PublishMsg returns.
func (p *publisher) sendLocked(e *pending, now time.Time) error {
	m := &p.message
	e.sent = now
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
	p.answeredLocked(a, err)
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
	e.call.finish(err)
}

// answeredLocked takes down what the answer says of the stream.
func (p *publisher) answeredLocked(a ack, err error) {
	p.silent = false
	p.newest = max(p.newest, a.sequence)
	switch {
	case errors.Is(err, ErrUnavailable):
		p.refusal, p.refusedAt = err, time.Now()
	case p.refusal != nil:
		p.refusal = nil
	}
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
		p.firstSendLocked(p.shiftLocked(), time.Now())
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
// and gives up on those that were tried too long. A log that has failed gets
// nothing more. It may yet store what it has, as a disk does that only hangs, so
// that is waited for; unless the log is broken, which had ackTimeout to answer.
func (p *publisher) repair(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expireLocked(now)
	late := false
	for _, e := range p.inFlight {
		late = late || now.Sub(e.sent) > ackTimeout
	}
	if !late {
		return
	}
	if !p.repairing {
		p.broker.log.Debug("a stream does not answer, trying again", slog.String("stream", p.lane.stream))
	}
	p.repairing = true
	for _, number := range p.numbersLocked() {
		e := p.inFlight[number]
		switch {
		case now.Sub(e.sent) <= ackTimeout:
		case p.broken:
			delete(p.inFlight, number)
			e.call.finish(p.failure)
		case now.Sub(e.first) > p.broker.cfg.PublishTimeout:
			delete(p.inFlight, number)
			p.silent = true
			e.call.finish(errLate)
		case p.failure != nil:
		default:
			e.retried = true
			// An error leaves it late, for the next round.
			_ = p.sendLocked(e, now)
		}
	}
	p.pumpLocked()
}

var errLate = fmt.Errorf("%w: the stream did not answer in time", ErrUnavailable)

// expireLocked gives up on what has waited too long to be sent. It is not
// stored.
func (p *publisher) expireLocked(now time.Time) {
	for len(p.queue) > 0 && now.Sub(p.queue[0].first) > p.broker.cfg.PublishTimeout {
		p.shiftLocked().call.finish(errLate)
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

// fail makes the publisher take nothing until resume. What waits is refused;
// what is under way may still be answered; broken: not for long.
func (p *publisher) fail(err error, broken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failure, p.broken = err, broken
	for len(p.queue) > 0 {
		p.refused++
		p.shiftLocked().call.finish(err)
	}
}

// resume ends fail. It returns how many publishes were refused.
func (p *publisher) resume() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	refused := p.refused
	p.failure, p.refusal, p.refused, p.silent, p.broken = nil, nil, 0, false, false
	return refused
}

func (p *publisher) numbersLocked() []uint64 {
	numbers := make([]uint64, 0, len(p.inFlight))
	for number := range p.inFlight {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	return numbers
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

// close fails everything under way.
func (p *publisher) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for number, e := range p.inFlight {
		delete(p.inFlight, number)
		e.call.finish(ErrClosed)
	}
	for _, e := range p.queue {
		e.call.finish(ErrClosed)
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

// Codes of answers that are about the event and not about the stream
// (nats-server, errors.json).
const (
	codeMessageTooLarge = 10054
	codeHeaderTooLarge  = 10097
)

func parseRareAck(data []byte) (ack, error) {
	var answer struct {
		Sequence  uint64 `json:"seq"`
		Duplicate bool   `json:"duplicate"`
		Error     *struct {
			ErrorCode   int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return ack{}, fmt.Errorf("%w: read its answer: %w", ErrUnavailable, err)
	}
	switch e := answer.Error; {
	case e != nil && (e.ErrorCode == codeMessageTooLarge || e.ErrorCode == codeHeaderTooLarge):
		return ack{}, fmt.Errorf("%w: %s", ErrTooLarge, e.Description)
	case e != nil:
		return ack{}, fmt.Errorf("%w: it refused the event: %s (code %d)", ErrUnavailable, e.Description, e.ErrorCode)
	case answer.Sequence == 0:
		return ack{}, fmt.Errorf("%w: [unexpected] answer: %.100s", ErrUnavailable, data)
	}
	return ack{sequence: answer.Sequence, duplicate: answer.Duplicate}, nil
}
