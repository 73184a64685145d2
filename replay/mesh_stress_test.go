package replay_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/broker/brokertest/seed"
	"reecho/replay"
)

// stressVariable of the environment is for how long TestMeshStress runs.
const stressVariable = "REECHO_TEST_MESH"

const (
	stressTime     = 6 * time.Second
	stressChannels = 6
	stressPatience = 90 * time.Second
)

// stress is a mesh with publishers, followers and clients that come back by one node
// and another, while leaders step down and nodes stop and start.
type stress struct {
	t     *testing.T
	mesh  *brokertest.Mesh
	nodes []*stressNode

	mu        sync.Mutex
	acked     map[string]int      // by event: 1, or more if it was stored more often
	stored    []map[uint64]string // by channel: what is known to have been stored
	followers []follower
	resumes   []resume
	tally     map[string]int
}

// follower is what a channel delivered in one life of a node.
type follower struct {
	channel int
	began   uint64
	got     []uint64
}

// resume is an answer that says it is complete.
type resume struct {
	channel  int
	from, to uint64
	got      []uint64
	node     string
}

// stressNode is one node, in one life after the other.
type stressNode struct {
	*brokertest.MeshNode
	mu       sync.Mutex
	broker   *broker.Broker // nil while it is stopped
	replay   *replay.Node
	channels []*replay.Channel
	notes    []*audience
}

func newStress(t *testing.T) *stress {
	t.Helper()
	s := &stress{
		t: t, acked: make(map[string]int), tally: make(map[string]int),
		mesh: brokertest.StartFragileMesh(t, 3, broker.Config{Partitions: 2, EventsPerChannel: 1 << 20}),
	}
	for range stressChannels {
		s.stored = append(s.stored, make(map[uint64]string))
	}
	for _, n := range s.mesh.Nodes {
		node := &stressNode{MeshNode: n}
		s.nodes = append(s.nodes, node)
		s.begin(node)
	}
	return s
}

func stressRef(channel int) broker.Ref {
	return broker.Ref{App: app, Channel: fmt.Sprintf("match.%d", channel)}
}

// begin begins a life of a node that was started.
func (s *stress) begin(n *stressNode) {
	s.t.Helper()
	// What it keeps in memory is little, so that much is read from the log.
	r := replay.Open(replay.LogsOf(n.Broker), replay.Config{
		Memory: 2000, Sweep: 2 * time.Second, Frame: func(text []byte) []byte { return text }, Position: withPosition,
	}, silent)
	var channels []*replay.Channel
	var notes []*audience
	for c := range stressChannels {
		a := &audience{}
		ch := r.Channel(stressRef(c), replay.Bounds{Events: 1 << 20, Bytes: 1 << 30, EventBytes: 1 << 16}, a)
		if err := ch.Attach(s.t.Context()); err != nil {
			s.t.Errorf("follow %v on %s: %v", stressRef(c), n.Config.Name, err)
		}
		channels, notes = append(channels, ch), append(notes, a)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broker, n.replay, n.channels, n.notes = n.Broker, r, channels, notes
}

// end ends a life of a node, before it is stopped, and notes what it delivered.
func (s *stress) end(n *stressNode) {
	n.mu.Lock()
	r, notes := n.replay, n.notes
	n.broker, n.replay, n.channels, n.notes = nil, nil, nil, nil
	n.mu.Unlock()
	r.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, a := range notes {
		var got []uint64
		for _, ev := range a.events {
			got = append(got, ev.Sequence)
			s.storedLocked(c, ev.Sequence, string(ev.Frame))
		}
		if len(a.gaps) > 0 {
			s.t.Errorf("a follower of %v on %s was told of gaps: %v", stressRef(c), n.Config.Name, a.gaps)
		}
		s.followers = append(s.followers, follower{channel: c, began: a.began, got: got})
	}
}

func (s *stress) storedLocked(channel int, sequence uint64, event string) {
	if was, known := s.stored[channel][sequence]; known && was != event {
		s.t.Errorf("event %d of %v is %s for one, %s for another", sequence, stressRef(channel), was, event)
	}
	s.stored[channel][sequence] = event
}

func (s *stress) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally[what]++
}

// alive is the life of a node: a broker and its channels, ok false if it is stopped.
func (n *stressNode) alive() (b *broker.Broker, channels []*replay.Channel, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.broker, n.channels, n.broker != nil
}

// pace waits for up to d, false: it is over.
func pace(over <-chan struct{}, d time.Duration, rng *rand.Rand) bool {
	select {
	case <-time.After(time.Duration(rng.Int64N(int64(d)))):
		return true
	case <-over:
		return false
	}
}

// publish stores events until it is over.
func (s *stress) publish(over <-chan struct{}, name int, rng *rand.Rand) {
	for i := 0; pace(over, 2*time.Millisecond, rng); i++ {
		b, _, ok := s.nodes[rng.IntN(len(s.nodes))].alive()
		if !ok {
			continue
		}
		event := fmt.Sprintf("%d-%d", name, i)
		err := b.Publish(s.t.Context(), []broker.Record{{App: app, Channel: stressRef(rng.IntN(stressChannels)).Channel, Frame: []byte(event)}})
		switch {
		case err == nil:
			s.mu.Lock()
			s.acked[event] = 0
			s.mu.Unlock()
		case errors.Is(err, broker.ErrUnavailable), errors.Is(err, broker.ErrClosed):
			s.count("publishes refused")
		default:
			s.t.Errorf("publish: %v", err)
			return
		}
	}
}

// hop comes back by one node and another until ctx ends, with pauses in which it
// misses something.
func (s *stress) hop(ctx context.Context, rng *rand.Rand) {
	type place struct {
		position string
		at       uint64
		seen     time.Time
	}
	places := make([]place, stressChannels)
	for pace(ctx.Done(), 20*time.Millisecond, rng) {
		n, c := s.nodes[rng.IntN(len(s.nodes))], rng.IntN(stressChannels)
		_, channels, ok := n.alive()
		if !ok {
			continue
		}
		var req replay.Request
		p := &places[c]
		if p.position != "" {
			req = channels[c].After(p.position, p.seen)
		}
		req.Positions = true
		v := &visitor{text: make(map[uint64]string)}
		seen := time.Now()
		if err := replay.NewCatchup(channels[c], v, req).Run(ctx); err != nil {
			if ctx.Err() == nil {
				s.count("visits that failed")
			}
			continue
		}
		s.visited(n, c, p.at, v, p.position != "")
		p.position, p.at, p.seen = channels[c].Line().At(v.end).String(), v.end, seen
	}
}

// visited notes an answer.
func (s *stress) visited(n *stressNode, channel int, from uint64, v *visitor, back bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sequence, text := range v.text {
		s.storedLocked(channel, sequence, text)
	}
	switch reason := cmp.Or(v.out.Reason, v.late); {
	case !back:
	case reason != "":
		s.tally["gap "+string(reason)]++
	default:
		s.resumes = append(s.resumes, resume{channel: channel, from: from, to: v.end, got: v.got, node: n.Config.Name})
	}
}

// disturb has leaders step down and nodes stop and start again until it is over.
func (s *stress) disturb(over <-chan struct{}, rng *rand.Rand) {
	for round := 1; pace(over, 600*time.Millisecond, rng); round++ {
		if round%6 == 3 {
			n := s.nodes[rng.IntN(len(s.nodes))]
			s.count("nodes stopped")
			s.end(n)
			if round%12 == 9 {
				s.count("of them killed")
				s.mesh.Kill(n.MeshNode)
			} else {
				s.mesh.Stop(n.MeshNode)
			}
			s.mesh.Start(n.MeshNode)
			s.begin(n)
			continue
		}
		if err := s.mesh.StepDown(s.t.Context(), s.mesh.Nodes[0], fmt.Sprintf("EVENTS-%d", rng.IntN(2))); err == nil {
			s.count("leaders stepped down")
		}
	}
}

// settle waits until all followers have what is in the log, and ends the nodes.
func (s *stress) settle() {
	s.t.Helper()
	deadline := time.Now().Add(stressPatience)
	for c := range stressChannels {
		last, _, err := s.nodes[0].Log(stressRef(c)).Last(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		for _, n := range s.nodes {
			for n.notes[c].newest() != last.Sequence {
				if time.Now().After(deadline) {
					s.t.Fatalf("%s has %v up to %d, it goes up to %d", n.Config.Name, stressRef(c), n.notes[c].newest(), last.Sequence)
				}
				<-time.After(10 * time.Millisecond)
			}
		}
		s.readAll(c)
	}
	for _, n := range s.nodes {
		s.end(n)
	}
}

func (a *audience) newest() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.events) == 0 {
		return a.began
	}
	return a.events[len(a.events)-1].Sequence
}

// readAll takes down what is stored of a channel.
func (s *stress) readAll(channel int) {
	s.t.Helper()
	log := s.nodes[channel%3].Log(stressRef(channel))
	for from, more := uint64(1), true; more; {
		events, further, err := log.Read(s.t.Context(), from, 1000)
		if err != nil {
			s.t.Fatal(err)
		}
		s.mu.Lock()
		for _, ev := range events {
			s.storedLocked(channel, ev.Sequence, string(ev.Frame))
			s.acked[string(ev.Frame)]++
			from = ev.Sequence + 1
		}
		s.mu.Unlock()
		more = further
	}
}

// check compares what everybody got with what was stored.
func (s *stress) check() {
	s.t.Helper()
	for event, times := range s.acked {
		if times != 1 {
			s.t.Errorf("event %s is in the log %d times", event, times)
		}
	}
	all := make([][]uint64, stressChannels)
	for c := range all {
		all[c] = slices.Sorted(maps.Keys(s.stored[c]))
	}
	// between is what is stored above one sequence and up to another.
	between := func(channel int, from, to uint64) []uint64 {
		first, _ := slices.BinarySearch(all[channel], from+1)
		end, _ := slices.BinarySearch(all[channel], to+1)
		return all[channel][first:end]
	}
	for _, f := range s.followers {
		if n := len(f.got); n > 0 && !slices.Equal(f.got, between(f.channel, f.began, f.got[n-1])) {
			s.t.Errorf("a follower of %v got other events than are stored between %d and %d", stressRef(f.channel), f.began, f.got[n-1])
		}
	}
	wrong := 0
	for _, r := range s.resumes {
		if want := between(r.channel, r.from, max(r.from, r.to)); !slices.Equal(r.got, want) {
			if wrong++; wrong < 10 {
				s.t.Errorf("%v on %s: who came back at %d was told it is complete up to %d: got %d events, want %d", stressRef(r.channel), r.node, r.from, r.to, len(r.got), len(want))
			}
		}
	}
	s.t.Logf("%d events stored, %d followers, %d resumes of which %d wrong, %v", len(s.acked), len(s.followers), len(s.resumes), wrong, s.tally)
	if len(s.resumes) < 20 {
		s.t.Errorf("only %d resumes", len(s.resumes))
	}
}

// Every event that was acknowledged is in the log once and reaches every follower in
// the order of the stream; who comes back by another node gets all it missed or is
// told that it does not. REECHO_TEST_MESH=5m runs it for longer.
func TestMeshStress(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(seed.First(t), 3))
	last := stressTime
	if text := os.Getenv(stressVariable); text != "" {
		var err error
		if last, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", stressVariable, err)
		}
	}
	s := newStress(t)
	ctx, cancel := context.WithTimeout(t.Context(), last)
	defer cancel()
	var all sync.WaitGroup
	for i := range 16 {
		order := rand.New(rand.NewPCG(rng.Uint64(), 4))
		all.Go(func() { s.publish(ctx.Done(), i, order) }) //nolint:contextcheck // what is under way when it is over is answered
	}
	for range 16 {
		order := rand.New(rand.NewPCG(rng.Uint64(), 5))
		all.Go(func() { s.hop(ctx, order) })
	}
	s.disturb(ctx.Done(), rng)
	all.Wait()
	s.settle()
	s.check()
}
