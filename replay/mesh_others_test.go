package replay_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/replay"
)

// watched is a log that counts how often events are read from it.
type watched struct {
	replay.Logs
	reads atomic.Int64
}

// Log implements replay.Logs.
func (w *watched) Log(ref broker.Ref) replay.Log { return watchedLog{w.Logs.Log(ref), w} }

// Scan implements replay.Logs.
func (w *watched) Scan(ctx context.Context, stream int, from, to uint64, visit func(broker.Ref, broker.Event) bool) error {
	w.reads.Add(1)
	return w.Logs.Scan(ctx, stream, from, to, visit)
}

type watchedLog struct {
	replay.Log
	w *watched
}

// ReadTo implements replay.Log.
func (l watchedLog) ReadTo(ctx context.Context, from, upTo uint64, limit int) ([]broker.Event, bool, error) {
	l.w.reads.Add(1)
	return l.Log.ReadTo(ctx, from, upTo, limit)
}

// A client that comes to another node gets what it missed from the ring of the one it
// was on, without a read of the stream; when that is gone, from the stream.
func TestMeshRingOfAnotherNode(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMesh(t, 3, broker.Config{Partitions: 1})
	ref := broker.Ref{App: app, Channel: "match.1"}
	var logs []*watched
	var nodes []*replay.Node
	for _, b := range m.Nodes {
		w := &watched{Logs: replay.LogsOf(b.Broker)}
		n := replay.Open(w, replay.Config{
			Frame: slices.Clone[[]byte], Text: func(frame []byte) []byte { return frame }, Position: withPosition,
			Others: b.Nodes().Line("rings"),
		}, silent)
		defer n.Close()
		logs, nodes = append(logs, w), append(nodes, n)
		if err := b.Nodes().Start(); err != nil {
			t.Fatal(err)
		}
	}
	know := func(peers int) func() bool {
		return func() bool {
			return !slices.ContainsFunc(m.Nodes[1:], func(b *brokertest.MeshNode) bool { return len(b.Nodes().Peers()) != peers })
		}
	}
	waitFor(t, "the nodes know each other", know(2))
	a := &audience{}
	first := follow(t, nodes[0], ref, a)
	for i := range 50 {
		if err := m.Nodes[2].Publish(t.Context(), []broker.Record{{App: app, Channel: ref.Channel, Frame: fmt.Append(nil, i)}}); err != nil {
			t.Fatal(err)
		}
	}
	a.wait(t, "gets all", func() bool { return len(a.events) == 50 })
	position := first.Line().At(a.events[9].Sequence).String()

	wantMissed(t, follow(t, nodes[1], ref, &audience{}), position, 40)
	if n := logs[1].reads.Load(); n != 0 {
		t.Errorf("the stream was read %d times beside the ring of another node", n)
	}
	nodes[0].Close()
	nodes[1].Close()
	m.Nodes[0].Nodes().Close()
	wantMissed(t, follow(t, nodes[2], ref, &audience{}), position, 40)
	if logs[2].reads.Load() == 0 {
		t.Error("the stream was not read, and nobody has a ring")
	}
}

func follow(t *testing.T, n *replay.Node, ref broker.Ref, a replay.Audience) *replay.Channel {
	t.Helper()
	ch := n.Channel(ref, replay.Bounds{Events: 100, Bytes: 1 << 20, EventBytes: 1 << 16}, a)
	if err := ch.Attach(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ch
}

// wantMissed expects the newest n events of 50 for a client with a position.
func wantMissed(t *testing.T, ch *replay.Channel, position string, n int) {
	t.Helper()
	v := &visitor{text: make(map[uint64]string)}
	request := ch.After(position, time.Time{})
	request.Positions = true
	if err := replay.NewCatchup(ch, v, request).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v.out.Reason != "" || len(v.got) != n {
		t.Fatalf("got %d events, %q; want %d", len(v.got), v.out.Reason, n)
	}
	for i, sequence := range v.got {
		if want := fmt.Sprint(50 - n + i); v.text[sequence] != want {
			t.Errorf("event %d is %q, want %s", sequence, v.text[sequence], want)
		}
	}
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in a minute: %s", what)
		}
	}
}
