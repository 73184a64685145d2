package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
)

// Headers of questions and answers.
const (
	headerKind  = "Kind"
	headerName  = "From-Name"
	headerLife  = "From-Life"
	headerError = "Error"
)

// asked answers a question. nats.go calls it one message at a time, so the answer is
// worked on by a goroutine of its own.
func (n *Nodes) asked(m *nats.Msg) {
	f := n.answers[m.Header.Get(headerKind)]
	from := ID{Name: m.Header.Get(headerName), Life: m.Header.Get(headerLife)}
	n.Go(func(context.Context) {
		reply := nats.Msg{Header: nats.Header{}}
		err := fmt.Errorf("nobody here knows %q", m.Header.Get(headerKind))
		if f != nil {
			reply.Data, err = f(from, m.Data)
		}
		if err != nil {
			reply.Header.Set(headerError, err.Error())
		}
		// Who does not hear of it asks again, or does without.
		reply.Subject = n.relay + m.Reply
		_ = n.nc.PublishMsg(&reply)
	})
}

// Ask asks one node, which answers at once or has gone.
func (n *Nodes) Ask(ctx context.Context, id ID, kind string, question []byte) (answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	m, err := n.request(ctx, "", id, kind, question)
	if n.relay != "" && errors.Is(err, nats.ErrNoResponders) {
		if m, err = n.request(ctx, n.relay, id, kind, question); err != nil && !n.Alive(id.Life) {
			err = nats.ErrNoResponders
		}
	}
	if err == nil && m.Header.Get(headerError) != "" {
		err = errors.New(m.Header.Get(headerError))
	}
	if err != nil {
		return nil, fmt.Errorf("ask node %s for %s: %w", id.Name, kind, err)
	}
	return m.Data, nil
}

// request asks over a relay, "" for none. Without one that nobody is there is answered
// at once.
func (n *Nodes) request(ctx context.Context, relay string, id ID, kind string, question []byte) (*nats.Msg, error) {
	return n.nc.RequestMsgWithContext(ctx, &nats.Msg{
		Subject: relay + askRoot + id.Life, Data: question,
		Header: nats.Header{headerKind: {kind}, headerName: {n.self.Name}, headerLife: {n.self.Life}},
	})
}

// AskAll asks all other nodes that are alive, at once. The error is that of those
// that have not answered, whose answers are missing.
func (n *Nodes) AskAll(ctx context.Context, kind string, question []byte) (map[ID][]byte, error) {
	var (
		mu       sync.Mutex
		answers  = make(map[ID][]byte)
		problems []error
		asking   sync.WaitGroup
	)
	for _, p := range n.Peers() {
		asking.Go(func() {
			answer, err := n.Ask(ctx, p.ID, kind, question)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				problems = append(problems, err)
				return
			}
			answers[p.ID] = answer
		})
	}
	asking.Wait()
	return answers, errors.Join(problems...)
}

// Poll asks all nodes of a cluster, for somebody who is none of them and is connected by
// nc, and returns what was answered when enough have, or ctx has ended. Nodes that
// could not answer are left out.
func Poll(ctx context.Context, nc *nats.Conn, kind string, question []byte, enough int) ([][]byte, error) {
	inbox := nats.NewInbox()
	answers, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("ask all nodes for %s: %w", kind, err)
	}
	defer func() { _ = answers.Unsubscribe() }()
	m := &nats.Msg{Subject: askAll, Reply: inbox, Data: question, Header: nats.Header{headerKind: {kind}}}
	if err := nc.PublishMsg(m); err != nil {
		return nil, fmt.Errorf("ask all nodes for %s: %w", kind, err)
	}
	var all [][]byte
	for len(all) < enough {
		m, err := answers.NextMsgWithContext(ctx)
		if err != nil {
			break // the rest does not answer
		}
		if m.Header.Get(headerError) == "" && len(m.Data) > 0 {
			all = append(all, m.Data)
		}
	}
	return all, nil
}
