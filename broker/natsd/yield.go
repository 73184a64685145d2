package natsd

import (
	"context"
	"errors"
	"fmt"

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
	names, err := s.opened(ctx)
	if err != nil {
		return err
	}
	var problems []error
	for _, name := range names {
		if !i.ns.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, name) {
			continue
		}
		if err := i.ns.JetStreamStepdownStream(server.DEFAULT_GLOBAL_ACCOUNT, name); err != nil {
			problems = append(problems, fmt.Errorf("give up the lead of stream %s: %w", name, err))
		}
	}
	if i.ns.JetStreamIsLeader() {
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
