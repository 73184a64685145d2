package operator

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"reecho/broker"
)

// Outcome is what a command has done. Its JSON is stable.
type Outcome struct {
	Done string `json:"done"`
	// Next is what is left to do for the operator.
	Next []string `json:"next"`
	// Status is how the cluster is then.
	Status *Status `json:"status"`
}

// Confirm asks whoever gave a command whether to do what it says, which cannot be
// undone. An error ends the command, before anything is changed.
type Confirm func(what string) error

// Add waits until a node that is new in the cluster belongs to it, and tells what is
// missing until then. Nothing but its start is needed for it to join.
func (o *Operator) Add(ctx context.Context, name string) (*Outcome, error) {
	end, s, err := o.prepare(ctx, "add "+name, name)
	if err != nil {
		return nil, err
	}
	defer end()
	if n := s.node(name); n != nil && n.Member && !n.Alive {
		return nil, refused("node %s is a member already and does not answer: start it, or reecho cluster replace %s", name, name)
	}
	if err := s.healthy(name); err != nil {
		return nil, err
	}
	if s, err = o.awaitNode(ctx, name); err != nil {
		return nil, err
	}
	next := []string{"name all nodes in cluster_peers of each node's configuration, for its next start"}
	if n := len(s.members()); s.Copies < 3 && n >= 3 {
		next = append(next, "reecho cluster scale 3, for each event to be on three nodes")
	} else if s.Copies < 5 && n >= 5 {
		next = append(next, "reecho cluster scale 5, if each event is to be on five nodes")
	}
	return &Outcome{Done: fmt.Sprintf("node %s is one of the cluster", name), Next: next, Status: s}, nil
}

// prepareLooks is how often it is looked whether a cluster is healthy, lookPause apart: a
// node that has much to do answers late now and then.
const prepareLooks = 4

// prepare begins a command that changes the cluster, and looks how that is but for what
// some nodes are or have.
func (o *Operator) prepare(ctx context.Context, command string, without ...string) (end func(), s *Status, err error) {
	if end, err = o.begin(ctx, command); err != nil {
		return nil, nil, err
	}
	for range prepareLooks {
		if s, err = o.Status(ctx); err != nil || len(s.problems(without...)) == 0 || broker.Pause(ctx, lookPause) != nil {
			break
		}
	}
	if err != nil {
		end()
		return nil, nil, err
	}
	return end, s, nil
}

// awaitNode waits until a node is there and all is well, but for what is of others.
func (o *Operator) awaitNode(ctx context.Context, name string, without ...string) (*Status, error) {
	return o.await(ctx, func(s *Status) string {
		n := s.node(name)
		if n == nil || !n.Alive {
			return fmt.Sprintf("node %s has to be started now, with an empty data folder, node_name %s, cluster_name %s, and all nodes in cluster_peers", name, name, s.Cluster)
		}
		return strings.Join(s.problems(without...), "; ")
	})
}

// Remove takes a node that was stopped, and does not come back, out of the cluster:
// what it had is copied to others, if there are enough.
func (o *Operator) Remove(ctx context.Context, name string, confirm Confirm) (*Outcome, error) {
	end, s, err := o.prepare(ctx, "remove "+name, name)
	if err != nil {
		return nil, err
	}
	defer end()
	n, err := s.gone(name)
	if err != nil {
		return nil, err
	}
	left := len(s.members())
	for _, stream := range s.on(name) {
		if stream.Replicas > left {
			return nil, refused("stream %s has %d copies and %d nodes would be left: start another node and use reecho cluster replace %s NEW, or reecho cluster scale first", stream.Name, stream.Replicas, left, name)
		}
	}
	if err := confirm(fmt.Sprintf("Node %s is taken out of cluster %s. It must not be started again with the data folder that it has.", name, s.Cluster)); err != nil {
		return nil, err
	}
	s, err = o.removeMember(ctx, *n)
	if err != nil {
		return nil, err
	}
	return &Outcome{
		Done:   fmt.Sprintf("node %s is taken out of the cluster, %d nodes are left", name, len(s.members())),
		Next:   []string{"take " + name + " out of cluster_peers of each node's configuration, for its next start", "remove the data folder of " + name},
		Status: s,
	}, nil
}

// gone finds a member that does not answer, of which nothing is needed. Else it is
// refused.
func (s *Status) gone(name string) (*Node, error) {
	n := s.node(name)
	switch {
	case n == nil:
		return nil, refused("there is no node %s: %s", name, s.presence())
	case n.Alive:
		return nil, refused("node %s runs: stop it first", name)
	}
	if err := s.healthy(name); err != nil {
		return nil, err
	}
	for _, stream := range s.on(name) {
		if len(stream.Copies) == 1 {
			return nil, refused("node %s has the only copy of stream %s: start it again", name, stream.Name)
		}
	}
	return n, nil
}

// codeNoMember is the answer that a server is no member (nats-server, errors.json,
// JSClusterServerNotMemberErr).
const codeNoMember jetstream.ErrorCode = 10044

// removeMember takes a member out and waits until others have what it had.
func (o *Operator) removeMember(ctx context.Context, n Node) (*Status, error) {
	o.progress.Say("taking node " + n.Name + " out")
	if err := o.dropMember(ctx, n); err != nil {
		return nil, err
	}
	return o.await(ctx, func(s *Status) string {
		if s.node(n.Name) != nil {
			return "node " + n.Name + " is still a member"
		}
		return strings.Join(s.problems(), "; ")
	})
}

// dropMember has the cluster not count with a member any more.
func (o *Operator) dropMember(ctx context.Context, n Node) error {
	request := map[string]string{"peer_id": n.id}
	if n.id == "" {
		request = map[string]string{"peer": n.Name}
	}
	err := ask(ctx, o.system, api+"SERVER.REMOVE", request, nil)
	var answer *jetstream.APIError
	if errors.As(err, &answer) && answer.ErrorCode == codeNoMember {
		return nil // by a try before, whose answer was lost
	}
	if err != nil {
		return fmt.Errorf("take node %s out of the cluster: %w", n.Name, err)
	}
	return nil
}

// Replace puts a node in the place of one that is gone for good. With the same name it
// waits for a new one of that name with an empty folder; else for the new one, and then
// takes the old one out.
func (o *Operator) Replace(ctx context.Context, name, by string, confirm Confirm) (*Outcome, error) {
	end, s, err := o.prepare(ctx, "replace "+name, name, by)
	if err != nil {
		return nil, err
	}
	defer end()
	if by == "" || by == name {
		return o.renewNode(ctx, s, name)
	}
	n := s.node(name)
	switch {
	case n == nil:
		return nil, refused("there is no node %s: %s", name, s.presence())
	case n.Alive:
		return nil, refused("node %s runs: stop it first", name)
	}
	if err := s.healthy(name, by); err != nil {
		return nil, err
	}
	if err := confirm(fmt.Sprintf("Node %s takes the place of node %s in cluster %s. %s must not be started again with the data folder that it has.", by, name, s.Cluster, name)); err != nil {
		return nil, err
	}
	if s, err = o.awaitNode(ctx, by, name); err != nil {
		return nil, err
	}
	// Again: it may have come back while the new one was waited for.
	if n, err = s.gone(name); err != nil {
		return nil, err
	}
	if s, err = o.removeMember(ctx, *n); err != nil {
		return nil, err
	}
	return &Outcome{
		Done:   fmt.Sprintf("node %s is in the place of node %s and has all that it had", by, name),
		Next:   []string{"put " + by + " in the place of " + name + " in cluster_peers of each node's configuration, for its next start", "remove the data folder of " + name},
		Status: s,
	}, nil
}

// renewNode waits for a node that begins anew under its old name. An empty node votes for
// anybody, so all others have to be there with all that is stored before it does.
func (o *Operator) renewNode(ctx context.Context, s *Status, name string) (*Outcome, error) {
	n := s.node(name)
	switch {
	case n == nil:
		return nil, refused("there is no node %s: %s", name, s.presence())
	case n.Alive && len(s.problems()) == 0:
		return nil, refused("node %s is there and well: to replace its disk, stop it and empty its data folder first", name)
	case !n.Alive:
		if _, err := s.gone(name); err != nil {
			return nil, err
		}
	}
	if err := s.healthy(name); err != nil {
		return nil, err
	}
	s, err := o.awaitNode(ctx, name)
	if err != nil {
		return nil, err
	}
	return &Outcome{Done: fmt.Sprintf("node %s is back and has all that the others have", name), Next: []string{}, Status: s}, nil
}
