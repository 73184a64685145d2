package operator

import (
	"slices"
	"strings"
	"testing"

	"reecho/broker"
)

// wellStatus is that of three nodes with one stream of each kind.
func wellStatus() *Status {
	s := &Status{Cluster: "live", Leader: "a", Copies: 3}
	for _, name := range []string{"a", "b", "c"} {
		s.Nodes = append(s.Nodes, Node{Name: name, Member: true, Alive: true, Current: true, Ready: true})
	}
	for _, name := range []string{"EVENTS-0", "STORE-sessions"} {
		stream := Stream{Name: name, Leader: "b", Replicas: 3}
		for _, node := range []string{"a", "b", "c"} {
			stream.Copies = append(stream.Copies, Copy{Node: node, Alive: true, Current: true})
		}
		s.Streams = append(s.Streams, stream)
	}
	return s
}

// kill has a node not answer.
func (s *Status) kill(name string) {
	n := s.node(name)
	n.Alive, n.Ready, n.Current = false, false, false
	for i := range s.Streams {
		for j := range s.Streams[i].Copies {
			if c := &s.Streams[i].Copies[j]; c.Node == name {
				c.Alive, c.Current = false, false
			}
		}
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		edit    func(*Status)
		without string
		want    []string // parts of the problems in order; none: it is well
	}{
		"well": {func(*Status) {}, "", nil},
		"a node is gone": {func(s *Status) { s.kill("c") }, "", []string{
			"node c does not answer: start it, or if it is gone for good: reecho cluster replace c", "stream EVENTS-0 has a copy on c", "stream STORE-sessions has a copy on c",
		}},
		"but for that":     {func(s *Status) { s.kill("c") }, "c", nil},
		"another is gone":  {func(s *Status) { s.kill("c"); s.kill("b") }, "c", []string{"node b does not answer", "EVENTS-0 has a copy on b", "STORE-sessions has a copy on b"}},
		"no majority":      {func(s *Status) { s.kill("b"); s.kill("c"); s.Leader = "" }, "", []string{"a of 3 answers, not b, c", "node b does not answer: start it", "node c"}},
		"an election":      {func(s *Status) { s.Leader = "" }, "", []string{"a, b, c answer, and have not agreed on who leads"}},
		"not ready":        {func(s *Status) { s.node("b").Ready, s.node("b").Reason = false, "full" }, "", []string{"node b is not ready: full"}},
		"it joins":         {func(s *Status) { s.node("b").Member = false }, "", []string{"node b runs and is not a member yet"}},
		"behind":           {func(s *Status) { s.Streams[0].Copies[2].Current = false }, "", []string{"stream EVENTS-0 is behind on c"}},
		"behind elsewhere": {func(s *Status) { s.Streams[0].Copies[1].Current = false }, "c", []string{"stream EVENTS-0 is behind on b"}},
		"no leader":        {func(s *Status) { s.Streams[0].Leader = "" }, "", []string{"stream EVENTS-0 has no leader"}},
		"a copy less":      {func(s *Status) { s.Streams[0].Copies = s.Streams[0].Copies[:2] }, "", []string{"stream EVENTS-0 has 2 of 3 copies"}},
	} {
		s := wellStatus()
		tt.edit(s)
		var without []string
		if tt.without != "" {
			without = []string{tt.without}
		}
		got := s.problems(without...)
		if !slices.EqualFunc(got, tt.want, strings.Contains) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

// How many copies there are is told of, but a rule of retention may say it for itself.
func TestCopies(t *testing.T) {
	t.Parallel()
	s := wellStatus()
	s.Streams[1].Replicas = 1
	s.judge()
	if s.Healthy || !strings.Contains(s.Problems[len(s.Problems)-1], "stream STORE-sessions is to have 1 copies and others have 3: reecho cluster scale 3") {
		t.Errorf("got %q", s.Problems)
	}
	s = wellStatus()
	s.Streams[0].Replicas, s.Streams[0].Copies = 1, s.Streams[0].Copies[:1]
	s.reports = []broker.Report{{Streams: map[string]broker.StreamReport{"EVENTS-0": {Replicas: 1}}}}
	if s.judge(); !s.Healthy {
		t.Errorf("got %q", s.Problems)
	}
	s.kill("a")
	if _, err := s.gone("a"); err == nil || !strings.Contains(err.Error(), "node a has the only copy of stream EVENTS-0") {
		t.Errorf("the node with the only copy: %v", err)
	}
	s.kill("b")
	if _, err := s.gone("a"); err == nil || !strings.Contains(err.Error(), "healthy first") {
		t.Errorf("a second node that is gone: %v", err)
	}
}
