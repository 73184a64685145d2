package cluster

import (
	"context"
	"errors"

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

// Answer calls f for each question, of several at once. It must be called before
// Nodes.Start, and f must not wait for other nodes.
func (l *Line) Answer(f func(question []byte) (answer []byte, err error)) {
	l.nodes.Answer(l.kind, func(_ ID, question []byte) ([]byte, error) { return f(question) })
}
