package broker_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
)

// leaders are who leads each stream, as a node knows it.
func leaders(t *testing.T, n *brokertest.MeshNode, streams ...string) map[string]string {
	t.Helper()
	nc, err := n.Server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	found := make(map[string]string)
	for _, name := range streams {
		m, err := nc.Request("$JS.API.STREAM.INFO."+name, nil, time.Second)
		if err != nil {
			continue
		}
		var info struct {
			Cluster struct {
				Leader string `json:"leader"`
			} `json:"cluster"`
		}
		if err := json.Unmarshal(m.Data, &info); err != nil {
			t.Fatal(err)
		}
		found[name] = info.Cluster.Leader
	}
	return found
}

// A node that yields leads nothing any more, whatever it led.
func TestMeshYield(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMesh(t, 3, broker.Config{Partitions: 4})
	streams := []string{"EVENTS-0", "EVENTS-1", "EVENTS-2", "EVENTS-3"}
	for i, n := range m.Nodes {
		if err := n.Server.Yield(t.Context(), n.Nodes().IsLeaving); err != nil {
			t.Fatal(err)
		}
		poll(t, n.Config.Name+" leads nothing", func() bool {
			found := leaders(t, m.Nodes[(i+1)%3], streams...)
			for _, leader := range found {
				if leader == "" || leader == n.Config.Name {
					return false
				}
			}
			return len(found) == len(streams)
		})
		mustPublish(t, n.Broker, record("match.1", fmt.Sprint(i)))
	}
	wantEvents(t, m.Nodes[0].Broker, "match.1", 3)
}

// A node that leads more than others gives up some of it, to one that is there for a
// while, until none leads two more than another.
func TestMeshBalance(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMesh(t, 3, broker.Config{Partitions: 4})
	streams := []string{"EVENTS-0", "EVENTS-1", "EVENTS-2", "EVENTS-3"}
	all := m.Nodes[0]
	for _, n := range m.Nodes {
		n.Nodes().Start()
	}
	poll(t, "the nodes know each other", func() bool { return len(all.Nodes().Peers()) == 2 })
	for _, name := range streams {
		poll(t, "one node leads "+name, func() bool {
			if leaders(t, all, name)[name] == all.Config.Name {
				return true
			}
			for _, n := range m.Nodes {
				broker.YieldTo(n.Broker, t.Context(), name, all.Config.Name)
			}
			return false
		})
	}
	if stream, to := broker.TooMuch(all.Broker, t.Context(), time.Now()); stream != "" {
		t.Errorf("%s gets %s though it has just come", to, stream)
	}
	later := time.Now().Add(time.Hour)
	poll(t, "the lead is spread", func() bool {
		for _, n := range m.Nodes {
			if stream, to := broker.TooMuch(n.Broker, t.Context(), later); stream != "" {
				broker.YieldTo(n.Broker, t.Context(), stream, to)
			}
		}
		counts := make(map[string]int)
		for _, leader := range leaders(t, all, streams...) {
			counts[leader]++
		}
		return len(counts) == 3 && counts[""] == 0
	})
}
