package broker_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"reecho/broker"
	"reecho/broker/brokertest"
)

// partitions counts the streams of no rule that channels are spread over.
func partitions(b *broker.Broker) int {
	streams := make(map[int]bool)
	for i := range 1000 {
		streams[b.Log(broker.Ref{App: "app-1", Channel: fmt.Sprint(i)}).Stream()] = true
	}
	return len(streams)
}

// The number of partitions is that of the data, whatever the default has become; one
// that is given and differs is refused.
func TestPartitionsOfTheData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, stop := brokertest.Open(t, dir, broker.Config{Partitions: 4})
	mustPublish(t, b, record("match.1", "0"))
	stop()
	b, stop = brokertest.Open(t, dir, broker.Config{})
	if n := partitions(b); n != 4 {
		t.Errorf("%d partitions, want the 4 of the data", n)
	}
	wantEvents(t, b, "match.1", 1)
	stop()
	err := brokertest.TryOpen(t, dir, broker.Config{Partitions: 8})
	if !errors.Is(err, broker.ErrPartitions) || !strings.Contains(err.Error(), "the data has 4 partitions, 8 are configured") {
		t.Errorf("got %v, want ErrPartitions with both numbers", err)
	}
	if n := partitions(brokertest.Start(t, broker.Config{})); n != broker.DefaultPartitions {
		t.Errorf("new data has %d partitions, want %d", n, broker.DefaultPartitions)
	}
}

// A broker that begins takes what those have that share the streams, and they agree.
func TestPartitionsOfOthers(t *testing.T) {
	t.Parallel()
	all := brokertest.StartShared(t, broker.Config{Node: "a", Partitions: 4}, broker.Config{Node: "b"})
	mustJoin(t, all...)
	poll(t, "them to know each other", func() bool { return len(all[1].Nodes().Peers()) == 1 })
	if n := partitions(all[1].Broker); n != 4 {
		t.Errorf("%d partitions, want the 4 that there are", n)
	}
	if p := all[1].Nodes().Peers()[0]; p.Config != all[1].Nodes().Config() {
		t.Errorf("they do not agree: %s", readiness(t, all[1]))
	}
}
