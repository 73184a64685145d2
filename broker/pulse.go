package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// pulsePeriod is how often a node stores something in each stream of a cluster,
	// to know that it can: a leader that is cut off, and a replica, answer questions
	// though nothing is stored and nothing comes any more.
	pulsePeriod = 500 * time.Millisecond
	// pulseAge is how old the newest answer may be until the node is not ready.
	pulseAge = 3 * time.Second
)

// pulseRef is the channel of pulses. No app has an empty id.
var pulseRef = Ref{Channel: "\x00pulse"}

// pulse is what a node of a cluster knows of its way to the streams: there and, over
// the live subject, back.
type pulse struct {
	broker *Broker
	inbox  string

	mu    sync.Mutex
	beats []beat // by lane
	said  map[string]bool
}

// beat is the newest pulse of one lane.
type beat struct {
	stored time.Time // when the newest that was stored was sent
	heard  time.Time // when the newest of any node came
	last   uint64    // its sequence
	back   []back    // the newest of this node that came back, ascending
}

// back is that a pulse went through a majority of the servers, and came back: who has
// the stream up to its sequence has all that was stored when it was sent.
type back struct {
	sequence uint64
	sent     time.Time
}

// maxBack is how many of them are kept: a replica that is behind them all says nothing
// about now.
const maxBack = 120

// openPulse begins to beat; the first answers are waited for by nobody.
func (b *Broker) openPulse() error {
	p := &pulse{broker: b, inbox: nats.NewInbox(), beats: make([]beat, len(b.lanes)), said: make(map[string]bool)}
	for i := range p.beats {
		p.beats[i] = beat{stored: time.Now(), heard: time.Now(), back: []back{{b.lanes[i].found, b.opened}}}
	}
	if _, err := b.publish.Subscribe(p.inbox+".>", p.acknowledged); err != nil {
		return fmt.Errorf("subscribe to the answers to pulses: %w", err)
	}
	for l := range b.retainedLanes() {
		// Over a connection of its own kind: the live one hears only others.
		if _, err := b.publish.Subscribe(l.subject(liveRoot, pulseRef), func(m *nats.Msg) { p.hear(l, m) }); err != nil {
			return fmt.Errorf("subscribe to pulses: %w", err)
		}
	}
	b.pulse = p
	b.tasks.Go(func() { p.run(b.run) })
	return nil
}

func (p *pulse) run(ctx context.Context) {
	ticker := time.NewTicker(pulsePeriod)
	defer ticker.Stop()
	for {
		p.send(time.Now())
		select {
		case now := <-ticker.C:
			p.tell(now)
			p.broker.clocks.look()
		case <-ctx.Done():
			return
		}
	}
}

// send stores a pulse in each stream. The answer says which it is for, and when it
// was sent.
func (p *pulse) send(now time.Time) {
	for l := range p.broker.retainedLanes() {
		m := nats.Msg{
			Subject: l.subject(storedRoot, pulseRef),
			Reply:   p.inbox + "." + strconv.Itoa(l.index) + "." + strconv.FormatInt(now.UnixNano(), 36),
			Header:  nats.Header{headerFrom: {p.broker.nodes.Self().Life}, headerSent: {strconv.FormatInt(now.UnixNano(), 10)}},
		}
		// What is not sent is not answered.
		_ = p.broker.publish.PublishMsg(&m)
	}
}

// acknowledged handles an answer of a stream.
func (p *pulse) acknowledged(m *nats.Msg) {
	index, at, _ := strings.Cut(m.Subject[len(p.inbox)+1:], ".")
	i, err := strconv.Atoi(index)
	sent, err2 := strconv.ParseInt(at, 36, 64)
	if errors.Join(err, err2) != nil || i < 0 || i >= len(p.beats) {
		return
	}
	if _, err := parseAck(m.Data); err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := time.Unix(0, sent); at.After(p.beats[i].stored) {
		p.beats[i].stored = at
	}
}

// hear handles a pulse of any node. One that follows on another than the last has
// lost some on the way, and so may events have been.
func (p *pulse) hear(l *lane, m *nats.Msg) {
	sequence, previous := number(m.Header, headerSequence), number(m.Header, headerPrevious)
	p.mu.Lock()
	b := &p.beats[l.index]
	lost := b.last != 0 && previous != b.last && sequence > b.last
	now := time.Now()
	b.last, b.heard = max(b.last, sequence), now
	if value(m.Header, headerFrom) == p.broker.nodes.Self().Life {
		sent := time.Unix(0, int64(number(m.Header, headerSent)))
		b.cameBack(back{sequence, sent})
		p.broker.clocks.stamped(l, aheadOf(sent, time.Unix(0, stamp(m.Header)), now), now)
	}
	p.mu.Unlock()
	if lost {
		p.broker.disturb(l.index)
	}
}

// cameBack notes that a pulse of this node has come back.
func (b *beat) cameBack(of back) {
	if n := len(b.back); n > 0 && of.sequence <= b.back[n-1].sequence {
		b.back = nil // the stream was made anew
	}
	if len(b.back) == maxBack {
		b.back = slices.Delete(b.back, 0, 1)
	}
	b.back = append(b.back, of)
}

// known is until when all that a stream had stored is in what a server has that has it
// up to a sequence, and was asked at a time. A server that is cut off agrees with
// itself, and does not know what it misses. The zero Time: it is not known.
func (p *pulse) known(l *lane, sequence uint64, asked time.Time) time.Time {
	if p == nil {
		return asked
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var known time.Time
	for _, of := range p.beats[l.index].back {
		if of.sequence <= sequence && of.sent.Before(asked) {
			known = of.sent
		}
	}
	return known
}

// with adds the pulses to the subjects that are asked for in a stream: without any event
// the answer says nothing of how far it goes.
func (p *pulse) with(l *lane, subjects []string) []string {
	if p == nil {
		return subjects
	}
	return append(slices.Clip(subjects), l.subject(storedRoot, pulseRef))
}

// age is how long ago a stream is known to have stored what this node sent it, and
// this node to have heard of what it stored.
func (b *beat) age(now time.Time) time.Duration {
	return max(now.Sub(b.stored), now.Sub(b.heard))
}

// failure is not nil if a stream has no pulse.
func (p *pulse) failure(now time.Time) error {
	if p == nil {
		return nil
	}
	var problems []error
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.broker.retainedLanes() {
		if age := p.beats[l.index].age(now); age >= pulseAge {
			problems = append(problems, fmt.Errorf("%w: stream %s has stored nothing of this node for %s: it has no majority of its servers, or this node does not reach it", ErrUnavailable, l.stream, age.Round(time.Second)))
		}
	}
	return errors.Join(problems...)
}

// tell logs which streams lose their pulse, and which have it again.
func (p *pulse) tell(now time.Time) {
	for l := range p.broker.retainedLanes() {
		p.mu.Lock()
		age := p.beats[l.index].age(now)
		without, before := age >= pulseAge, p.said[l.stream]
		p.said[l.stream] = without
		p.mu.Unlock()
		switch {
		case without && !before:
			p.broker.log.Error("a stream stores nothing of this node: publishes wait, and the node is not ready", slog.String("stream", l.stream), slog.Duration("for", age))
		case before && !without:
			p.broker.log.Info("a stream stores events of this node again", slog.String("stream", l.stream))
			// What came meanwhile may not have come here.
			p.broker.disturb(l.index)
		}
	}
}

// CutOff is for how long this node has been without any stream of its cluster, 0 if
// it is not.
func (b *Broker) CutOff() time.Duration {
	p := b.pulse
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now, shortest := time.Now(), time.Duration(-1)
	for l := range b.retainedLanes() {
		if age := p.beats[l.index].age(now); shortest < 0 || age < shortest {
			shortest = age
		}
	}
	if shortest < pulseAge {
		return 0
	}
	return shortest
}
