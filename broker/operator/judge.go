package operator

import (
	"fmt"
	"slices"
	"strings"

	"reecho/broker"
)

// judge says what is wrong.
func (s *Status) judge() {
	s.Problems = append(s.problems(), s.miscounted()...)
	s.Healthy = len(s.Problems) == 0
}

// problems are what is wrong, in words, but for what some nodes are or have.
func (s *Status) problems(without ...string) []string {
	problems := []string{}
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if s.Leader == "" {
		add("there is no majority: %s; nothing is stored until more nodes are there; if the others are gone for good: reecho cluster rescue", s.presence())
	}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if text := n.problem(s.Leader != ""); text != "" && !slices.Contains(without, n.Name) {
			problems = append(problems, text)
		}
	}
	for i := range s.Streams {
		problems = append(problems, s.streamProblems(&s.Streams[i], without)...)
	}
	return problems
}

// presence says who of the members is there.
func (s *Status) presence() string {
	var there, gone []string
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.Alive {
			there = append(there, n.Name)
		} else {
			gone = append(gone, n.Name)
		}
	}
	if len(gone) == 0 {
		return strings.Join(there, ", ") + " answer, and have not agreed on who leads"
	}
	return fmt.Sprintf("%s of %d answers, not %s", strings.Join(there, ", "), len(s.Nodes), strings.Join(gone, ", "))
}

// problem is what is wrong with a node; elected: its cluster has a majority.
func (n *Node) problem(elected bool) string {
	switch {
	case !n.Alive && elected:
		return fmt.Sprintf("node %s does not answer: start it, or if it is gone for good: reecho cluster replace %s", n.Name, n.Name)
	case !n.Alive:
		return fmt.Sprintf("node %s does not answer: start it", n.Name)
	case !n.Member:
		// nats-server, raft.go, peerRemoveTimeout.
		return fmt.Sprintf("node %s runs and is not a member yet; one whose name was taken out is let in again after five minutes", n.Name)
	case elected && !n.Current:
		return fmt.Sprintf("node %s does not know yet what was decided while it was away", n.Name)
	case !n.Ready:
		return fmt.Sprintf("node %s is not ready: %s", n.Name, n.Reason)
	}
	return ""
}

// streamProblems are what is wrong with a stream, but for its copies on some nodes.
func (s *Status) streamProblems(stream *Stream, without []string) (problems []string) {
	add := func(format string, args ...any) {
		problems = append(problems, "stream "+stream.Name+" "+fmt.Sprintf(format, args...))
	}
	if stream.Leader == "" && s.Leader != "" {
		add("has no leader: an election runs, or a majority of its copies is gone")
	}
	if s.Leader == "" {
		return problems // nobody knows who has what
	}
	for _, c := range stream.Copies {
		switch {
		case slices.Contains(without, c.Node):
		case !c.Alive:
			add("has a copy on %s, which does not answer", c.Node)
		case !c.Current:
			add("is behind on %s, which is catching up", c.Node)
		}
	}
	// Where there are too few nodes, new ones get the copies that are missing.
	if n, want := len(stream.Copies), min(stream.Replicas, len(s.members())); n < want || n > stream.Replicas {
		add("has %d of %d copies", n, want)
	} else if stream.changes && len(without) == 0 {
		add("is being moved")
	}
	return problems
}

// miscounted says which streams have not as many copies as they should: as many as the
// others, if no rule of retention says another number, and more than one.
func (s *Status) miscounted() (problems []string) {
	if n := len(s.members()); s.Leader != "" && n < s.Copies && s.allThere() {
		problems = append(problems, fmt.Sprintf("%d nodes are there and each event is to be on %d: start new ones with empty data folders, and reecho cluster add each", n, s.Copies))
	}
	if s.Copies == 1 {
		problems = append(problems, "each event is on one node alone: with three nodes there, reecho cluster scale 3")
	}
	for i := range s.Streams {
		if stream := &s.Streams[i]; stream.Replicas != s.Copies && !s.ruled(stream.Name) {
			problems = append(problems, fmt.Sprintf("stream %s is to have %d copies and others have %d: reecho cluster scale %d", stream.Name, stream.Replicas, s.Copies, max(s.Copies, 3)))
		}
	}
	return problems
}

// allThere reports whether all members answer.
func (s *Status) allThere() bool {
	return !slices.ContainsFunc(s.Nodes, func(n Node) bool { return n.Member && !n.Alive })
}

// ruled reports whether a rule of retention says how many copies a stream has.
func (s *Status) ruled(stream string) bool {
	return slices.ContainsFunc(s.reports, func(r broker.Report) bool { return r.Streams[stream].Replicas > 0 })
}

// healthy refuses unless all is well, but for what some nodes are or have.
func (s *Status) healthy(without ...string) error {
	problems := s.problems(without...)
	if len(problems) == 0 {
		return nil
	}
	return refused("the cluster has to be healthy first:\n  - %s", strings.Join(problems, "\n  - "))
}

// members are the names of the members that are there.
func (s *Status) members() (names []string) {
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.Member && n.Alive {
			names = append(names, n.Name)
		}
	}
	return names
}

// on are the streams with a copy on a node.
func (s *Status) on(node string) (streams []*Stream) {
	for i := range s.Streams {
		if slices.ContainsFunc(s.Streams[i].Copies, func(c Copy) bool { return c.Node == node }) {
			streams = append(streams, &s.Streams[i])
		}
	}
	return streams
}
