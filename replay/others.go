package replay

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"reecho/broker"
)

// Others are the other nodes of a cluster. It is safe for concurrent use.
type Others interface {
	// AskAny asks all that are alive at once, and returns the first answer that is
	// not empty; nil: none has one, or has answered before ctx ended.
	AskAny(ctx context.Context, question []byte) (answer []byte)
	// Answer has f, which does not wait for anything, answer what others ask. It is
	// called once.
	Answer(f func(question []byte) (answer []byte, err error))
}

const (
	// othersTimeout bounds a question: one who does not answer at once is not worth
	// waiting for, the stream has it too.
	othersTimeout = 300 * time.Millisecond
	// answerBytes bounds the events of an answer, which has to fit into one message.
	answerBytes = 512 << 10
)

// question is what a node asks that begins to follow a channel and has a client
// which missed events from before.
type question struct {
	App     string `json:"app"`
	Channel string `json:"channel"`
	// Line is that of the channel's positions: sequences of another say nothing.
	Line string `json:"line"`
	// The events above After and up to UpTo are wanted.
	After uint64 `json:"after"`
	UpTo  uint64 `json:"upto"`
}

// answer answers another node: with all events of a range, or with nothing.
func (n *Node) answer(text []byte) ([]byte, error) {
	var q question
	if err := json.Unmarshal(text, &q); err != nil {
		return nil, fmt.Errorf("read a question about a channel: %w", err)
	}
	n.mu.Lock()
	ch := n.channels[broker.Ref{App: q.App, Channel: q.Channel}]
	n.mu.Unlock()
	if ch == nil {
		return nil, nil
	}
	entries, whole := ch.between(&q)
	if !whole {
		return nil, nil
	}
	return packEntries(entries, q.After, n.cfg.Text), nil
}

// between returns the events of a range, whole if this channel would give them to a
// client of its own that has what is before them, without reading anything, and if
// they are not too many for an answer.
func (ch *Channel) between(q *question) (entries []Entry, whole bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	end := ch.sequencer.End()
	if ch.closed || ch.Line().text != q.Line || end < q.UpTo || q.After < ch.unsettled || !ch.ring.Covers(q.After, end) {
		return nil, false
	}
	bytes := 0
	for _, e := range ch.ring.After(q.After) {
		if e.Sequence > q.UpTo {
			break
		}
		if bytes += len(e.Frame); bytes > answerBytes {
			return nil, false
		}
		entries = append(entries, e)
	}
	return entries, true
}

// askOthers asks whether another node, which has followed the channel for longer, has
// all events above a claim and up to where this node's begin. What it has is as
// whole as what it gives to clients of its own. Who has none, or more than one replay
// may hold, leaves it to the stream.
func (c *Catchup) askOthers(ctx context.Context, after, upTo uint64) (events []broker.Event, whole bool) {
	ch := c.ch
	others := ch.node.cfg.Others
	if others == nil {
		return nil, false
	}
	text, err := json.Marshal(question{App: ch.ref.App, Channel: ch.ref.Channel, Line: c.line, After: after, UpTo: upTo})
	if err != nil {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(ctx, othersTimeout)
	defer cancel()
	answer := others.AskAny(ctx, text)
	if answer == nil {
		return nil, false
	}
	events, err = unpackEvents(answer, after, upTo)
	return events, err == nil && ch.bounds.hold(events)
}

// hold reports whether one replay may have as many events.
func (b Bounds) hold(events []broker.Event) bool {
	bytes := 0
	for i := range events {
		bytes += len(events[i].Frame)
	}
	return len(events) <= b.Events && bytes <= b.Bytes
}
