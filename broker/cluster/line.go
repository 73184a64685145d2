package cluster

import (
	"context"
	"errors"
	"sync"

	"github.com/nats-io/nats.go"
)

// Line is what questions of one kind go over, to nodes that are known by their life.
type Line struct {
	nodes *Nodes
	kind  string
}

// Line returns that of a kind.
func (n *Nodes) Line(kind string) *Line { return &Line{n, kind} }

// Name is this node's, the same in each of its lives.
func (l *Line) Name() string { return l.nodes.self.Name }

// Life names this life of the node.
func (l *Line) Life() string { return l.nodes.self.Life }

// Ask asks a node that is in a life. there is false if nobody is; the error is that it
// has not answered within a second, or that it could not.
func (l *Line) Ask(ctx context.Context, life string, question []byte) (answer []byte, there bool, err error) {
	if l.nodes.nc == nil {
		return nil, false, nil
	}
	answer, err = l.nodes.Ask(ctx, ID{Life: life}, l.kind, question)
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, false, nil
	}
	return answer, true, err
}

// AskAny asks all other nodes that are alive at once, and returns the first answer that
// is not empty; nil: none has one, or has answered before ctx ended.
func (l *Line) AskAny(ctx context.Context, question []byte) (answer []byte) {
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	peers := l.nodes.Peers()
	answers := make(chan []byte, len(peers))
	for _, p := range peers {
		asking.Go(func() {
			// Who does not answer has no answer.
			answer, _ := l.nodes.Ask(ctx, p.ID, l.kind, question)
			answers <- answer
		})
	}
	for range peers {
		if answer := <-answers; len(answer) > 0 {
			return answer
		}
	}
	return nil
}

// Answer calls f for each question, of several at once. It must be called before
// Nodes.Start, and f must not wait for other nodes.
func (l *Line) Answer(f func(question []byte) (answer []byte, err error)) {
	l.nodes.Answer(l.kind, func(_ ID, question []byte) ([]byte, error) { return f(question) })
}
