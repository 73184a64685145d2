package exchange

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"reecho/broker"
	"reecho/broker/cluster"
	"reecho/broker/presence"
)

const (
	// kind is that of the questions.
	kind = "parts"
	// maxAsked bounds the channels in one question, maxAnswer about the bytes of the
	// parts in one answer; what has no room is asked for again.
	maxAsked  = 512
	maxAnswer = 1 << 20
	// againPause is how long a node that did not answer is left in peace.
	againPause = 100 * time.Millisecond
)

// question asks for the parts of channels that have another version.
type question []asked

type asked struct {
	App     string `json:"a"`
	Channel string `json:"c"`
	Have    uint64 `json:"h,omitempty"`
}

// answer is the parts of the first channels of a question, without those of which the
// asker has the version.
type answer struct {
	Read  int    `json:"r"`
	Parts []part `json:"p,omitempty"`
}

// part is one of them.
type part struct {
	Index int            `json:"i"`
	Delta presence.Delta `json:"d"`
}

func (q question) text() []byte {
	text, err := encode(q)
	if err != nil {
		// Encoding strings and numbers cannot fail.
		panic(err)
	}
	return text
}

func readAnswer(text []byte) (a answer, err error) {
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("read the parts of a node: %w", err)
	}
	return a, nil
}

// asker is what one other node is to be asked. One question is under way at a time:
// what is wanted meanwhile is asked together.
type asker struct {
	waiting map[broker.Ref][]func()
	// failing: it did not answer when it was asked last. Nobody waits for it then,
	// or a client with many channels would do so for each of them.
	failing bool
}

// errand is a channel to be asked about; done are called when that is over.
type errand struct {
	ref  broker.Ref
	done []func()
}

func (e *errand) finish() {
	for _, f := range e.done {
		f()
	}
}

// want has a node asked for its part of a channel. Each done is called when the part is
// there, or is not worth to wait for.
func (x *Exchange) want(ref broker.Ref, life string, done ...func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		e := errand{ref, done}
		e.finish()
		return
	}
	a := x.askers[life]
	if a == nil {
		a = &asker{waiting: make(map[broker.Ref][]func())}
		x.askers[life] = a
		x.tasks.Go(func() { x.ask(life, a) })
	}
	a.add(errand{ref, done})
}

func (a *asker) add(e errand) {
	if a.failing {
		e.finish()
		e.done = nil
	}
	a.waiting[e.ref] = append(a.waiting[e.ref], e.done...)
}

// ask asks a node until nothing is wanted of it any more, or it is gone.
func (x *Exchange) ask(life string, a *asker) {
	for {
		errands := x.next(life, a)
		if len(errands) == 0 {
			return
		}
		left, err := x.askFor(life, errands)
		x.putBack(a, left, err != nil)
		if err == nil {
			continue
		}
		x.log.Debug("a node did not tell its parts", slog.Any("error", err))
		select {
		case <-time.After(againPause):
		case <-x.ctx.Done():
		}
	}
}

// next takes what to ask next; nothing is the end of the asker.
func (x *Exchange) next(life string, a *asker) (errands []errand) {
	x.mu.Lock()
	defer x.mu.Unlock()
	over := x.ctx.Err() != nil || !x.nodes.Alive(life)
	for ref, done := range a.waiting {
		e := errand{ref, done}
		if over {
			e.finish()
		} else {
			errands = append(errands, e)
		}
		delete(a.waiting, ref)
		if len(errands) == maxAsked {
			break
		}
	}
	if len(errands) == 0 {
		delete(x.askers, life)
	}
	return errands
}

func (x *Exchange) putBack(a *asker, errands []errand, failing bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	a.failing = failing
	for _, e := range errands {
		a.add(e)
	}
}

// askFor asks a node once, and returns what is left to ask. What comes to be wanted
// from here on is asked for again: the answer may be older.
func (x *Exchange) askFor(life string, errands []errand) (left []errand, err error) {
	q := make(question, 0, len(errands))
	asking := errands[:0]
	for _, e := range errands {
		have, followed := x.rooms.Have(e.ref, life)
		if !followed {
			e.finish()
			continue
		}
		q = append(q, asked{App: e.ref.App, Channel: e.ref.Channel, Have: have})
		asking = append(asking, e)
	}
	if len(q) == 0 {
		return nil, nil
	}
	text, err := x.nodes.Ask(x.ctx, cluster.ID{Name: life, Life: life}, kind, q.text())
	if err != nil {
		return asking, err
	}
	got, err := readAnswer(text)
	if err != nil {
		return asking, err
	}
	for _, p := range got.Parts {
		if p.Index >= 0 && p.Index < len(q) {
			x.apply(life, q[p.Index], p.Delta)
		}
	}
	read := min(max(got.Read, 0), len(q))
	for _, e := range asking[:read] {
		e.finish()
	}
	return asking[read:], nil
}

func (x *Exchange) apply(life string, q asked, d presence.Delta) {
	ref := broker.Ref{App: q.App, Channel: q.Channel}
	if x.rooms.Take(ref, life, d) {
		x.CompareWith(ref, life)
	}
}

// answer answers a question.
func (x *Exchange) answer(_ cluster.ID, text []byte) ([]byte, error) {
	var q question
	if err := json.Unmarshal(text, &q); err != nil {
		return nil, fmt.Errorf("read which parts are asked for: %w", err)
	}
	var a answer
	for size := 0; a.Read < len(q) && size < maxAnswer; a.Read++ {
		asked := &q[a.Read]
		d := x.rooms.Own(broker.Ref{App: asked.App, Channel: asked.Channel}, asked.Have)
		if d == nil {
			continue
		}
		size += d.Size()
		a.Parts = append(a.Parts, part{Index: a.Read, Delta: *d})
	}
	return encode(&a)
}
