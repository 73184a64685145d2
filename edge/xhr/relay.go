package xhr

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"reecho/broker"
	"reecho/broker/cluster"
	"reecho/edge/pusher"
	"reecho/edge/socket"
)

const (
	// relayedBodies is how many bodies above smallBody a node has on their way to others
	// at once; more wait unread. Small ones wait for nobody: they cost no more than
	// their connections, and slow senders of large ones would be in their way.
	relayedBodies = 64
	smallBody     = 4 << 10
	// relayedBytes is how much of an answer goes to another node at once.
	relayedBytes = 128 << 10
	// relayPause is when a node that was busy is asked again, relayWait for how long it
	// tries itself to find room.
	relayPause = 50 * time.Millisecond
	relayWait  = 500 * time.Millisecond
	// findTimeout is for how long nodes are asked whether they have a session.
	findTimeout = 300 * time.Millisecond
)

// relay carries requests to the node that has their session, and its answers back:
// a balancer need not know which it is. The session is served there, as if the request
// had come to it; here the request takes what comes. It is safe for concurrent use.
type relay struct {
	handler *Handler
	nodes   *cluster.Nodes
	line    *cluster.Line
	log     *slog.Logger
	bodies  chan struct{} // one for each large body on its way
	numbers atomic.Uint64 // of receivers whose requests came here

	mu      sync.Mutex
	leaving chan struct{} // closed by leave
	left    bool
	here    map[string]*pipe              // whose requests came here, by number
	there   map[string]context.CancelFunc // of sessions here whose requests came to another node, by its life and number
}

// What nodes ask each other.
const (
	askFind   = "find"   // whether it has the session
	askSend   = "send"   // to take a body
	askLarge  = "large"  // to refuse one that is too large
	askServe  = "serve"  // to serve a receiver
	askWrite  = "write"  // to write a part of an answer
	askEnd    = "end"    // to end an answer
	askForget = "forget" // to serve a receiver no more: its client is gone
)

// What they answer; any other answer says what was wrong.
const (
	answerOK   = "ok"
	answerBusy = "busy" // ask again
	answerGone = "gone" // nobody is there
)

// question is the head of what a node asks; a body follows.
type question struct {
	Ask      string `json:"ask"`
	Session  string `json:"session,omitempty"` // sessionKey
	Life     string `json:"life,omitempty"`    // of the node that has the request
	Receiver string `json:"receiver,omitempty"`
	Poll     bool   `json:"poll,omitempty"`
	Part     uint64 `json:"part,omitempty"` // from 1 on: what is asked again was perhaps heard
}

func (q *question) append(body []byte) []byte {
	head, _ := json.Marshal(q) // strings and numbers
	return append(append(head, '\n'), body...)
}

func parseQuestion(text []byte) (q question, body []byte, err error) {
	head, body, found := bytes.Cut(text, []byte{'\n'})
	if !found {
		return q, nil, errors.New("a question without an end of its head")
	}
	if err := json.Unmarshal(head, &q); err != nil {
		return q, nil, fmt.Errorf("read the head of a question: %w", err)
	}
	return q, body, nil
}

func newRelay(h *Handler, nodes *cluster.Nodes, log *slog.Logger) *relay {
	l := &relay{
		handler: h, nodes: nodes, line: nodes.Line("xhr"), log: log, bodies: make(chan struct{}, relayedBodies), leaving: make(chan struct{}),
		here: make(map[string]*pipe), there: make(map[string]context.CancelFunc),
	}
	l.line.Answer(l.answer)
	return l
}

// leave ends the answers that come from other nodes: this one closes.
func (l *relay) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.left {
		l.left = true
		close(l.leaving)
	}
}

// find asks which node has a session, "" if none does.
func (l *relay) find(ctx context.Context, id string) (life string) {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	return string(l.line.AskAny(ctx, (&question{Ask: askFind, Session: id}).append(nil)))
}

// ask asks a node, which has gone if it does not answer.
func (l *relay) ask(ctx context.Context, life string, q *question, body []byte) (answer string, err error) {
	text, there, err := l.line.Ask(ctx, life, q.append(body))
	if !there {
		return answerGone, nil
	}
	return string(text), err
}

// answer answers a question of another node.
func (l *relay) answer(text []byte) ([]byte, error) {
	q, body, err := parseQuestion(text)
	if err != nil {
		return nil, err
	}
	switch q.Ask {
	case askWrite, askEnd:
		return []byte(l.take(&q, body)), nil
	case askForget:
		l.forget(q.Life + "/" + q.Receiver)
		return []byte(answerOK), nil
	}
	s := l.handler.find(q.Session)
	switch {
	case s == nil && q.Ask == askFind:
		return nil, nil
	case s == nil:
		return []byte(answerGone), nil
	}
	switch q.Ask {
	case askFind:
		return []byte(l.line.Life()), nil
	case askSend:
		return []byte(l.accept(s, body)), nil
	case askLarge:
		s.refuseSize()
		return []byte(answerOK), nil
	case askServe:
		l.serve(s, &q)
		return []byte(answerOK), nil
	}
	return nil, fmt.Errorf("nobody here knows %.20q", q.Ask)
}

// accept is what a session here says to a body.
func (l *relay) accept(s *session, body []byte) string {
	s.hear()
	ctx, cancel := context.WithTimeout(s.life, relayWait)
	defer cancel()
	err := s.reading.Lock(ctx)
	if err == nil {
		defer s.reading.Unlock()
		err = s.accept(ctx, body)
	}
	switch {
	case err == nil:
		return answerOK
	case !s.isOpen():
		return answerGone
	case ctx.Err() != nil:
		return answerBusy
	case errors.Is(err, errTooLarge):
		s.refuseSize()
		return askLarge
	}
	return err.Error()
}

// send carries a request that brings messages, and reports false if no node has its
// session.
func (l *relay) send(w http.ResponseWriter, r *http.Request, id string) bool {
	life := l.find(r.Context(), id)
	if life == "" {
		return false
	}
	q := &question{Ask: askSend, Session: id}
	body, done, err := l.read(w, r)
	defer done()
	if errors.Is(err, errTooLarge) {
		q.Ask = askLarge
		_, _ = l.ask(r.Context(), life, q, nil) // who does not hear it has lost its client soon
	}
	if err == nil {
		err = l.bring(r.Context(), life, q, body)
	}
	answerSend(w, err, &l.handler.cfg)
	return true
}

// read reads a body; done is called when it has been brought.
func (l *relay) read(w http.ResponseWriter, r *http.Request) (body []byte, done func(), err error) {
	done = func() {}
	if r.ContentLength > int64(l.handler.cfg.maxBody()) {
		return nil, done, errTooLarge
	}
	body, err = io.ReadAll(io.LimitReader(r.Body, smallBody))
	if err != nil || len(body) < smallBody {
		return body, done, err
	}
	select {
	case l.bodies <- struct{}{}:
		done = func() { <-l.bodies }
	case <-r.Context().Done():
		return nil, done, r.Context().Err()
	}
	rest, err := readBody(w, r, &l.handler.cfg)
	return append(body, rest...), done, err
}

// bring asks a node to take a body until it has. The errors are those of
// session.receiveBody.
func (l *relay) bring(ctx context.Context, life string, q *question, body []byte) error {
	for {
		answer, err := l.ask(ctx, life, q, body)
		switch {
		case err != nil:
			// It may have taken it. A client cannot do anything but wait either.
			l.log.Debug("a node did not say whether it took what a client sent", slog.Any("error", err))
			return nil
		case answer == answerOK:
			return nil
		case answer == answerGone:
			return socket.ErrClosed
		case answer == askLarge:
			return errTooLarge
		case answer != answerBusy:
			return errors.New(answer)
		}
		if broker.Pause(ctx, relayPause) != nil {
			return socket.ErrClosed
		}
	}
}

// serve serves a receiver whose request came to another node.
func (l *relay) serve(s *session, q *question) {
	ctx, stop := context.WithCancel(s.life)
	name := q.Life + "/" + q.Receiver
	l.mu.Lock()
	l.there[name] = stop
	l.mu.Unlock()
	l.nodes.Go(func(life context.Context) {
		defer context.AfterFunc(life, stop)()
		defer l.forget(name)
		o := &remote{relay: l, life: q.Life, receiver: q.Receiver, stop: stop}
		if err := s.serve(ctx, newReceiver(o, q.Poll, nil)); err != nil {
			l.log.Debug("a receiver on another node is lost", slog.Any("error", err))
		}
		ending, cancel := context.WithTimeout(life, s.cfg.WriteTimeout)
		defer cancel()
		_ = o.ask(ending, askEnd, nil) // who does not hear it has lost its client, or us
	})
}

func (l *relay) forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if stop := l.there[name]; stop != nil {
		stop()
		delete(l.there, name)
	}
}

// remote is the answer to a request that came to another node.
type remote struct {
	relay    *relay
	life     string
	receiver string
	part     uint64 // the last one
	stop     context.CancelFunc
}

var _ out = (*remote)(nil)

// begin does nothing: the node with the request has.
func (o *remote) begin() {}

func (o *remote) interrupt() { o.stop() }

func (o *remote) write(ctx context.Context, part []byte, progress func()) error {
	for chunk := range slices.Chunk(part, relayedBytes) {
		if err := o.ask(ctx, askWrite, chunk); err != nil {
			return err
		}
		progress()
	}
	return nil
}

// ask asks until the next part is taken: the client takes it there at its pace.
func (o *remote) ask(ctx context.Context, what string, part []byte) error {
	o.part++
	q := &question{Ask: what, Receiver: o.receiver, Part: o.part}
	for {
		answer, err := o.relay.ask(ctx, o.life, q, part)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && answer == answerOK:
			return nil
		case err == nil && answer != answerBusy, err != nil && !o.relay.nodes.Alive(o.life):
			return socket.ErrLost
		}
		if err := broker.Pause(ctx, relayPause); err != nil {
			return err
		}
	}
}

// pipe is a request here whose session another node has.
type pipe struct {
	parts chan []byte // capacity 1; nil is the end; never closed

	// Guarded by relay.mu.
	taken uint64 // the last part
}

// take takes a part of an answer, or its end.
func (l *relay) take(q *question, part []byte) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.here[q.Receiver]
	switch {
	case p == nil:
		return answerGone
	case q.Part <= p.taken:
		return answerOK
	}
	if q.Ask == askEnd {
		part = nil
	}
	select {
	case p.parts <- part:
		p.taken = q.Part
		return answerOK
	default:
		return answerBusy
	}
}

// receive answers a request that receives with what the node sends that has its
// session, and reports false if none does.
func (l *relay) receive(w http.ResponseWriter, r *http.Request, id string, poll bool) bool {
	life := l.find(r.Context(), id)
	if life == "" {
		return false
	}
	number := strconv.FormatUint(l.numbers.Add(1), 10)
	p := &pipe{parts: make(chan []byte, 1)}
	l.mu.Lock()
	l.here[number] = p
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.here, number)
	}()
	q := &question{Ask: askServe, Session: id, Life: l.line.Life(), Receiver: number, Poll: poll}
	if answer, err := l.ask(r.Context(), life, q, nil); err != nil || answer != answerOK {
		return false
	}
	if !l.copy(w, r, life, p, poll) {
		q.Ask = askForget
		// Who does not hear it sees that nobody takes the next part.
		_, _ = l.ask(context.WithoutCancel(r.Context()), life, q, nil)
	}
	return true
}

// copy writes what comes for a request until its end, and reports false if that is not
// the other node's.
func (l *relay) copy(w http.ResponseWriter, r *http.Request, life string, p *pipe, poll bool) bool {
	o := newResponse(w, !poll)
	// There is no session here whose ticks would see that the client does not read.
	bear := func() { _ = o.control.SetWriteDeadline(time.Now().Add(l.handler.cfg.WriteTimeout)) }
	defer func() { _ = o.control.SetWriteDeadline(time.Time{}) }()
	write := func(part []byte) error { //nolint:contextcheck // it is the request's
		bear()
		return o.write(r.Context(), part, bear)
	}
	o.begin()
	looks := time.NewTicker(cluster.BeatPeriod)
	defer looks.Stop()
	for {
		select {
		case part := <-p.parts:
			if part == nil {
				return true
			}
			if write(part) != nil {
				return false
			}
		case <-looks.C:
			if !l.nodes.Alive(life) {
				return true
			}
		case <-l.leaving:
			// A poll comes back to another node and goes on; a stream ends with its session.
			end := []byte("h\n")
			if !poll {
				end = append(pusher.AppendClose(nil, pusher.CodeReconnect, "The server is shutting down, reconnect"), '\n')
			}
			_ = write(end) // the client may be gone
			return false
		case <-r.Context().Done():
			return false
		}
	}
}
