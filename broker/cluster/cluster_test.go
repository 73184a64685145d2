package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"reecho/broker/cluster"
	"reecho/broker/natsd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var silent = slog.New(slog.DiscardHandler)

// startServer is what the nodes of a test are connected by.
func startServer(t *testing.T) *natsd.Server {
	t.Helper()
	s, err := natsd.Start(t.Context(), natsd.Config{Dir: t.TempDir()}, silent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// node is one of a test, with what it has heard.
type node struct {
	*cluster.Nodes
	nc *nats.Conn

	mu      sync.Mutex
	changes []cluster.Change
	told    map[cluster.ID]string
}

func startNode(t *testing.T, s *natsd.Server, name string) *node {
	t.Helper()
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Nodes: cluster.New(nc, name, "hash", silent), nc: nc, told: make(map[cluster.ID]string)}
	n.Watch(func(c cluster.Change) { n.mu.Lock(); n.changes = append(n.changes, c); n.mu.Unlock() })
	n.Tell("name", func() json.RawMessage { return json.RawMessage(`"` + name + `"`) })
	n.Hear("name", func(id cluster.ID, text json.RawMessage) { n.mu.Lock(); n.told[id] = string(text); n.mu.Unlock() })
	n.Answer("double", func(from cluster.ID, question []byte) ([]byte, error) {
		if len(question) == 0 {
			return nil, errors.New("nothing to double")
		}
		return fmt.Appendf(nil, "%s%s for %s", question, question, from.Name), nil
	})
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	return n
}

// wait polls until a node knows so many others.
func (n *node) wait(t *testing.T, peers int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for len(n.Peers()) != peers {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%s knows %v, want %d", n.Self().Name, n.Peers(), peers)
		}
	}
}

// Nodes know each other, what they tell and ask; one that closes is gone at once, one
// that dies after a while, and one that is heard again has come again.
func TestNodes(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b, c := startNode(t, s, "a"), startNode(t, s, "b"), startNode(t, s, "c")
	defer a.Close()
	for _, n := range []*node{a, b, c} {
		n.wait(t, 2)
	}
	answers, err := a.AskAll(t.Context(), "double", []byte("x"))
	if err != nil || len(answers) != 2 || string(answers[b.Self()]) != "xx for a" || string(answers[c.Self()]) != "xx for a" {
		t.Errorf("got %q, %v", answers, err)
	}
	for kind, question := range map[string]string{"double": "", "unknown": "x"} {
		if answer, err := a.Ask(t.Context(), b.Self(), kind, []byte(question)); err == nil {
			t.Errorf("%s of %q is answered %q", kind, question, answer)
		}
	}
	if p := a.Peers()[0]; p.Config != "hash" || p.Name != "b" || p.Ahead.Abs() > time.Minute {
		t.Errorf("a knows %+v", p)
	}
	b.Close()
	a.wait(t, 1)
	// It dies: nothing comes any more.
	c.nc.Close()
	a.wait(t, 0)
	c.Close()
	d := startNode(t, s, "c")
	defer d.Close()
	a.wait(t, 1)
	a.mu.Lock()
	defer a.mu.Unlock()
	want := []cluster.Change{{ID: b.Self()}, {ID: c.Self()}, {ID: b.Self(), Gone: true}, {ID: c.Self(), Gone: true}, {ID: d.Self()}}
	if len(a.changes) != len(want) {
		t.Fatalf("changes %v, want %v", a.changes, want)
	}
	for i, c := range want {
		// The first two come in any order.
		if i >= 2 && a.changes[i] != c {
			t.Errorf("change %d is %v, want %v", i, a.changes[i], c)
		}
	}
	if a.told[b.Self()] != `"b"` || a.told[c.Self()] != `"c"` {
		t.Errorf("a was told %v", a.told)
	}
}

// A line carries questions to a node in one life, and knows whether anybody is in it.
func TestLine(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := startNode(t, s, "a"), startNode(t, s, "b")
	defer a.Close()
	a.wait(t, 1)
	line, life := a.Line("double"), b.Line("double").Life()
	if answer, there, err := line.Ask(t.Context(), life, []byte("x")); string(answer) != "xx for a" || !there || err != nil {
		t.Errorf("got %q, there %v, %v", answer, there, err)
	}
	if answer, there, err := line.Ask(t.Context(), life, nil); !there || err == nil {
		t.Errorf("of nothing: got %q, there %v, %v", answer, there, err)
	}
	b.Close()
	// The server hears of it a moment later.
	for deadline := time.Now().Add(20 * time.Second); ; {
		answer, there, err := line.Ask(t.Context(), life, []byte("x"))
		if !there && err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("who is gone: got %q, there %v, %v", answer, there, err)
		}
	}
	if answer, there, err := cluster.Alone().Line("double").Ask(t.Context(), life, []byte("x")); there || err != nil {
		t.Errorf("alone: got %q, there %v, %v", answer, there, err)
	}
	if a.Line("x").Name() != "a" || cluster.Alone().Line("x").Name() != "" {
		t.Error("a line has another name than its node")
	}
}

// A node alone has no others and does nothing.
func TestAlone(t *testing.T) {
	t.Parallel()
	n := cluster.Alone()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if answers, err := n.AskAll(t.Context(), "x", nil); len(n.Peers()) != 0 || len(answers) != 0 || err != nil {
		t.Errorf("%v, %v, %v", n.Peers(), answers, err)
	}
}

// What is said at once is heard once and in order, and what is told with each beat can
// be told at once, too; what is told after a node has gone is not heard.
func TestSay(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	a := cluster.New(nc, "a", "", silent)
	heard := make(chan string, 1000)
	a.Hear("said", func(id cluster.ID, text json.RawMessage) { heard <- id.Name + string(text) })
	a.Watch(func(c cluster.Change) { heard <- fmt.Sprint(c.Name, c.Gone) })
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b := startNode(t, s, "b")
	b.wait(t, 1)
	for i := range 100 {
		b.Say("said", json.RawMessage(fmt.Sprint(i)))
	}
	b.Beat()
	b.Close()
	b.Close()
	b.Say("said", json.RawMessage("0"))
	want := []string{"bfalse"}
	for i := range 100 {
		want = append(want, fmt.Sprint("b", i))
	}
	for _, w := range append(want, "btrue") {
		if got := <-heard; got != w {
			t.Fatalf("heard %s, want %s", got, w)
		}
	}
}

// Others know of a node that stops that it does, until it is gone.
func TestLeave(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := startNode(t, s, "a"), startNode(t, s, "b")
	defer a.Close()
	a.wait(t, 1)
	b.wait(t, 1)
	if a.IsLeaving("b") {
		t.Error("b leaves")
	}
	b.Leave()
	b.Leave()
	for !a.IsLeaving("b") {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("b never leaves")
		}
	}
	if a.IsLeaving("a") || b.IsLeaving("a") || !a.Peers()[0].Leaving {
		t.Errorf("a leaves, or b does not: %+v", a.Peers())
	}
	b.Close()
	a.wait(t, 0)
	if a.IsLeaving("b") {
		t.Error("b leaves still")
	}
	// One that never joined does not come by leaving.
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	c := cluster.New(nc, "c", "hash", silent)
	c.Leave()
	c.Close()
	b = startNode(t, s, "b")
	defer b.Close()
	a.wait(t, 1)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, change := range a.changes {
		if change.Name == "c" {
			t.Error("c came")
		}
	}
}

// How late a message comes says nothing of a clock; that one is behind, its node says.
func TestAhead(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a := startNode(t, s, "a")
	defer a.Close()
	b := startNode(t, s, "b")
	defer b.Close()
	a.wait(t, 1)
	// ahead waits for what a finds of the clock of a life that says this.
	ahead := func(life string, clock time.Duration, saying map[string]time.Duration) time.Duration {
		t.Helper()
		for {
			text, err := json.Marshal(map[string]any{"name": life, "life": life, "time": time.Now().Add(clock), "ahead": saying})
			if err == nil {
				err = b.nc.Publish("node.beat", text)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range a.Peers() {
				if p.Life == life {
					return p.Ahead
				}
			}
			select {
			case <-time.After(5 * time.Millisecond):
			case <-t.Context().Done():
				t.Fatal("it is never heard")
			}
		}
	}
	if d := ahead("late", -time.Minute, nil); d != 0 {
		t.Errorf("a message that may be late proves %v", d)
	}
	if d := ahead("early", time.Minute, nil); d <= 0 || d > time.Minute {
		t.Errorf("a clock that is ahead by a minute is so by %v", d)
	}
	// Each tells the others what it finds.
	sub, err := b.nc.SubscribeSync("node.beat")
	if err != nil {
		t.Fatal(err)
	}
	for found := false; !found; {
		ahead("early", time.Minute, nil)
		m, err := sub.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var said struct {
			Life  string                   `json:"life"`
			Ahead map[string]time.Duration `json:"ahead"`
		}
		found = json.Unmarshal(m.Data, &said) == nil && said.Life == a.Self().Life && said.Ahead["early"] > 50*time.Second
	}
	if d := ahead("behind", -time.Minute, map[string]time.Duration{a.Self().Life: time.Minute}); d != -time.Minute {
		t.Errorf("a clock that is behind by a minute is so by %v", d)
	}
}
