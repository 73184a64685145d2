package replay_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"reecho/broker"
	"reecho/replay"
	"reecho/replay/replaytest"
)

// beside is another node of the cluster in a world: it follows channels for a while,
// gets live events in its own order, and may be asked for what it has. It outlives
// the log that it follows, as a node does that is told late.
type beside struct {
	w    *world
	rng  *rand.Rand // its own: what it does changes nothing for the others
	log  *replaytest.Beside
	node *replay.Node
	wire []wired
	road road

	following map[broker.Ref]*followed
}

// followed is a channel that the other node follows.
type followed struct {
	ch    *replay.Channel
	stop  context.CancelFunc
	ended chan struct{} // closed when it is attached, or could not be
}

// road carries questions to the other node.
type road struct {
	w  *world
	mu sync.Mutex
	// The rest is guarded by mu.
	rng    *rand.Rand
	answer func(question []byte) ([]byte, error)
}

var _ replay.Others = (*road)(nil)

// AskAny implements replay.Others: late, and sometimes never.
func (r *road) AskAny(ctx context.Context, question []byte) []byte {
	r.mu.Lock()
	late, lost := time.Duration(r.rng.Int64N(int64(30*time.Millisecond))), r.rng.IntN(8) == 0
	r.mu.Unlock()
	if lost {
		late = time.Hour
	}
	select {
	case <-time.After(late):
	case <-ctx.Done():
		return nil
	}
	r.mu.Lock()
	f := r.answer
	r.mu.Unlock()
	answer, err := f(question)
	if err != nil {
		r.w.t.Errorf("the other node cannot answer: %v", err)
	}
	if answer != nil {
		r.w.count("others")
	}
	return answer
}

// Answer implements replay.Others: nobody asks the node of the world.
func (*road) Answer(func([]byte) ([]byte, error)) {}

// answering is what the other node is asked over.
type answering struct{ *road }

// AskAny implements replay.Others: it asks nobody.
func (answering) AskAny(context.Context, []byte) []byte { return nil }

// Answer implements replay.Others.
func (a answering) Answer(f func([]byte) ([]byte, error)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = f
}

func newBeside(w *world, seed uint64) *beside {
	b := &beside{w: w, rng: rand.New(rand.NewPCG(seed, 9)), log: w.log.Beside(), following: make(map[broker.Ref]*followed)}
	b.road.w, b.road.rng = w, rand.New(rand.NewPCG(seed, 10))
	b.node = replay.Open(b.log, replay.Config{
		Memory: 1000 + b.rng.IntN(2_000_000), Frame: func(text []byte) []byte { return text }, Position: withPosition,
		Others: answering{&b.road}, Text: func(frame []byte) []byte { return frame },
	}, silent)
	return b
}

// published lets an event go out to the other node, too.
func (b *beside) published(ref broker.Ref, ev broker.Event) {
	for range []int{1, 1, 1, 1, 1, 1, 0, 2}[b.rng.IntN(8)] {
		b.wire = append(b.wire, wired{ref, ev})
	}
}

func (b *beside) arrive() {
	if len(b.wire) == 0 {
		return
	}
	i := 0
	if b.rng.IntN(5) == 0 {
		i = b.rng.IntN(len(b.wire))
	}
	e := b.wire[i]
	b.wire = append(b.wire[:i:i], b.wire[i+1:]...)
	b.log.Deliver(e.ref, e.ev)
}

func (b *beside) step() {
	ref := refs[b.rng.IntN(len(refs))]
	switch n := b.rng.IntN(100); {
	case n < 40:
		b.arrive()
	case n < 60:
		b.follow(ref)
	case n < 61:
		b.leave(ref)
	case n < 62:
		// The node of the world dies and comes back to a log that went on without it.
		b.w.stop(b.rng.IntN(2) == 0)
		b.w.start()
	}
}

func (b *beside) follow(ref broker.Ref) {
	if b.following[ref] != nil {
		return
	}
	ctx, stop := context.WithCancel(b.w.t.Context())
	f := &followed{stop: stop, ch: b.node.Channel(ref, b.w.bounds, &audience{}), ended: make(chan struct{})}
	b.following[ref] = f
	go func() {
		defer close(f.ended)
		for f.ch.Attach(ctx) != nil && ctx.Err() == nil {
			<-time.After(time.Second) // the log fails
		}
	}()
}

func (b *beside) leave(ref broker.Ref) {
	f := b.following[ref]
	if f == nil {
		return
	}
	delete(b.following, ref)
	f.stop()
	<-f.ended
	f.ch.Close()
}

func (b *beside) stop() {
	for _, ref := range refs {
		b.leave(ref)
	}
	b.node.Close()
}
