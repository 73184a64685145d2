package natsd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Yield has other servers of the mesh lead what this one leads, as far as they can:
// a stream whose leader ends without it stores nothing until it is missed. It does
// nothing for a server that is alone.
func (s *Server) Yield(ctx context.Context) error {
	s.mu.Lock()
	i := s.current
	s.mu.Unlock()
	if s.cfg.Mesh == nil || i == nil {
		return nil
	}
	// Without a majority nobody answers, and there is nobody to yield to.
	ctx, cancel := context.WithTimeout(ctx, yieldTimeout)
	defer cancel()
	names, err := s.opened(ctx)
	if err != nil {
		return err
	}
	for {
		// Who is chosen may be this one again, if the others are behind.
		err := s.yield(ctx, i.ns, names)
		if !leads(i.ns, names) {
			return nil
		}
		select {
		case <-time.After(yieldPause):
		case <-ctx.Done():
			return errors.Join(err, fmt.Errorf("give up what this server leads: %w", ctx.Err()))
		}
	}
}

const (
	yieldTimeout = 3 * time.Second
	yieldPause   = 100 * time.Millisecond
)

func leads(ns *server.Server, streams []string) bool {
	return ns.JetStreamIsLeader() || slices.ContainsFunc(streams, func(name string) bool {
		return ns.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, name)
	})
}

// yield asks for another leader of each stream that ns leads, and of the cluster.
func (s *Server) yield(ctx context.Context, ns *server.Server, streams []string) error {
	var problems []error
	for _, name := range streams {
		if !ns.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, name) {
			continue
		}
		if err := ns.JetStreamStepdownStream(server.DEFAULT_GLOBAL_ACCOUNT, name); err != nil {
			problems = append(problems, fmt.Errorf("give up the lead of stream %s: %w", name, err))
		}
	}
	if ns.JetStreamIsLeader() {
		_, err := s.askSystem(ctx, "$JS.API.META.LEADER.STEPDOWN", nil)
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// askSystem asks what is of all accounts.
func (s *Server) askSystem(ctx context.Context, subject string, question []byte) ([]byte, error) {
	nc, err := s.Connect(s.in.of(systemUser))
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	m, err := nc.RequestWithContext(ctx, subject, question)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", subject, err)
	}
	return m.Data, nil
}
