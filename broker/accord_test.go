package broker_test

import (
	"strings"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
)

func mustJoin(t *testing.T, brokers ...*brokertest.SharedBroker) {
	t.Helper()
	for _, b := range brokers {
		if err := b.Nodes().Start(); err != nil {
			t.Fatal(err)
		}
	}
}

// readiness is "" for a broker that is ready, else why it is not.
func readiness(t *testing.T, b *brokertest.SharedBroker) string {
	t.Helper()
	if err := b.Ready(t.Context()); err != nil {
		return err.Error()
	}
	return ""
}

// A node with another configuration than most is not ready and says what differs; the
// others are, and so is it when they have gone.
func TestAnotherConfiguration(t *testing.T) {
	t.Parallel()
	apps := []broker.AppShare{{App: "1"}, {App: "2"}}
	all := brokertest.StartShared(t,
		broker.Config{Node: "a", Apps: apps}, broker.Config{Node: "b", Apps: apps}, broker.Config{Node: "c", Apps: apps[:1]})
	mustJoin(t, all...)
	poll(t, "the third to say what differs", func() bool {
		why := readiness(t, all[2])
		return strings.Contains(why, "on a: it has app 2") && strings.Contains(why, "on b: it has app 2")
	})
	for _, b := range all[:2] {
		if why := readiness(t, b); why != "" {
			t.Errorf("one of the majority is not ready: %s", why)
		}
	}
	all[1].Nodes().Close()
	poll(t, "the second to be gone", func() bool { return len(all[2].Nodes().Peers()) == 1 })
	// One against one: the older is right.
	if mine, other := readiness(t, all[2]), readiness(t, all[0]); mine == "" || other != "" {
		t.Errorf("the younger says %q, the older %q", mine, other)
	}
	all[0].Nodes().Close()
	poll(t, "the third to be ready alone", func() bool { return readiness(t, all[2]) == "" })
}

// What a node keeps of channels without a rule belongs to the configuration, too.
func TestAnotherRetention(t *testing.T) {
	t.Parallel()
	all := brokertest.StartShared(t, broker.Config{Node: "a"}, broker.Config{Node: "b", MaxAge: 2 * time.Hour})
	mustJoin(t, all...)
	poll(t, "the younger to say what differs", func() bool { return strings.Contains(readiness(t, all[1]), "on a: it keeps 1h0m0s, 1000 events") })
	if why := readiness(t, all[0]); why != "" {
		t.Errorf("the older is not ready: %s", why)
	}
}

// Of two nodes that run under one name the younger is not ready.
func TestOneName(t *testing.T) {
	t.Parallel()
	all := brokertest.StartShared(t, broker.Config{Node: "a"}, broker.Config{Node: "a"})
	mustJoin(t, all...)
	poll(t, "the younger to know", func() bool { return strings.Contains(readiness(t, all[1]), "is called a, too") })
	poll(t, "the older to know", func() bool { return len(all[0].Nodes().Peers()) == 1 })
	if why := readiness(t, all[0]); why != "" {
		t.Errorf("the older is not ready: %s", why)
	}
	all[0].Nodes().Close()
	poll(t, "the name to be free", func() bool { return readiness(t, all[1]) == "" })
}
