package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"reecho/broker"
	"reecho/broker/natsd"
)

// Rescue has the nodes that are left of a cluster be all of it, when a majority is lost
// for good. What they have is kept; what only lost nodes had is lost. If one of the
// others still runs, where this one does not reach it, there are two clusters
// afterwards: so it is refused if any answers.
func (o *Operator) Rescue(ctx context.Context, confirm Confirm) (*Outcome, error) {
	end, s, err := o.prepare(ctx, "rescue")
	if err != nil {
		return nil, err
	}
	defer end()
	if s.Leader != "" {
		return nil, refused("the cluster has a majority, which %s leads: use reecho cluster replace for a node that is lost", s.Leader)
	}
	if len(s.Streams) == 0 {
		return nil, refused("node %s has no events: use this where a node has them", o.access.Node)
	}
	left := s.members()
	var lost []Node
	for _, n := range s.Nodes {
		if n.Member && !n.Alive {
			lost = append(lost, n)
		}
	}
	if len(lost) == 0 {
		return nil, refused("all nodes answer (%s): they elect a leader by themselves, wait for it", strings.Join(left, ", "))
	}
	if err := o.checkLost(ctx, s); err != nil {
		return nil, err
	}
	if err := confirm(s.loss(left, lost)); err != nil {
		return nil, err
	}
	if err := o.lowerQuorum(ctx, len(left)); err != nil {
		return nil, err
	}
	if err := o.dropLost(ctx, lost); err != nil {
		return nil, err
	}
	if s, err = o.await(ctx, (*Status).unrescued); err != nil {
		return nil, err
	}
	return &Outcome{
		Done: fmt.Sprintf("%s is all of the cluster, with all that it had", strings.Join(left, ", ")),
		Next: []string{
			"make sure that the lost nodes never start again with the data folders that they had",
			"start new nodes with empty data folders, and reecho cluster add each: they get copies of all streams",
		},
		Status: s,
	}, nil
}

// checkLost refuses if any node but those that are there answers where the nodes of the
// cluster are.
func (o *Operator) checkLost(ctx context.Context, s *Status) error {
	var there []string
	for _, n := range s.Nodes {
		if n.Alive {
			there = append(there, n.Name)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	for _, addr := range o.access.Peers {
		if name := natsd.NameAt(ctx, addr); name != "" && !slices.Contains(there, name) {
			return refused("node %s answers at %s, so it is not lost: mend what is between it and node %s", name, addr, o.access.Node)
		}
	}
	return nil
}

// loss says what a rescue means.
func (s *Status) loss(left []string, lost []Node) string {
	names := make([]string, len(lost))
	for i := range lost {
		names[i] = lost[i].Name
	}
	var events uint64
	for i := range s.Streams {
		events += s.Streams[i].Events
	}
	return fmt.Sprintf(`Cluster %s goes on with %s alone, and counts no more with %s.
What %s has is kept: %d streams with %d events. What only the others had is lost for good.
If one of them still runs, or starts again with the data folder that it had, there are two clusters of one name, which differ.`,
		s.Cluster, strings.Join(left, ", "), strings.Join(names, ", "), strings.Join(left, ", "), len(s.Streams), events)
}

// codeRescue is the answer that a server cannot lower its majority now, for one as long
// as it believes in a leader (nats-server, errors.json, JSClusterRescueErr).
const codeRescue jetstream.ErrorCode = 10224

// electTimeout bounds the election among the nodes that are left, which takes a second,
// or ten where they were just started.
const electTimeout = time.Minute

// lowerQuorum has the servers that are left elect a leader among them.
func (o *Operator) lowerQuorum(ctx context.Context, votes int) error {
	o.progress.Say("electing a leader among the nodes that are left")
	ctx, cancel := context.WithTimeout(ctx, electTimeout)
	defer cancel()
	for {
		err := o.askQuorum(ctx, votes)
		if err == nil {
			break
		}
		var answer *jetstream.APIError
		if !errors.As(err, &answer) || answer.ErrorCode != codeRescue || broker.Pause(ctx, lookPause) != nil {
			return fmt.Errorf("have the nodes that are left be a majority: %w", err)
		}
	}
	for {
		s, _, err := o.look(ctx)
		if err == nil && s.Leader != "" {
			return nil
		}
		if broker.Pause(ctx, lookPause) != nil {
			return errors.Join(errors.New("the nodes that are left have not elected a leader"), err)
		}
	}
}

// askQuorum asks all servers that are left; one that lowers its majority is enough to
// begin with, and the error is that of all others.
func (o *Operator) askQuorum(ctx context.Context, votes int) error {
	inbox := nats.NewInbox()
	answers, err := o.system.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { _ = answers.Unsubscribe() }()
	if err := o.system.PublishRequest(api+"META.RESCUE", inbox, fmt.Appendf(nil, `{"quorum_needed":%d}`, votes)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	err = errors.New("no server answers")
	for done := false; ; {
		m, ended := next(ctx, answers, quietTime, done)
		if ended != nil {
			if done {
				return nil
			}
			return err
		}
		if !json.Valid(m.Data) {
			continue
		}
		if refusal := read(m.Data, nil); refusal != nil {
			err = refusal
		} else {
			done = true
		}
	}
}

// dropLost takes the lost nodes out, one after the other.
func (o *Operator) dropLost(ctx context.Context, lost []Node) error {
	for i, n := range lost {
		o.progress.Say("taking node " + n.Name + " out")
		o.progress.Count(int64(i), int64(len(lost)))
		if err := o.dropMember(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// unrescued says what is waited for after a rescue, "" for nothing.
func (s *Status) unrescued() string {
	if s.Leader == "" {
		return "the nodes that are left have no leader"
	}
	for i := range s.Nodes {
		if n := &s.Nodes[i]; !n.Alive {
			return "node " + n.Name + " is still counted with"
		}
	}
	for i := range s.Streams {
		stream := &s.Streams[i]
		if stream.Leader == "" {
			return "stream " + stream.Name + " has no leader"
		}
		for _, c := range stream.Copies {
			if !c.Alive || !c.Current {
				return fmt.Sprintf("stream %s counts with a copy on %s", stream.Name, c.Node)
			}
		}
	}
	return strings.Join(s.problems(), "; ")
}
